package vxlan

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// conn is a route netlink socket (RFC 3549). It stays in the network namespace that
// it was made in, whatever thread uses it. Not for concurrent use.
type conn struct {
	fd   int
	port uint32 // the netlink address: the kernel puts it on events that we cause
	seq  uint32
	buf  []byte
}

const (
	// recvSize is the most that the kernel puts in one message of a list (32 KiB).
	recvSize = 64 << 10
	// sendSize is how much goes out at once. More saves nothing.
	sendSize = 48 << 10
	// socketBuffer has room for the refusals of a whole message.
	socketBuffer = 4 << 20
)

func dial() (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	c := &conn{fd: fd, buf: make([]byte, recvSize)}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		c.close()
		return nil, fmt.Errorf("bind netlink socket: %w", err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		c.close()
		return nil, fmt.Errorf("address of netlink socket: %w", err)
	}
	c.port = name.(*unix.SockaddrNetlink).Pid
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer)
	// All since kernel 4.20 or before. Without the first two errors are only less
	// clear, without the third lists are longer than what was asked for.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	return c, nil
}

func (c *conn) close() { unix.Close(c.fd) }

// errInterrupted says that a list changed while it was read (NLM_F_DUMP_INTR).
var errInterrupted = errors.New("the list changed while it was read")

// run sends the requests of the batch in order, many in one message, and hands each
// reply to each (which may be nil). It goes on after a request that is refused; the
// error has the refusals. The cost is linear, and one message for a small batch.
func (c *conn) run(b *batch, each func(kind uint16, body []byte)) error {
	var failed refusals
	for from := 0; from < len(b.reqs); {
		to := from + 1
		for to < len(b.reqs) && b.reqs[to].end-b.begin(from) <= sendSize {
			to++
		}
		if err := c.exchange(b, from, to, each, &failed); err != nil {
			return err
		}
		from = to
	}
	return failed.err()
}

// exchange sends some requests in one message. The kernel reports a refusal unasked,
// so only the last one asks for an answer: when it comes all are done.
func (c *conn) exchange(b *batch, from, to int, each func(uint16, []byte), failed *refusals) error {
	first := c.seq + 1
	for i := from; i < to; i++ {
		c.seq++
		h := b.buf[b.begin(i):]
		binary.NativeEndian.PutUint32(h[8:], c.seq)
		flags := binary.NativeEndian.Uint16(h[6:])
		if i == to-1 && flags&unix.NLM_F_DUMP != unix.NLM_F_DUMP {
			binary.NativeEndian.PutUint16(h[6:], flags|unix.NLM_F_ACK)
		}
	}
	out := b.buf[b.begin(from):b.reqs[to-1].end]
	if err := unix.Sendto(c.fd, out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("send netlink request: %w", err)
	}
	interrupted := false
	for done := false; !done; {
		n, err := receive(c.fd, c.buf)
		if err != nil {
			return fmt.Errorf("receive netlink answer: %w", err)
		}
		for m := range messages(c.buf[:n]) {
			if m.seq-first >= uint32(to-from) {
				continue // of an exchange that an error cut short
			}
			interrupted = interrupted || m.flags&unix.NLM_F_DUMP_INTR != 0
			switch m.kind {
			case unix.NLMSG_ERROR, unix.NLMSG_DONE:
				done = done || m.seq == c.seq
				failed.add(b.reqs[from+int(m.seq-first)], m)
			default:
				if each != nil {
					each(m.kind, m.body)
				}
			}
		}
	}
	if interrupted {
		return errInterrupted
	}
	return nil
}

func receive(fd int, buf []byte) (int, error) {
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// interruptions is how often a list is read again because it changed. What the last
// reading has is used: to add what is there already, or to remove what is gone,
// harms nothing.
const interruptions = 8

// list appends to a slice what the one request of the batch asks for.
func list[T any](c *conn, b *batch, into []T, parse func(kind uint16, body []byte) (T, bool)) ([]T, error) {
	before := len(into)
	for range interruptions {
		into = into[:before]
		err := c.run(b, func(kind uint16, body []byte) {
			if t, ok := parse(kind, body); ok {
				into = append(into, t)
			}
		})
		if !errors.Is(err, errInterrupted) {
			return into, err
		}
	}
	return into, nil
}

// refusal is the kernel's refusal of one request.
type refusal struct {
	what  string
	errno unix.Errno
	why   string // the kernel's own words (NLMSGERR_ATTR_MSG), if any
}

func (e *refusal) Error() string {
	s := e.what + ": " + e.errno.Error()
	if e.why != "" {
		s += ": " + e.why
	}
	return s
}

func (e *refusal) Unwrap() error { return e.errno }

// refusals are those of a run. Some are told in full, the others counted.
type refusals struct {
	told []error
	more int
}

const toldRefusals = 10

func (r *refusals) add(req request, m message) {
	if len(m.body) < 4 {
		return // a list's end without a status
	}
	errno := unix.Errno(-int32(binary.NativeEndian.Uint32(m.body)))
	if errno == 0 || req.gone && isGone(errno) {
		return
	}
	if len(r.told) == toldRefusals {
		r.more++
		return
	}
	e := &refusal{what: req.String(), errno: errno}
	const ackTLVs = 0x200 // NLM_F_ACK_TLVS
	if m.kind == unix.NLMSG_ERROR && m.flags&ackTLVs != 0 && len(m.body) > unix.SizeofNlMsgerr {
		for kind, value := range attributes(m.body[unix.SizeofNlMsgerr:]) {
			if kind == 1 { // NLMSGERR_ATTR_MSG
				e.why = text(value)
			}
		}
	}
	r.told = append(r.told, e)
}

func (r *refusals) err() error {
	if r.more > 0 {
		r.told = append(r.told, fmt.Errorf("and %d more", r.more))
	}
	return errors.Join(r.told...)
}

// isGone reports whether the kernel says that there is no such thing.
func isGone(errno unix.Errno) bool {
	switch errno {
	case unix.ENOENT, unix.ESRCH, unix.ENODEV, unix.EADDRNOTAVAIL:
		return true
	}
	return false
}
