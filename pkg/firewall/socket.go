package firewall

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// socket is a netfilter netlink socket (nfnetlink) in the network namespace of
// the thread that opened it. The kernel handles a request, and queues its
// answers, before send returns: nothing here ever waits.
//
// It is not closed by hand. Closing one while deleted elements await their RCU
// grace period blocks for 8 to 27 ms, holding the lock of all nftables
// transactions of the namespace (nft_rcv_nl_event in net/netfilter/nf_tables_api.c,
// since 5.3). Left open, the wait runs beside the removal of the interface, and
// is over when the process ends; in a long-lived process the garbage collector
// closes it.
type socket struct {
	fd  int
	buf []byte // room for answers, which keep slices of what they took
}

func dial() (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open netfilter socket: %w", err)
	}
	s := &socket{fd: fd}
	runtime.AddCleanup(s, func(fd int) { _ = unix.Close(fd) }, fd)
	return s, nil
}

const (
	// usual is how many messages are sent at once where nothing asks for more: the
	// answers to three or four times as many fit the buffers that a socket has.
	usual = 64
	// longest is more than any answer has, in bytes: they are about one element, one
	// chain, or repeat the message that was refused.
	longest = 4 << 10
	// part is more than any part of a list has, in bytes (netlink_dump in
	// net/netlink/af_netlink.c).
	part = 64 << 10
)

// enlarge makes the socket's buffers hold a packet of many messages and its
// answers, every one of which may be an error; what does not fit is lost. The
// kernel counts up to 2 KiB for an answer, with the memory that manages it, and
// doubles the number that it is given. Errors need not repeat what they refuse.
func (s *socket) enlarge(p *packet) {
	for _, o := range []struct{ force, limited, bytes int }{
		{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, 1 << 10 * int(p.last)},
		{unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, 2 * len(p.buf)},
	} {
		if unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, o.force, o.bytes) != nil { // in a user namespace
			_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, o.limited, o.bytes)
		}
	}
	_ = unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
}

// exchange sends the packet and returns all answers, in the order of the
// messages they answer.
func (s *socket) exchange(p *packet) ([]reply, error) {
	defer runtime.KeepAlive(s)
	if p.last > usual {
		s.enlarge(p)
	}
	if err := unix.Sendto(s.fd, p.buf, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("send to netfilter: %w", err)
	}
	var all []reply
	for {
		if len(s.buf) < longest {
			s.buf = make([]byte, 2*longest)
		}
		n, _, err := unix.Recvfrom(s.fd, s.buf, unix.MSG_DONTWAIT|unix.MSG_TRUNC)
		if errors.Is(err, unix.EAGAIN) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("receive from netfilter: %w", err)
		}
		if n > len(s.buf) {
			return nil, fmt.Errorf("receive from netfilter: an answer of %d bytes", n)
		}
		some, err := replies(s.buf[:n:n])
		s.buf = s.buf[n:]
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
		if len(some) == 0 {
			continue
		}
		if end := some[len(some)-1]; end.seq == p.last && (end.kind == unix.NLMSG_ERROR || !p.acked) {
			return all, nil
		}
	}
}

// dump sends the one question of the packet, which is answered with a list, and
// calls each for every message of it. The kernel writes the next part of a list
// when a part was read, and ends it with NLMSG_DONE.
func (s *socket) dump(p *packet, each func(reply)) error {
	defer runtime.KeepAlive(s)
	if err := unix.Sendto(s.fd, p.buf, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("send to netfilter: %w", err)
	}
	buf := make([]byte, part)
	for {
		n, _, err := unix.Recvfrom(s.fd, buf, unix.MSG_DONTWAIT|unix.MSG_TRUNC)
		if err == nil && n > len(buf) {
			err = unix.EMSGSIZE
		}
		if err != nil {
			return fmt.Errorf("receive from netfilter: %w", err)
		}
		some, err := replies(buf[:n])
		if err != nil {
			return err
		}
		for _, r := range some {
			switch {
			case r.errno != 0:
				return fmt.Errorf("list of netfilter: %w", r.errno)
			case r.kind == unix.NLMSG_DONE:
				return nil
			case r.kind != unix.NLMSG_ERROR:
				each(r)
			}
		}
	}
}
