package iface

import (
	"net/netip"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"golang.org/x/sys/unix"
)

// NewAddress is the request that gives an address to a link. dad has IPv6 look
// for a duplicate first (RFC 4862, section 5.4), which takes a second or more.
func NewAddress(index int, p netip.Prefix, dad bool) *netlink.Request {
	a := rtnl.Address{Index: index, Prefix: p}
	if p.Addr().Is6() && !dad {
		a.Flags = unix.IFA_F_NODAD
	}
	return a.Add()
}

// DeleteAddress is the request that takes an address from a link.
func DeleteAddress(index int, p netip.Prefix) *netlink.Request {
	return rtnl.Address{Index: index, Prefix: p}.Delete()
}

// Prefixes lists the addresses of one link, of both families, in the kernel's
// order. Not for the ADD path.
func (c *Conn) Prefixes(index int) ([]netip.Prefix, error) {
	all, err := c.Addresses(index)
	prefixes := make([]netip.Prefix, len(all))
	for i, a := range all {
		prefixes[i] = a.Prefix
	}
	return prefixes, err
}
