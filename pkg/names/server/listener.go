package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/berth-cni/berth/pkg/names"
	"golang.org/x/sys/unix"
)

// listener answers what comes in by one bridge.
type listener struct {
	server *Server
	bridge string
	index  int // of the bridge
	udp    []*net.UDPConn
	tcp    []*net.TCPListener

	mu    sync.Mutex
	conns map[*net.TCPConn]bool
	done  bool
}

// indexOf is the index of an interface, by one ioctl: package net would list them all.
func indexOf(name string) (int, error) {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr); err != nil {
		return 0, err
	}
	return int(ifr.Uint32()), nil
}

// newListener listens on the bridge, by IPv6 too where the host has it. It listens on
// return.
func (s *Server) newListener(bridge string, index int) (*listener, error) {
	l := &listener{server: s, bridge: bridge, index: index, conns: map[*net.TCPConn]bool{}}
	for _, family := range []string{"4", "6"} {
		err := l.open(family)
		if family == "6" && errors.Is(err, unix.EAFNOSUPPORT) {
			continue // ipv6.disable=1
		}
		if err != nil {
			l.close()
			return nil, err
		}
	}
	for _, c := range l.udp {
		go l.serveUDP(c)
	}
	for _, c := range l.tcp {
		go l.serveTCP(c)
	}
	return l, nil
}

func (l *listener) open(family string) error {
	config := net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = l.options(int(fd), network) }), err)
	}}
	addr := fmt.Sprintf(":%d", names.Port)
	udp, err := config.ListenPacket(context.Background(), "udp"+family, addr)
	if err != nil {
		return err
	}
	l.udp = append(l.udp, udp.(*net.UDPConn))
	tcp, err := config.Listen(context.Background(), "tcp"+family, addr)
	if err != nil {
		return err
	}
	l.tcp = append(l.tcp, tcp.(*net.TCPListener))
	return nil
}

// options binds a socket to the bridge. A packet's destination is asked for, since the
// answer has to leave from it.
func (l *listener) options(fd int, network string) error {
	if err := unix.BindToDevice(fd, l.bridge); err != nil {
		return fmt.Errorf("bind to %s: %w", l.bridge, err)
	}
	switch network {
	case "udp4":
		return errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1), receiveBuffer(fd))
	case "udp6":
		return errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1), receiveBuffer(fd))
	}
	return nil
}

// receiveBuffer has a socket hold what comes while the server waits for a processor,
// some thousand queries. With more a flood would keep others waiting.
func receiveBuffer(fd int) error {
	const size = 1 << 20 // bytes; the kernel doubles it, and counts its own part
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size)
}

func (l *listener) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done = true
	for _, c := range l.udp {
		c.Close()
	}
	for _, c := range l.tcp {
		c.Close()
	}
	for c := range l.conns {
		c.Close()
	}
}

// client is the one who has sent something from an address.
func (l *listener) client(addr netip.Addr) client {
	return client{l.bridge, addr.Unmap().WithZone("")}
}

// pause waits after an error that may be over soon: no memory, no file descriptors.
func pause() { time.Sleep(10 * time.Millisecond) }
