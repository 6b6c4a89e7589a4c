package link

import (
	"net/netip"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"golang.org/x/sys/unix"
)

// newAddress is the request that gives an address to a link. dad has IPv6 look
// for a duplicate first (RFC 4862, section 5.4), which takes a second or more.
func newAddress(index int, p netip.Prefix, dad bool) *netlink.Request {
	a := rtnl.Address{Index: index, Prefix: p}
	if p.Addr().Is6() && !dad {
		a.Flags = unix.IFA_F_NODAD
	}
	return a.Add()
}

func deleteAddress(index int, p netip.Prefix) *netlink.Request {
	return rtnl.Address{Index: index, Prefix: p}.Delete()
}

// addresses lists the addresses of one link, of both families, in the kernel's
// order. Not for the ADD path.
func (c *conn) addresses(index int) ([]netip.Prefix, error) {
	all, err := c.Addresses(index)
	prefixes := make([]netip.Prefix, len(all))
	for i, a := range all {
		prefixes[i] = a.Prefix
	}
	return prefixes, err
}
