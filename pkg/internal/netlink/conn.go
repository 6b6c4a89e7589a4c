// Package netlink speaks netlink (RFC 3549, netlink(7)): it builds requests, sends
// several at once, reads what the kernel answers to each, lists, and listens to
// multicast groups. What the messages mean is its callers' business: pkg/link speaks
// NETLINK_ROUTE, pkg/firewall NETLINK_NETFILTER and NETLINK_SOCK_DIAG.
//
// One policy holds for all of them:
//
//   - The kernel handles a request, and queues the answers, before send(2) returns
//     (netlink_unicast_kernel in net/netlink/af_netlink.c). So nothing here waits for an
//     answer: one that is not there was lost, and that is an error.
//   - Refusals come unasked. Of requests that go out together only the last asks for an
//     acknowledgement: when it is there, all are done.
//   - A refusal is an [*Error], with the kernel's own words where it has some
//     (NETLINK_EXT_ACK, kernel 4.12).
//   - A list that changed while it was read (NLM_F_DUMP_INTR) is read again; when it
//     never holds still, the last reading comes with [ErrInterrupted].
//   - ENOBUFS is for listeners alone: events were lost, and what was heard of before
//     has to be looked at again.
//   - EINTR never reaches a caller.
//
// It does not stand on github.com/mdlayher/netlink, although google/nftables links it.
// Its Receive returns the first refusal of what it read without the sequence number, and
// drops the others, so that of a batch nobody knows which was refused; and its sockets
// belong to the runtime's poller, which a plugin that lives for milliseconds would start
// for them alone: one question costs it 15 system calls (epoll_create1, eventfd2, bind,
// a peek before each read), here 5. Nor does it stand on the nl package of
// github.com/vishvananda/netlink, which knows one request at a time.
package netlink

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Conn is a netlink socket. It stays in the network namespace that the calling thread
// of [Dial] was in, whatever thread uses it. Not for concurrent use.
type Conn struct {
	fd      int
	seq     uint32 // of the last request
	strict  bool   // NETLINK_GET_STRICT_CHK is on
	out, in []byte
}

const (
	// window is how many requests are sent at once: the answers to three or four times
	// as many fit the buffers that a socket has. The kernel counts up to 2 KiB for an
	// answer, with the memory that manages it, of 208 KiB. More saves nothing.
	window = 64
	// recvSize is more than the kernel puts into one part of a list (netlink_dump in
	// net/netlink/af_netlink.c: 32 KiB), or into any answer here.
	recvSize = 64 << 10
)

// Dial opens a socket of a protocol (NETLINK_ROUTE) in the calling thread's network
// namespace.
func Dial(protocol int) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1) // without it errors are only less clear
	return &Conn{fd: fd}, nil
}

// Close closes the socket.
func (c *Conn) Close() error { return unix.Close(c.fd) }

// FD is the socket, for ioctl(2) and getsockopt(2).
func (c *Conn) FD() int { return c.fd }

// Requests is how many requests went out, for tests of what something costs.
func (c *Conn) Requests() int { return int(c.seq) }

// Port is the socket's netlink address, which the kernel puts on the events that the
// socket's requests cause (nlmsg_pid).
func (c *Conn) Port() (uint32, error) {
	if err := unix.Bind(c.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, fmt.Errorf("bind netlink socket: %w", err)
	}
	name, err := unix.Getsockname(c.fd)
	if err != nil {
		return 0, fmt.Errorf("address of netlink socket: %w", err)
	}
	return name.(*unix.SockaddrNetlink).Pid, nil
}

// Do sends the requests, [window] at a time, and calls each (which may be nil) for
// every message that answers one, with that one's index. The kernel runs them in order
// and goes on after one that it refuses; the error then has the [Refusals]. With any
// other error it is not known what was done.
func (c *Conn) Do(reqs []*Request, each func(i int, m Message)) error {
	var all refusals
	for at := 0; at < len(reqs); at += window {
		some := reqs[at:min(at+window, len(reqs))]
		refused, err := c.exchange(some, len(some)-1, func(i int, m Message) {
			if each != nil {
				each(at+i, m)
			}
		})
		if err != nil {
			return err
		}
		for _, e := range refused {
			e.Index += at
			all = append(all, e)
		}
	}
	return all.err()
}

