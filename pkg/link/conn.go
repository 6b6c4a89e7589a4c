// Package link makes links by route netlink: bridges, veth pairs, their addresses
// and routes, and what belongs to them in /proc/sys. Its steps make the interface of
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
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/netns"
	"golang.org/x/sys/unix"
)

// conn is a route netlink socket of a step. Not for concurrent use.
type conn struct{ *rtnl.Conn }

// dial opens a socket in the calling thread's network namespace.
func dial() (*conn, error) {
	c, err := rtnl.Dial()
	if err != nil {
		return nil, err
	}
	return &conn{c}, nil
}

// dialNetns opens a socket in a namespace.
func dialNetns(ns *netns.Namespace) (*conn, error) {
	c, err := ns.Dial()
	if err != nil {
		return nil, err
	}
	return &conn{c}, nil
}

// dialIn opens a socket in the namespace of a path.
func dialIn(path string) (*conn, error) {
	ns, err := netns.Open(path)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	return dialNetns(ns)
}

func (c *conn) cookie() (uint64, error) { return netns.CookieOf(c.FD()) }

func (c *conn) close() { _ = c.Close() }

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
	err := c.Send(b.reqs...)
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
