package link

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"golang.org/x/sys/unix"
)

// route puts the gateway's addresses on the device, with the routes to their subnets.
// What is there already costs one answer, EEXIST.
func (b *Bridge) route(c *conn, d *rtnl.Link, a *attach.Attachment) error {
	var added []netip.Prefix
	for _, gw := range gateways(a) {
		err := c.Send(newAddress(d.Index, gw, false))
		if err != nil && !isErrno(err, unix.EEXIST) {
			return fmt.Errorf("interface %s: add gateway address %s: %w", d.Name, gw, err)
		}
		if err == nil {
			added = append(added, gw) // and the kernel its route
			continue
		}
		if gw.IsSingleIP() {
			continue
		}
		if err := c.Send(connectedRoute(d.Index, gw)); err != nil && !isErrno(err, unix.EEXIST) {
			return fmt.Errorf("interface %s: add route to %s: %w", d.Name, gw.Masked(), err)
		}
	}
	if len(added) == 0 || b.MoreAddresses {
		return nil
	}
	if err := b.replaceAddresses(c, d, gateways(a), added); err != nil {
		return fmt.Errorf("interface %s: %w", d.Name, err)
	}
	return nil
}

// replaceAddresses settles with the addresses that the device had before the
// gateway's were added to it: another IPv4 address, or one of an overlapping IPv6
// subnet, goes with forceAddress and is an error without.
func (b *Bridge) replaceAddresses(c *conn, d *rtnl.Link, gws, added []netip.Prefix) error {
	have, err := c.addresses(d.Index)
	if err != nil {
		return err
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
				_ = c.Send(deleteAddress(d.Index, gw))
			}
			return fmt.Errorf("has the address %s already, which is not the gateway %s; "+
				"forceAddress replaces it", old, gws[clash])
		}
		if err := c.Send(deleteAddress(d.Index, old)); err != nil && !isErrno(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("replace address %s: %w", old, err)
		}
	}
	return nil
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
