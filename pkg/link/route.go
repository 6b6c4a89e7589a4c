package link

import (
	"net/netip"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"golang.org/x/sys/unix"
)

// newRoute is the request that adds a route through a link. Without a gateway the
// destination is on the link.
func newRoute(index int, r attach.Route) *netlink.Request { return routeOf(index, r).Add() }

// routeOf is the route as the kernel has it.
func routeOf(index int, r attach.Route) rtnl.Route {
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

// routes lists the routes of a family, of every table; through one link alone if its
// index is not 0. Not for the ADD path.
func (c *conn) routes(family uint8, index int) ([]rtnl.Route, error) {
	return c.Routes(nil, rtnl.RouteFilter{Family: family, Index: index})
}

// defaultDevice returns the device of the default route in the main table, of
// IPv4 if there is one; nil without a default route.
func (c *conn) defaultDevice() (*rtnl.Link, error) {
	for _, f := range rtnl.Families {
		if d, err := c.defaultOf(f); d != nil || err != nil {
			return d, err
		}
	}
	return nil, nil
}

// defaultOf is [conn.defaultDevice] of a family. Routes of other kinds than unicast
// (local, blackhole) lead nowhere.
func (c *conn) defaultOf(family uint8) (*rtnl.Link, error) {
	all, err := c.routes(family, 0)
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
var outside4, outside6 = netip.MustParseAddr("240.0.0.1"), netip.MustParseAddr("3fff::1")

// wayOut returns the device by which the host sends to the outside, of IPv4 if it does,
// and the largest packet that the way takes, in bytes; nil when there is none.
func (c *conn) wayOut() (*rtnl.Link, int, error) {
	found, err := c.RoutesTo(outside4, outside6)
	if err != nil {
		return nil, 0, err
	}
	return c.outOf(found)
}

// outOf is [conn.wayOut] for the answers. Of several next hops it is the one that takes
// the smallest packets.
func (c *conn) outOf(ways []*rtnl.Route) (out *rtnl.Link, mtu int, err error) {
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
			if isErrno(err, unix.ENODEV) {
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

func (c *conn) glanceAt(index int) (*rtnl.Link, error) {
	name, err := c.Name(index)
	if err != nil {
		return nil, err
	}
	return c.Glance(name)
}

// connectedRoute is the route to an address's own subnet, as the kernel makes it with the
// address.
func connectedRoute(index int, p netip.Prefix) rtnl.Route {
	r := rtnl.Route{Dst: p.Masked(), Index: index, Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_KERNEL,
		Scope: unix.RT_SCOPE_LINK, Type: unix.RTN_UNICAST}
	if p.Addr().Is4() {
		r.Source = p.Addr()
	} else {
		r.Priority = 256 // IP6_RT_PRIO_ADDRCONF
	}
	return r
}

// connected reports whether the main table has that route. It lists the link's routes.
func (c *conn) connected(index int, p netip.Prefix) (bool, error) {
	all, err := c.routes(rtnl.Family(p.Addr()), index)
	for _, r := range all {
		if r.Index == index && r.Dst == p.Masked() && r.Table == unix.RT_TABLE_MAIN && r.Type == unix.RTN_UNICAST {
			return true, nil
		}
	}
	return false, err
}