// Transact sends the requests in one message, however many they are, of which the last
// one is not answered: it ends a transaction of nftables, which makes all or nothing.
func (c *Conn) Transact(reqs []*Request) error {
	if len(reqs) > window {
		c.enlarge(reqs)
	}
	refused, err := c.exchange(reqs, len(reqs)-2, func(int, Message) {})
	if err != nil {
		return err
	}
	return refusals(refused).err()
}

// enlarge makes the socket's buffers hold many requests and their answers, every one of
// which may be a refusal; what does not fit is lost. The kernel doubles the number that
// it is given. Refusals need not repeat what they refuse.
func (c *Conn) enlarge(reqs []*Request) {
	bytes := 0
	for _, r := range reqs {
		bytes += len(r.buf)
	}
	for _, o := range []struct{ force, limited, bytes int }{
		{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, 1 << 10 * len(reqs)},
		{unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, 2 * bytes},
	} {
		if unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, o.force, o.bytes) != nil { // in a user namespace
			_ = unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, o.limited, o.bytes)
		}
	}
	_ = unix.SetsockoptInt(c.fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
}

// errNoAnswer: the kernel answered before send returned, and what it said did not fit
// the socket's buffer; or it said nothing.
var errNoAnswer = errors.New("no answer from the kernel, or it was lost")

// exchange sends the requests in one message and reads until the last that is answered
// has its answer.
func (c *Conn) exchange(reqs []*Request, last int, each func(i int, m Message)) (refused []*Error, err error) {
	first := c.seq + 1
	if err := c.send(reqs, last); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.drain()
		}
	}()
	for done := false; !done; {
		var b []byte
		b, err = c.receive()
		if errors.Is(err, unix.EAGAIN) && len(refused) > 0 {
			return refused, nil // a transaction that was refused at its beginning
		}
		if err != nil {
			return refused, err
		}
		for len(b) > 0 {
			var m Message
			if m, b, err = next(b); err != nil {
				return refused, err
			}
			i := int(m.Seq - first)
			if i < 0 || i >= len(reqs) {
				continue // of an exchange that an error cut short
			}
			switch {
			case m.Kind == unix.NLMSG_ERROR:
				done = done || i == last
				if e := parseError(m); e != nil {
					e.Index = i
					refused = append(refused, e)
				}
			case m.Kind >= unix.NLMSG_MIN_TYPE:
				done = done || i == last && reqs[i].question
				each(i, m)
			}
		}
	}
	return refused, nil
}

// send sends the requests in one message. last asks for an acknowledgement, unless it
// is a question, which is answered anyway.
func (c *Conn) send(reqs []*Request, last int) error {
	c.out = c.out[:0]
	for i, r := range reqs {
		c.seq++
		flags := uint16(0)
		if i == last && !r.question {
			flags = unix.NLM_F_ACK
		}
		c.out = r.Append(c.out, c.seq, flags)
	}
	return c.write()
}

func (c *Conn) write() error {
	for {
		err := unix.Send(c.fd, c.out, 0)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("send netlink request: %w", err)
		}
	}
}

// receive reads one datagram, which is valid until the next call. It does not wait.
func (c *Conn) receive() ([]byte, error) {
	if c.in == nil {
		c.in = make([]byte, recvSize)
	}
	b, err := receive(c.fd, c.in)
	if errors.Is(err, unix.EAGAIN) {
		err = fmt.Errorf("%w (%w)", errNoAnswer, err)
	}
	if err != nil {
		return nil, fmt.Errorf("receive netlink answer: %w", err)
	}
	return b, nil
}

// drain takes what is left of an exchange that an error cut short: a full buffer has no
// room for the next answer.
func (c *Conn) drain() {
	const most = 1 << 16 // a list of some million entries
	for range most {
		if _, err := receive(c.fd, c.in); errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EBADF) {
			return
		}
	}
}

// receive reads one datagram without waiting: EAGAIN when there is none.
func receive(fd int, buf []byte) ([]byte, error) {
	for {
		n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT|unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, err
		case n > len(buf):
			return nil, fmt.Errorf("%d bytes at once: %w", n, unix.EMSGSIZE)
		}
		return buf[:n], nil
	}
}
