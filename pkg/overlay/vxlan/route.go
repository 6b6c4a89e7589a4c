package vxlan

import (
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"golang.org/x/sys/unix"
)

const (
	// protocol marks the routes that are ours (rtm_protocol; none of iproute2's).
	protocol = 98
	// lastMetric lets every other route to the same subnet win.
	lastMetric = 4278198272
	// metric6 is what IPv6 makes of a metric that is not given (IP6_RT_PRIO_USER).
	metric6 = 1024
)

// route is the way to a block of the peer. The peer's inner address is in no subnet of
// the device: onlink.
func (p *Peer) route(index int, block netip.Prefix, d *Device) rtnl.Route {
	r := rtnl.Route{Dst: block, Gateway: p.inner(block.Addr().Is4()), Index: index, Priority: metricOf(block),
		Table: unix.RT_TABLE_MAIN, Protocol: protocol, Type: unix.RTN_UNICAST, Onlink: true}
	if p.MTU < d.MTU && p.MTU != 0 {
		r.MTU = p.MTU
		// IPv6 forwards by a route's MTU only if it is locked
		// (ip6_dst_mtu_maybe_forward in include/net/ip6_route.h).
		r.LockMTU = block.Addr().Is6()
	}
	if d.Tunnel != nil {
		return toTunnel(r)
	}
	return r
}

// metricOf is the metric of our routes to peers, as the kernel tells it.
func metricOf(dst netip.Prefix) uint32 {
	if dst.Addr().Is4() {
		return 0
	}
	return metric6
}

// slot reports whether the route is where one of ours to that block would be.
func slot(r rtnl.Route) bool { return r.Priority == metricOf(r.Dst) && r.TOS == 0 }

// unreachable answers for what no peer has, so that it does not leave by the host's
// default route.
func unreachable(subnet netip.Prefix) rtnl.Route {
	return rtnl.Route{Dst: subnet, Priority: lastMetric, Table: unix.RT_TABLE_MAIN, Protocol: protocol, Type: unix.RTN_UNREACHABLE}
}

// isUnreachable reports whether the route is one of these.
func isUnreachable(r rtnl.Route) bool {
	return r.Type == unix.RTN_UNREACHABLE && r.Protocol == protocol && r.Priority == lastMetric
}

// routes reads the main table's routes of a family through a device. The kernel's own
// are left out.
func (c *conn) routes(into []rtnl.Route, family uint8, index int) ([]rtnl.Route, error) {
	before := len(into)
	all, err := c.Routes(into, rtnl.RouteFilter{Family: family, Index: index, Table: unix.RT_TABLE_MAIN})
	mine := slices.DeleteFunc(all[before:], func(r rtnl.Route) bool { return r.Protocol == unix.RTPROT_KERNEL })
	return all[:before+len(mine)], readable(err)
}

// unreachables reads the subnets of our unreachable routes, of all networks.
func (c *conn) unreachables() ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, family := range rtnl.Families {
		routes, err := c.Routes(nil, rtnl.RouteFilter{Family: family, Table: unix.RT_TABLE_MAIN, Protocol: protocol, Type: unix.RTN_UNREACHABLE})
		if err := readable(err); err != nil {
			return nil, err
		}
		for _, r := range routes {
			if isUnreachable(r) {
				all = append(all, r.Dst)
			}
		}
	}
	return all, nil
}
