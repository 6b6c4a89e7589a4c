package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// socket is a UDP socket on an inner address and its VXLAN device. It is bound to
// the number of the device: it does not outlive it.
type socket struct {
	*net.UDPConn
	raw syscall.RawConn
}

// listen opens a socket that takes datagrams from anybody.
func listen(local netip.AddrPort, device string) (*socket, error) {
	l := net.ListenConfig{Control: bind(local.Addr(), device)}
	conn, err := l.ListenPacket(context.Background(), "udp", local.String())
	if err != nil {
		return nil, fmt.Errorf("listen on %s, device %s: %w", local, device, err)
	}
	return newSocket(conn.(*net.UDPConn))
}

// dial opens a socket to one peer: the kernel drops what others send, and hands us
// the ICMP errors.
func dial(ctx context.Context, local netip.Addr, peer netip.AddrPort, device string) (*socket, error) {
	d := net.Dialer{
		LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)),
		Control:   bind(local, device),
	}
	conn, err := d.DialContext(ctx, "udp", peer.String())
	if err != nil {
		return nil, fmt.Errorf("open socket from %s, device %s: %w", local, device, err)
	}
	return newSocket(conn.(*net.UDPConn))
}

func newSocket(conn *net.UDPConn) (*socket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &socket{conn, raw}, nil
}

// bind sets the options of a socket. PMTUDISC_PROBE (kernel 2.6.22): the kernel
// neither fragments nor heeds an MTU that it has learned of the path or that was set
// on the route, which is what we want to find out again.
func bind(local netip.Addr, device string) func(string, string, syscall.RawConn) error {
	return func(_, _ string, raw syscall.RawConn) error {
		var err error
		control := raw.Control(func(fd uintptr) {
			if err = unix.BindToDevice(int(fd), device); err != nil {
				return
			}
			if local.Is4() {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
			} else {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
			}
		})
		return errors.Join(control, err)
	}
}

// sendPlain sends a datagram whose checksum the kernel computes itself, whatever the
// device offers: of one that comes in two pieces (MSG_MORE) it does not know the
// length in time to leave that to the device (kernel 4.4, __ip_append_data and
// __ip6_append_data). On the wire it is a datagram like any other. Not for
// concurrent use. A nil address is the peer's that the socket is connected to.
func (s *socket) sendPlain(b []byte, to unix.Sockaddr) error {
	const first = messageSize / 2
	return s.write(func(fd int) error {
		if err := unix.Sendto(fd, b[:first], unix.MSG_MORE|unix.MSG_DONTWAIT, to); err != nil {
			return err
		}
		return unix.Sendto(fd, b[first:], unix.MSG_DONTWAIT, to)
	})
}

// sendOffloaded sends a datagram whose checksum the kernel leaves to the device, if
// that offers it.
func (s *socket) sendOffloaded(b []byte) error {
	return s.write(func(fd int) error { return unix.Sendto(fd, b, unix.MSG_DONTWAIT, nil) })
}

// write does not wait for a full send buffer to drain: a probe may get lost.
func (s *socket) write(send func(fd int) error) error {
	var err error
	return errors.Join(s.raw.Control(func(fd uintptr) { err = send(int(fd)) }), err)
}

// sockaddr is the address as the kernel takes it.
func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}
