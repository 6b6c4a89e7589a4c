package rtnl

import (
	"fmt"
	"net/netip"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/sys/unix"
)

// Address is an address of a link.
type Address struct {
	Index  int // of the link
	Prefix netip.Prefix
	Flags  uint32 // IFA_F_*
}

// Add is the request that adds the address; EEXIST when it is there. IFA_F_NODAD among
// the flags keeps IPv6 from looking for a duplicate first (RFC 4862, section 5.4), which
// takes a second or more. An IPv4 subnet has its last address for broadcasts.
func (a Address) Add() *netlink.Request { return a.request(unix.NLM_F_CREATE | unix.NLM_F_EXCL) }

// Put adds the address, or makes permanent one that is there.
func (a Address) Put() *netlink.Request { return a.request(unix.NLM_F_CREATE | unix.NLM_F_REPLACE) }

func (a Address) request(flags uint16) *netlink.Request {
	req := netlink.NewRequest(unix.RTM_NEWADDR, flags, ifaddrmsg(a.Index, a.Prefix))
	addr := a.Prefix.Addr()
	req.Addr(unix.IFA_LOCAL, addr).Addr(unix.IFA_ADDRESS, addr)
	if addr.Is4() && a.Prefix.Bits() < 31 {
		req.Addr(unix.IFA_BROADCAST, lastAddress(a.Prefix))
	}
	if a.Flags != 0 {
		req.Uint32(unix.IFA_FLAGS, a.Flags)
	}
	return req
}

// Delete is the request that deletes the address.
func (a Address) Delete() *netlink.Request {
	return netlink.NewRequest(unix.RTM_DELADDR, 0, ifaddrmsg(a.Index, a.Prefix)).Addr(unix.IFA_LOCAL, a.Prefix.Addr())
}

func lastAddress(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		a[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(a)
}

// HasAddress6 reports whether a link has an IPv6 address. Since kernel 4.15 the answer
// does not wait for the interface lock.
func (c *Conn) HasAddress6(index int, addr netip.Addr) (bool, error) {
	header := ifaddrmsg(index, netip.PrefixFrom(addr, 0)) // strict checking wants no length
	question := netlink.NewQuestion(unix.RTM_GETADDR, header).Addr(unix.IFA_ADDRESS, addr)
	_, there, err := askIf(c, question, ParseAddress)
	return there, err
}

// Addresses lists the addresses of one link, of both families, in the kernel's order; index
// 0: of all links.
func (c *Conn) Addresses(index int) ([]Address, error) {
	question := netlink.NewQuestion(unix.RTM_GETADDR, ifaddrmsg(index, netip.Prefix{}))
	all, err := netlink.List(c.Conn, question, nil, func(m netlink.Message) (Address, bool) {
		a, ok := ParseAddress(m)
		return a, ok && (index == 0 || a.Index == index) // a kernel before 4.20 does not filter
	})
	if err != nil {
		return all, fmt.Errorf("list addresses: %w", err)
	}
	return all, nil
}

// ParseAddress reads an RTM_NEWADDR or RTM_DELADDR.
func ParseAddress(m netlink.Message) (a Address, ok bool) {
	if m.Kind != unix.RTM_NEWADDR && m.Kind != unix.RTM_DELADDR || len(m.Body) < unix.SizeofIfAddrmsg {
		return a, false
	}
	a.Index, a.Flags = int(netlink.Uint32(m.Body[4:])), uint32(m.Body[2])
	var local, remote netip.Addr
	for kind, value := range m.Attrs(unix.SizeofIfAddrmsg) {
		switch kind {
		case unix.IFA_LOCAL:
			local = netlink.Addr(value)
		case unix.IFA_ADDRESS:
			remote = netlink.Addr(value)
		case unix.IFA_FLAGS:
			a.Flags = netlink.Uint32(value)
		}
	}
	if !local.IsValid() { // IPv6 without a peer
		local = remote
	}
	a.Prefix = netip.PrefixFrom(local, int(m.Body[1]))
	return a, a.Prefix.IsValid()
}
