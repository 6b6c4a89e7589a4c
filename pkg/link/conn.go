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

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/sys/unix"
)

// conn is a route netlink socket. It stays in the network namespace it was made
// in, whatever thread uses it. Not for concurrent use.
type conn struct{ *netlink.Conn }

// dial opens a socket in the calling thread's network namespace.
func dial() (*conn, error) {
	c, err := netlink.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	return &conn{c}, nil
}

func (c *conn) close() { _ = c.Close() }

// do sends the requests together. The kernel runs them in order, and goes on after one
// that fails; the error then has the [netlink.Refusals].
func (c *conn) do(reqs ...*netlink.Request) error { return c.Do(reqs, nil) }

// ask sends a question and returns what parse makes of the answer.
func ask[T any](c *conn, question *netlink.Request, parse func(netlink.Message) (T, error)) (T, error) {
	var answer T
	var bad error
	err := c.Do([]*netlink.Request{question}, func(_ int, m netlink.Message) { answer, bad = parse(m) })
	if err == nil {
		err = bad
	}
	return answer, err
}

// list asks for a list of one kind of messages. Only for what is not on the ADD path.
func list[T any](c *conn, question *netlink.Request, kind uint16, parse func(netlink.Message) (T, error)) ([]T, error) {
	var bad error
	all, err := netlink.List(c.Conn, question, nil, func(m netlink.Message) (t T, ok bool) {
		if m.Kind != kind {
			return t, false
		}
		t, err := parse(m)
		if err != nil {
			bad = err
		}
		return t, err == nil
	})
	return all, errors.Join(err, bad)
}

// batch is requests that go out together, each with what it is for.
type batch struct {
	reqs []*netlink.Request
	what []string
}

func (b *batch) add(what string, req *netlink.Request) {
	b.reqs, b.what = append(b.reqs, req), append(b.what, what)
}

// try adds a request whose failure does not matter.
func (b *batch) try(req *netlink.Request) { b.add("", req) }

// run sends the batch. The error is the first failure that matters.
func (b *batch) run(c *conn) error {
	err := c.do(b.reqs...)
	refused := netlink.Refusals(err)
	if refused == nil {
		return err
	}
	for _, e := range refused {
		if what := b.what[e.Index]; what != "" {
			return fmt.Errorf("%s: %w", what, e)
		}
	}
	return nil
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
