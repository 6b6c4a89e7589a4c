package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/berth-cni/berth/integration/sandbox"
)

// pingEvery is how often an address is asked that does not answer yet.
const pingEvery = 5 * time.Millisecond

// ping asks an IPv4 address from a container, again and again (ICMP echo, RFC 792),
// and returns when the first answer came.
func ping(ctx context.Context, c *sandbox.Container, to netip.Addr) (at time.Time, err error) {
	var conn net.PacketConn
	err = c.Do(func() (err error) {
		conn, err = net.ListenPacket("ip4:icmp", "0.0.0.0")
		return err
	})
	if err != nil {
		return at, fmt.Errorf("ping from container %s: %w", c.ID, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })()
	asking, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		for n := uint16(1); asking.Err() == nil; n++ {
			_, _ = conn.WriteTo(echo(n), &net.IPAddr{IP: to.AsSlice()}) // lost: the next comes soon
			time.Sleep(pingEvery)
		}
	}()
	for buf := make([]byte, 1500); ; {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return at, fmt.Errorf("ping %s from container %s: %w", to, c.ID, err)
		}
		if n >= 8 && buf[0] == 0 && from.(*net.IPAddr).IP.Equal(to.AsSlice()) { // an echo reply
			return time.Now(), nil
		}
	}
}

// echo is an ICMP echo request.
func echo(number uint16) []byte {
	p := []byte{8, 0, 0, 0, 'b', 'e', 0, 0}
	binary.BigEndian.PutUint16(p[6:], number)
	sum := uint32(0)
	for i := 0; i < len(p); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(p[2:], ^uint16(sum))
	return p
}
