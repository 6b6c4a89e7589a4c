// Package rtnl speaks route netlink (rtnetlink(7), RFC 3549): links, addresses, routes,
// neighbours and forwarding entries, as the kernel has them and as requests to it. What
// to do with them is up to pkg/link, whose steps make interfaces, and pkg/overlay/vxlan,
// which makes overlays.
//
// A type is what the kernel tells of one thing. Its requests make such a thing, so that
// what was asked for and what is there can be compared with ==.
package rtnl

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/sys/unix"
)

// Conn is a route netlink socket. It stays in the network namespace it was made
// in, whatever thread uses it. Not for concurrent use.
type Conn struct{ *netlink.Conn }

// Dial opens a socket in the calling thread's network namespace.
func Dial() (*Conn, error) {
	c, err := netlink.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	return &Conn{c}, nil
}

// Send sends requests together ([netlink.Conn.Do]).
func (c *Conn) Send(reqs ...*netlink.Request) error { return c.Do(reqs, nil) }

// ask sends a question and returns what parse makes of the answer.
func ask[T any](c *Conn, question *netlink.Request, parse func(netlink.Message) (T, bool)) (T, error) {
	var answer T
	ok := false
	err := c.Do([]*netlink.Request{question}, func(_ int, m netlink.Message) { answer, ok = parse(m) })
	if err == nil && !ok {
		err = fmt.Errorf("an answer of another kind: %w", unix.EBADMSG)
	}
	return answer, err
}

// askIf is ask, not ok where the kernel says that there is no such thing.
func askIf[T any](c *Conn, question *netlink.Request, parse func(netlink.Message) (T, bool)) (answer T, ok bool, err error) {
	answer, err = ask(c, question, parse)
	if IsGone(err) {
		return answer, false, nil
	}
	return answer, err == nil, err
}

// IsGone reports whether the kernel says that there is no such thing, which a request
// to delete may count as done.
func IsGone(err error) bool {
	for _, e := range []unix.Errno{unix.ENOENT, unix.ESRCH, unix.ENODEV, unix.EADDRNOTAVAIL} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Families are those of what is inside a packet that a link carries.
var Families = []uint8{unix.AF_INET, unix.AF_INET6}

// Family is that of an address; AF_UNSPEC of none.
func Family(a netip.Addr) uint8 {
	switch {
	case a.Is4():
		return unix.AF_INET
	case a.Is6():
		return unix.AF_INET6
	}
	return unix.AF_UNSPEC
}

// HostPrefix is the prefix of one address.
func HostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
