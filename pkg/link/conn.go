// Package link speaks route netlink (RFC 3549): bridges, veth pairs, addresses,
// routes and what belongs to them in /proc/sys. Its steps make the interface of
// an attachment.
//
// Nothing on the ADD path lists or dumps: links are asked for by name, and what
// may be there already is added and EEXIST taken for an answer. So the cost does
// not grow with the host, and an interrupted dump cannot happen.
package link

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// conn is a route netlink socket. It stays in the network namespace it was made
// in, whatever thread uses it. Not for concurrent use.
type conn struct {
	fd  int
	seq uint32
	buf []byte
}

// bufSize holds the largest single message the kernel sends on this path (a link
// with its attributes) many times over.
const bufSize = 32 << 10

// dial opens a socket in the calling thread's network namespace.
func dial() (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	// Both since kernel 4.12 or before; without them errors are only less clear.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	return &conn{fd: fd, buf: make([]byte, bufSize)}, nil
}

func (c *conn) close() { unix.Close(c.fd) }

// reply is one message of the kernel, without its header.
type reply struct {
	kind uint16
	seq  uint32 // of the request that it answers
	data []byte
}

// requestError is the kernel's refusal of one request of a batch.
type requestError struct {
	index int // of the request
	errno unix.Errno
	why   string // the kernel's own words (NLMSGERR_ATTR_MSG), if any
}

func (e *requestError) Error() string {
	if e.why != "" {
		return e.errno.Error() + ": " + e.why
	}
	return e.errno.Error()
}

func (e *requestError) Unwrap() error { return e.errno }

// do sends the requests in one datagram and waits for the answer to each. The
// kernel runs them in order, and goes on after one that fails; the error is then
// the joined [*requestError]s. The replies are those of all requests, valid until
// the next call.
func (c *conn) do(reqs ...*nl.NetlinkRequest) ([]reply, error) {
	var out []byte
	first := c.seq + 1
	for _, r := range reqs {
		c.seq++
		r.Seq = c.seq
		if r.Flags&unix.NLM_F_DUMP != unix.NLM_F_DUMP {
			r.Flags |= unix.NLM_F_ACK
		}
		out = append(out, r.Serialize()...)
	}
	if err := unix.Sendto(c.fd, out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("send netlink request: %w", err)
	}
	var replies []reply
	var errs []error
	for pending := len(reqs); pending > 0; {
		n, err := c.receive()
		if err != nil {
			return nil, err
		}
		for b := c.buf[:n]; len(b) >= unix.NLMSG_HDRLEN; {
			h := (*unix.NlMsghdr)(unsafe.Pointer(&b[0]))
			if int(h.Len) < unix.NLMSG_HDRLEN || int(h.Len) > len(b) {
				return nil, errors.New("netlink message is cut off")
			}
			body := b[unix.NLMSG_HDRLEN:h.Len]
			b = b[min(len(b), nlmAlign(int(h.Len))):]
			switch h.Type {
			case unix.NLMSG_ERROR:
				pending--
				if e := parseError(h, body); e != nil {
					e.index = int(h.Seq - first)
					errs = append(errs, e)
				}
			case unix.NLMSG_DONE:
				pending--
			default:
				replies = append(replies, reply{h.Type, h.Seq, append([]byte(nil), body...)})
			}
			if h.Flags&unix.NLM_F_DUMP_INTR != 0 {
				errs = append(errs, unix.EINTR)
			}
		}
	}
	return replies, errors.Join(errs...)
}

// batch is requests that go out together, each with what it is for.
type batch struct {
	reqs []*nl.NetlinkRequest
	what []string
}

func (b *batch) add(what string, req *nl.NetlinkRequest) {
	b.reqs, b.what = append(b.reqs, req), append(b.what, what)
}

// try adds a request whose failure does not matter.
func (b *batch) try(req *nl.NetlinkRequest) { b.add("", req) }

// split returns what [conn.do] has joined.
func split(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	if err != nil {
		return []error{err}
	}
	return nil
}

// run sends the batch. The error is the first failure that matters.
func (b *batch) run(c *conn) error {
	_, err := c.do(b.reqs...)
	for _, e := range split(err) {
		var failed *requestError
		if !errors.As(e, &failed) {
			return e
		}
		if what := b.what[failed.index]; what != "" {
			return fmt.Errorf("%s: %w", what, failed)
		}
	}
	return nil
}

func (c *conn) receive() (int, error) {
	for {
		n, _, err := unix.Recvfrom(c.fd, c.buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("receive netlink answer: %w", err)
		}
		return n, nil
	}
}

func nlmAlign(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// parseError reads a struct nlmsgerr; nil for the acknowledgement, errno 0.
func parseError(h *unix.NlMsghdr, body []byte) *requestError {
	if len(body) < unix.SizeofNlMsgerr {
		return &requestError{errno: unix.EBADMSG}
	}
	errno := unix.Errno(-nl.NativeEndian().Uint32(body))
	if errno == 0 {
		return nil
	}
	e := &requestError{errno: errno}
	const ackTLVs = 0x200 // NLM_F_ACK_TLVS
	if h.Flags&ackTLVs == 0 {
		return e
	}
	attrs, err := nl.ParseRouteAttr(body[unix.SizeofNlMsgerr:])
	if err != nil {
		return e
	}
	for _, a := range attrs {
		if a.Attr.Type == 1 { // NLMSGERR_ATTR_MSG
			e.why = nl.BytesToString(a.Value)
		}
	}
	return e
}

// dump sends a request for a list. Only for what is not on the ADD path. The
// kernel filters by what the request names (NETLINK_GET_STRICT_CHK, kernel 4.20);
// a list that changed while it was read is read again.
func (c *conn) dump(make func() *nl.NetlinkRequest) ([]reply, error) {
	_ = unix.SetsockoptInt(c.fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	var replies []reply
	var err error
	for range 20 {
		replies, err = c.do(make())
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	return replies, err
}

// isErrno reports whether the kernel answered with one of these numbers.
func isErrno(err error, numbers ...unix.Errno) bool {
	for _, n := range numbers {
		if errors.Is(err, n) {
			return true
		}
	}
	return false
}

// notExist reports whether there is no such link, or file of a link.
func notExist(err error) bool {
	return isErrno(err, unix.ENODEV) || errors.Is(err, os.ErrNotExist)
}
