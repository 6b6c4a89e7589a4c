package link

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"golang.org/x/sys/unix"
)

// route puts the gateway's addresses on the device, with the routes to their subnets.
// What is there already costs one answer, EEXIST.
func (b *Bridge) route(c *iface.Conn, d *rtnl.Link, a *attach.Attachment) error {
	gws := gateways(a)
	added, err := putGateways(c, d, gws)
	if err == nil && len(added) > 0 && !b.MoreAddresses {
		var replaced bool
		if replaced, err = b.replaceAddresses(c, d, gws, added); replaced && err == nil {
			// An IPv4 address takes those of its subnet that came later with it
			// (promote_secondaries of ip-sysctl), the gateway's too.
			_, err = putGateways(c, d, gws)
		}
	}
	if err != nil {
		return fmt.Errorf("interface %s: %w", d.Name, err)
	}
	return nil
}

// putGateways returns the addresses that were not there.
func putGateways(c *iface.Conn, d *rtnl.Link, gws []netip.Prefix) (added []netip.Prefix, err error) {
	for _, gw := range gws {
		err := c.Send(iface.NewAddress(d.Index, gw, false))
		if err != nil && !iface.IsErrno(err, unix.EEXIST) {
			return nil, fmt.Errorf("add gateway address %s: %w", gw, err)
		}
		if err == nil {
			added = append(added, gw) // and the kernel its route
			continue
		}
		if gw.IsSingleIP() {
			continue
		}
		err = c.Send(iface.ConnectedRoute(d.Index, gw).Add())
		if iface.IsErrno(err, unix.EEXIST) {
			err = reclaim(c, d.Index, gw)
		}
		if err != nil {
			return nil, fmt.Errorf("add route to %s: %w", gw.Masked(), err)
		}
	}
	return added, nil
}

// replaceAddresses settles with the addresses that the device had before the
// gateway's were added to it: another IPv4 address, or one of an overlapping IPv6
// subnet, goes with forceAddress and is an error without.
func (b *Bridge) replaceAddresses(c *iface.Conn, d *rtnl.Link, gws, added []netip.Prefix) (replaced bool, err error) {
	have, err := c.Prefixes(d.Index)
	if err != nil {
		return false, err
	}
	for _, old := range have {
		if slices.Contains(gws, old) {
			continue
		}
		clash := slices.IndexFunc(gws, func(gw netip.Prefix) bool {
			return gw.Addr().Is4() == old.Addr().Is4() && (gw.Addr().Is4() || gw.Overlaps(old))
		})
		if clash < 0 {
			continue
		}
		if !b.ForceAddress {
			for _, gw := range added { // leave it as it was
				_ = c.Send(iface.DeleteAddress(d.Index, gw))
			}
			return false, fmt.Errorf("has the address %s already, which is not the gateway %s; "+
				"forceAddress replaces it", old, gws[clash])
		}
		if err := c.Send(iface.DeleteAddress(d.Index, old)); err != nil && !iface.IsErrno(err, unix.EADDRNOTAVAIL) {
			return false, fmt.Errorf("replace address %s: %w", old, err)
		}
		replaced = true
	}
	return replaced, nil
}

// neighbourIn is an address of the gateway's subnet other than the gateway's.
func neighbourIn(gw netip.Prefix) netip.Addr {
	if next := gw.Addr().Next(); gw.Contains(next) {
		return next
	}
	return gw.Addr().Prev()
}

// gateways returns the distinct gateway addresses with their subnets' lengths.
func gateways(a *attach.Attachment) []netip.Prefix {
	var gws []netip.Prefix
	for _, addr := range a.Addresses {
		gw := netip.PrefixFrom(addr.Gateway, addr.Prefix.Bits())
		if addr.Gateway.IsValid() && !slices.Contains(gws, gw) {
			gws = append(gws, gw)
		}
	}
	return gws
}
