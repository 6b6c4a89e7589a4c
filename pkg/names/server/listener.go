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
	if name == names.AnyInterface {
		return 0, nil
	}
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

// newListener listens on the bridge, at the server's port, by IPv6 too where the host has it,
// and a container can have been given such an address: not on a network without a bridge. It
// listens on return.
func (s *Server) newListener(bridge string, index int) (*listener, error) {
	l := &listener{server: s, bridge: bridge, index: index, conns: map[*net.TCPConn]bool{}}
	families := []string{"4", "6"}
	if bridge == names.AnyInterface {
		families = families[:1]
	}
	for _, family := range families {
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
	addr := fmt.Sprintf(":%d", l.server.port)
	beside := family == "4" && l.bridge != names.AnyInterface && l.server.listeners[names.AnyInterface] != nil
	for i := range spread {
		udp, err := l.config(i == 0 && !beside).ListenPacket(context.Background(), "udp"+family, addr)
		if err != nil {
			return err
		}
		l.udp = append(l.udp, udp.(*net.UDPConn))
		if i == 0 && beside {
			if err := onSocket(l.udp[len(l.udp)-1], func(fd int) error { return spreadBySource(fd, family) }); err != nil {
				return err
			}
		}
	}
	tcp, err := l.config(false).Listen(context.Background(), "tcp"+family, addr)
	if err != nil {
		return err
	}
	l.tcp = append(l.tcp, tcp.(*net.TCPListener))
	return nil
}

func (l *listener) config(alone bool) *net.ListenConfig {
	return &net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = l.options(int(fd), network, alone) }), err)
	}}
}

func onSocket(c *net.UDPConn, do func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var done error
	return errors.Join(raw.Control(func(fd uintptr) { done = do(int(fd)) }), done)
}

// options binds a socket to the bridge. A packet's destination is asked for, since the
// answer has to leave from it. With alone the socket is the first one of its group: one that has
// a filter before it is bound is refused a port that any other is bound to, which shares it or
// not (udp_lib_lport_inuse of net/ipv4/udp.c).
func (l *listener) options(fd int, network string, alone bool) error {
	if l.bridge != names.AnyInterface {
		if err := unix.BindToDevice(fd, l.bridge); err != nil {
			return fmt.Errorf("bind to %s: %w", l.bridge, err)
		}
	}
	// Beside sockets that are bound to bridges, or to none.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return err
	}
	var level, information int
	switch network {
	case "udp4":
		level, information = unix.IPPROTO_IP, unix.IP_PKTINFO
	case "udp6":
		level, information = unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO
	default:
		return nil
	}
	err := errors.Join(unix.SetsockoptInt(fd, level, information, 1), receiveBuffer(fd))
	if err == nil && alone {
		err = spreadBySource(fd, network[len("udp"):])
	}
	return err
}

// spread is how many UDP sockets share the work of a family. Each has a queue and a
// goroutine of its own, and a client has always the same one: what one client floods
// is not the queue of three quarters of the others.
const spread = 4

// spreadBySource has the kernel choose the socket by the client's address (socket(7),
// SO_ATTACH_REUSEPORT_CBPF, kernel 4.5). By itself it would take the port, too, and a
// flood from many ports would fill all.
func spreadBySource(fd int, family string) error {
	offset := uint32(12) // of the last four bytes of the source address in the packet
	if family == "6" {
		offset = 8 + 12
	}
	const netOff = 0xfff00000 // SKF_NET_OFF of linux/filter.h: from the IP header
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: netOff + offset},
		{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: spread},
		{Code: unix.BPF_RET | unix.BPF_A},
	}
	err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	if err != nil {
		return fmt.Errorf("spread queries by their source: %w", err)
	}
	return nil
}

// receiveBuffer has a socket hold what comes while the server waits for a processor,
// some thousand queries. With more a flood would keep others waiting.
func receiveBuffer(fd int) error {
	const size = 512 << 10 // bytes; the kernel doubles it, and counts its own part
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size)
	if errors.Is(err, unix.EPERM) { // in a user namespace: as much as the host allows (net.core.rmem_max)
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size)
	}
	return err
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
