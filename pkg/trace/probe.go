package trace

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Times that are waited for: for the answer of TCP, whose first packet is sent again after
// a second, and of UDP; and for what nftables has still to tell.
const (
	tcpTime  = 1500 * time.Millisecond
	udpTime  = 500 * time.Millisecond
	settling = 100 * time.Millisecond
)

// probe is a socket of the source's, which sends one packet of the flow.
type probe struct {
	fd   int
	udp  bool
	to   netip.AddrPort
	port uint16 // its own
}

// newProbe opens the socket and gives it a port, so that its packets can be told from others.
func (f *flow) newProbe() (*probe, error) {
	p := &probe{fd: -1, udp: f.protocol == "udp", to: f.target}
	err := within(f.from.ns, func() (err error) {
		family, kind := unix.AF_INET, unix.SOCK_STREAM
		if p.to.Addr().Is6() {
			family = unix.AF_INET6
		}
		if p.udp {
			kind = unix.SOCK_DGRAM
		}
		p.fd, err = unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		var any unix.Sockaddr = &unix.SockaddrInet4{}
		if family == unix.AF_INET6 {
			any = &unix.SockaddrInet6{}
		}
		if err := unix.Bind(p.fd, any); err != nil {
			return err
		}
		own, err := unix.Getsockname(p.fd)
		switch a := own.(type) {
		case *unix.SockaddrInet4:
			p.port = uint16(a.Port)
		case *unix.SockaddrInet6:
			p.port = uint16(a.Port)
		}
		return err
	})
	if err != nil {
		p.close()
		return nil, fmt.Errorf("open a socket in %s: %w", f.from.label, err)
	}
	return p, nil
}

func (p *probe) close() {
	if p.fd >= 0 {
		unix.Close(p.fd)
	}
}

// errSilent: nothing came back.
var errSilent = errors.New("no answer")

// send sends the packet, and returns what became of it: nil when it was answered,
// errSilent, or a number of the kernel's: ECONNREFUSED, EHOSTUNREACH, EPERM where a rule of
// the source's own drops it.
func (p *probe) send(ctx context.Context) error {
	var to unix.Sockaddr = &unix.SockaddrInet4{Port: int(p.to.Port()), Addr: four(p.to.Addr())}
	if p.to.Addr().Is6() {
		to = &unix.SockaddrInet6{Port: int(p.to.Port()), Addr: p.to.Addr().As16()}
	}
	if err := unix.Connect(p.fd, to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return err
	}
	events, end := int16(unix.POLLOUT), time.Now().Add(tcpTime)
	if p.udp {
		if _, err := unix.Write(p.fd, nil); err != nil {
			return err
		}
		events, end = unix.POLLIN, time.Now().Add(udpTime)
	}
	for ctx.Err() == nil && time.Now().Before(end) {
		fds := []unix.PollFd{{Fd: int32(p.fd), Events: events}}
		n, err := unix.Poll(fds, 50)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if n <= 0 {
			continue
		}
		number, err := unix.GetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err != nil || number == 0 {
			return err
		}
		return unix.Errno(number)
	}
	return errSilent
}

// four are the bytes of an IPv4 address; zeros for one of IPv6.
func four(a netip.Addr) (b [4]byte) {
	if a.Is4() {
		b = a.As4()
	}
	return b
}
