package cluster

import (
	"net"
	"net/netip"
	"time"
)

// serveUDP sends back what comes to an address.
func serveUDP(in Place, address netip.AddrPort) (stop func() error, err error) {
	var conn *net.UDPConn
	err = in.Do(func() (err error) {
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(address))
		return err
	})
	if err != nil {
		return nil, err
	}
	go func() {
		b := make([]byte, 64)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			_, _ = conn.WriteToUDPAddrPort(b[:n], from)
		}
	}()
	return conn.Close, nil
}

// askUDP waits half a second for an answer.
func askUDP(from Place, address netip.AddrPort) error {
	return from.Do(func() error {
		conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(address))
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(500 * time.Millisecond))
		if _, err := conn.Write([]byte("x")); err != nil {
			return err
		}
		_, err = conn.Read(make([]byte, 1))
		return err
	})
}
