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
	fd int
}

func dial() (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open netfilter socket: %w", err)
	}
	s := &socket{fd}
	runtime.AddCleanup(s, func(fd int) { _ = unix.Close(fd) }, fd)
	return s, nil
}

// exchange sends the packet and returns all answers, in the order of the
// messages they answer.
func (s *socket) exchange(p *packet) ([]reply, error) {
	defer runtime.KeepAlive(s)
	if len(p.buf) > 1<<16 { // above this the default limit of a socket is near
		_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 2*len(p.buf))
	}
	if err := unix.Sendto(s.fd, p.buf, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("send to netfilter: %w", err)
	}
	var all []reply
	for {
		buf := make([]byte, 8<<10) // replies keep slices of it
		n, _, err := unix.Recvfrom(s.fd, buf, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("receive from netfilter: %w", err)
		}
		some, err := replies(buf[:n])
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
		if len(some) == 0 {
			continue
		}
		if end := some[len(some)-1]; end.kind == unix.NLMSG_ERROR && end.seq == p.last {
			return all, nil
		}
	}
}
