// Package iface is what the steps that make interfaces of containers share: requests
// about links, addresses and routes, how an interface in a container is configured, and
// how it is checked.
package iface

import (
	"errors"
	"fmt"
	"os"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/netns"
	"golang.org/x/sys/unix"
)

// Conn is a route netlink socket of a step. Not for concurrent use.
type Conn struct{ *rtnl.Conn }

// Dial opens a socket in the calling thread's network namespace.
func Dial() (*Conn, error) {
	c, err := rtnl.Dial()
	if err != nil {
		return nil, err
	}
	return &Conn{c}, nil
}

// DialNetns opens a socket in a namespace.
func DialNetns(ns *netns.Namespace) (*Conn, error) {
	c, err := ns.Dial()
	if err != nil {
		return nil, err
	}
	return &Conn{c}, nil
}

// DialIn opens a socket in the namespace of a path.
func DialIn(path string) (*Conn, error) {
	ns, err := netns.Open(path)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	return DialNetns(ns)
}

// Cookie is [netns.Namespace.Cookie] of the namespace that the socket is in.
func (c *Conn) Cookie() (uint64, error) { return netns.CookieOf(c.FD()) }

// Batch is requests that go out together, each with what it is for.
type Batch struct {
	reqs []*netlink.Request
	what []string
}

// Add adds a request; what says in an error what it is for.
func (b *Batch) Add(what string, req *netlink.Request) {
	b.reqs, b.what = append(b.reqs, req), append(b.what, what)
}

// Try adds a request whose failure does not matter.
func (b *Batch) Try(req *netlink.Request) { b.Add("", req) }

// Run sends the batch. The error is the first failure that matters.
func (b *Batch) Run(c *Conn) error {
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

// IsErrno reports whether the kernel answered with one of these numbers.
func IsErrno(err error, numbers ...unix.Errno) bool {
	for _, n := range numbers {
		if errors.Is(err, n) {
			return true
		}
	}
	return false
}

// NotExist reports whether there is no such link, or file of a link.
func NotExist(err error) bool {
	return IsErrno(err, unix.ENODEV) || errors.Is(err, os.ErrNotExist)
}
