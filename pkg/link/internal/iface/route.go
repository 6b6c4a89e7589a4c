package iface

import (
	"net/netip"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"golang.org/x/sys/unix"
)

// NewRoute is the request that adds a route through a link. Without a gateway the
// destination is on the link.
func NewRoute(index int, r attach.Route) *netlink.Request { return RouteOf(index, r).Add() }

// RouteOf is the route as the kernel has it.
func RouteOf(index int, r attach.Route) rtnl.Route {
	k := rtnl.Route{Dst: r.Dst.Masked(), Gateway: r.Gateway, Index: index, Priority: uint32(r.Priority), MTU: r.MTU, AdvMSS: r.AdvMSS,
		Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_BOOT, Type: unix.RTN_UNICAST}
	if r.Gateway.IsUnspecified() { // RFC 3442: by no router; the kernel has it so, too
		k.Gateway = netip.Addr{}
	}
	if !k.Gateway.IsValid() {
		k.Scope = unix.RT_SCOPE_LINK
	}
	if r.Scope != nil {
		k.Scope = uint8(*r.Scope)
	}
	if r.Table != nil {
		k.Table = uint32(*r.Table)
	}
	return k
}

// ListRoutes lists the routes of a family, of every table; through one link alone if its
// index is not 0. Not for the ADD path.
func (c *Conn) ListRoutes(family uint8, index int) ([]rtnl.Route, error) {
	return c.Routes(nil, rtnl.RouteFilter{Family: family, Index: index})
}

// DefaultDevice returns the device of the default route in the main table, of
// IPv4 if there is one; nil without a default route.
func (c *Conn) DefaultDevice() (*rtnl.Link, error) {
	for _, f := range rtnl.Families {
		if d, err := c.DefaultOf(f); d != nil || err != nil {
			return d, err
		}
	}
	return nil, nil
}

// DefaultOf is [Conn.defaultDevice] of a family. Routes of other kinds than unicast
// (local, blackhole) lead nowhere.
func (c *Conn) DefaultOf(family uint8) (*rtnl.Link, error) {
	all, err := c.ListRoutes(family, 0)
	if err != nil {
		return nil, err
	}
	var best *rtnl.Route
	for i, r := range all {
		if r.Table == unix.RT_TABLE_MAIN && r.Dst.Bits() == 0 && r.Index > 1 && r.Type == unix.RTN_UNICAST &&
			(best == nil || r.Priority < best.Priority) {
			best = &all[i]
		}
	}
	if best == nil {
		return nil, nil
	}
	return c.LinkByIndex(best.Index)
}

// Addresses that no route is about but one to everywhere: one of class E (RFC 1112,
// section 4), and one of the documentation prefix (RFC 9637).
var Outside4, Outside6 = netip.MustParseAddr("240.0.0.1"), netip.MustParseAddr("3fff::1")

// WayOut returns the device by which the host sends to the outside, of IPv4 if it does,
// and the largest packet that the way takes, in bytes; nil when there is none.
func (c *Conn) WayOut() (*rtnl.Link, int, error) {
	found, err := c.RoutesTo(Outside4, Outside6)
	if err != nil {
		return nil, 0, err
	}
	return c.OutOf(found)
}

// OutOf is [Conn.wayOut] for the answers. Of several next hops it is the one that takes
// the smallest packets.
func (c *Conn) OutOf(ways []*rtnl.Route) (out *rtnl.Link, mtu int, err error) {
	const lo = 1 // of every namespace
	for _, r := range ways {
		if r == nil || r.Type != unix.RTN_UNICAST {
			continue
		}
		for _, index := range append(r.Hops[:], r.Index) {
			if index <= lo {
				continue
			}
			d, err := c.glanceAt(index)
			if IsErrno(err, unix.ENODEV) {
				continue // gone since
			}
			if err != nil {
				return nil, 0, err
			}
			if out == nil || d.MTU < mtu {
				out, mtu = d, d.MTU
			}
		}
		if out != nil && r.MTU != 0 {
			mtu = min(mtu, r.MTU)
		}
		if out != nil {
			break
		}
	}
	return out, mtu, nil
}

func (c *Conn) glanceAt(index int) (*rtnl.Link, error) {
	name, err := c.Name(index)
	if err != nil {
		return nil, err
	}
	return c.Glance(name)
}

// ConnectedRoute is the route to an address's own subnet, as the kernel makes it with the
// address.
func ConnectedRoute(index int, p netip.Prefix) rtnl.Route {
	r := rtnl.Route{Dst: p.Masked(), Index: index, Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_KERNEL,
		Scope: unix.RT_SCOPE_LINK, Type: unix.RTN_UNICAST}
	if p.Addr().Is4() {
		r.Source = p.Addr()
	} else {
		r.Priority = 256 // IP6_RT_PRIO_ADDRCONF
	}
	return r
}

// Connected reports whether the main table has that route. It lists the link's routes.
func (c *Conn) Connected(index int, p netip.Prefix) (bool, error) {
	all, err := c.ListRoutes(rtnl.Family(p.Addr()), index)
	for _, r := range all {
		if r.Index == index && r.Dst == p.Masked() && r.Table == unix.RT_TABLE_MAIN && r.Type == unix.RTN_UNICAST {
			return true, nil
		}
	}
	return false, err
}
