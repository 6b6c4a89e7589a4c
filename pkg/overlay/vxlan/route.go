package vxlan

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

const (
	// protocol marks the routes that are ours (rtm_protocol; none of iproute2's).
	protocol = 98
	// lastMetric lets every other route to the same subnet win.
	lastMetric = 4278198272
	// metric6 is what IPv6 makes of a metric that is not given (IP6_RT_PRIO_USER).
	metric6 = 1024
	// anyScope is how a deletion says it.
	anyScope   = unix.RT_SCOPE_NOWHERE
	rtaNexthop = 30 // RTA_NH_ID
)

// hop is the way to a block.
type hop struct {
	via netip.Addr // the peer's inner address
	mtu int        // what the peer's device takes, if less than ours takes; else 0
}

// route is an entry of the main table.
type route struct {
	dst netip.Prefix
	hop
	metric   uint32
	nexthop  uint32 // of a nexthop object
	tos      uint8
	protocol uint8
	kind     uint8  // RTN_UNICAST, RTN_UNREACHABLE
	index    int    // of the device; 0: none, or several
	table    uint32 // RT_TABLE_MAIN
	plain    bool   // nothing is set that we would not set
}

// metricOf is the metric of our routes to peers, as the kernel tells it.
func metricOf(dst netip.Prefix) uint32 {
	if dst.Addr().Is4() {
		return 0
	}
	return metric6
}

// slot reports whether the route is where one of ours to that block would be.
func (r route) slot() bool { return r.metric == metricOf(r.dst) && r.tos == 0 }

// right reports whether the route, its way apart, is as one of ours to a block.
func (r route) right() bool {
	return r.slot() && r.plain && r.protocol == protocol && r.kind == unix.RTN_UNICAST
}

// ourRoute is the route to a block, as the kernel tells it.
func ourRoute(index int, dst netip.Prefix, h hop) route {
	return route{dst: dst, hop: h, metric: metricOf(dst), protocol: protocol, kind: unix.RTN_UNICAST,
		index: index, table: unix.RT_TABLE_MAIN, plain: true}
}

// rtmsg is struct rtmsg, with the main table.
func rtmsg(dst netip.Prefix, proto, scope, kind uint8, flags uint32) []byte {
	h := []byte{family(dst.Addr()), byte(dst.Bits()), 0, 0, unix.RT_TABLE_MAIN, proto, scope, kind}
	return appendUint32(h, flags)
}

// putRoute has the block routed by the peer, whatever other route of the same metric
// was there. The peer's address is in no subnet of the device: onlink.
func (b *batch) putRoute(index int, dst netip.Prefix, h hop, peer string) {
	b.add(request{verb: "add route", thing: dst, peer: peer}, unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE,
		rtmsg(dst, protocol, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, unix.RTNH_F_ONLINK)...)
	b.addr(unix.RTA_DST, dst.Addr())
	b.addr(unix.RTA_GATEWAY, h.via)
	b.uint32(unix.RTA_OIF, uint32(index))
	if h.mtu != 0 {
		b.nest(unix.RTA_METRICS, func() {
			b.uint32(unix.RTAX_MTU, uint32(h.mtu))
			if dst.Addr().Is6() {
				// IPv6 forwards by a route's MTU only if it is locked
				// (ip6_dst_mtu_maybe_forward in include/net/ip6_route.h).
				b.uint32(unix.RTAX_LOCK, 1<<unix.RTAX_MTU)
			}
		})
	}
	b.finish()
}

// deleteRoute deletes a route through the device, and no other to that block.
func (b *batch) deleteRoute(index int, r route, peer string) {
	b.add(request{verb: "delete route", thing: r.dst, peer: peer, gone: true}, unix.RTM_DELROUTE, 0,
		rtmsg(r.dst, r.protocol, anyScope, r.kind, 0)...)
	b.buf[len(b.buf)-unix.SizeofRtMsg+3] = r.tos
	b.addr(unix.RTA_DST, r.dst.Addr())
	switch {
	case r.nexthop != 0: // what it leads to must not be named then
		b.uint32(rtaNexthop, r.nexthop)
	case r.index != 0:
		b.uint32(unix.RTA_OIF, uint32(index))
		if r.via.IsValid() {
			b.addr(unix.RTA_GATEWAY, r.via)
		}
	}
	if r.metric != 0 {
		b.uint32(unix.RTA_PRIORITY, r.metric)
	}
	b.finish()
}

// putUnreachable answers for what no peer has, so that it does not leave by the
// host's default route.
func (b *batch) putUnreachable(subnet netip.Prefix) {
	b.add(request{verb: "add unreachable route", thing: subnet}, unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE,
		rtmsg(subnet, protocol, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNREACHABLE, 0)...)
	b.addr(unix.RTA_DST, subnet.Addr())
	b.uint32(unix.RTA_PRIORITY, lastMetric)
	b.finish()
}

func (b *batch) deleteUnreachable(subnet netip.Prefix) {
	b.add(request{verb: "delete unreachable route", thing: subnet, gone: true}, unix.RTM_DELROUTE, 0,
		rtmsg(subnet, protocol, anyScope, unix.RTN_UNREACHABLE, 0)...)
	b.addr(unix.RTA_DST, subnet.Addr())
	b.uint32(unix.RTA_PRIORITY, lastMetric)
	b.finish()
}

// listRoutes reads the main table's routes of a family through a device. The
// kernel's own are left out.
func (c *conn) listRoutes(into []route, fam uint8, index int) ([]route, error) {
	var b batch
	b.add(request{verb: "list routes"}, unix.RTM_GETROUTE, unix.NLM_F_DUMP,
		fam, 0, 0, 0, unix.RT_TABLE_MAIN, 0, 0, 0, 0, 0, 0, 0)
	b.uint32(unix.RTA_OIF, uint32(index))
	b.finish()
	return list(c, &b, into, func(_ uint16, body []byte) (route, bool) {
		r, ok := parseRoute(body)
		// Of several next hops, one of which is on the device, none is told.
		return r, ok && (r.index == index || r.index == 0) && r.protocol != unix.RTPROT_KERNEL
	})
}

// listUnreachable reads our unreachable routes, of all networks.
func (c *conn) listUnreachable() ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, fam := range families {
		var b batch
		b.add(request{verb: "list unreachable routes"}, unix.RTM_GETROUTE, unix.NLM_F_DUMP,
			fam, 0, 0, 0, unix.RT_TABLE_MAIN, protocol, 0, unix.RTN_UNREACHABLE, 0, 0, 0, 0)
		b.finish()
		var err error
		all, err = list(c, &b, all, func(_ uint16, body []byte) (netip.Prefix, bool) {
			r, ok := parseRoute(body)
			return r.dst, ok && r.unreachable()
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// unreachable reports whether the route is one of [batch.putUnreachable].
func (r route) unreachable() bool {
	return r.kind == unix.RTN_UNREACHABLE && r.protocol == protocol && r.metric == lastMetric
}

// parseRoute reads a route of the main table; others are not ok.
func parseRoute(body []byte) (route, bool) {
	if len(body) < unix.SizeofRtMsg || body[0] != unix.AF_INET && body[0] != unix.AF_INET6 {
		return route{}, false
	}
	dst := netip.IPv4Unspecified()
	if body[0] == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	r := route{table: uint32(body[4]), tos: body[3], protocol: body[5], kind: body[7]}
	flags := uint32Of(body[8:])
	r.plain = body[2] == 0 && flags&unix.RTNH_F_ONLINK != 0
	for kind, value := range attributes(body[unix.SizeofRtMsg:]) {
		switch kind {
		case unix.RTA_DST:
			dst = addrOf(value)
		case unix.RTA_GATEWAY:
			r.via = addrOf(value)
		case unix.RTA_OIF:
			r.index = int(uint32Of(value))
		case unix.RTA_PRIORITY:
			r.metric = uint32Of(value)
		case unix.RTA_TABLE:
			r.table = uint32Of(value)
		case unix.RTA_METRICS:
			var plain bool
			r.mtu, plain = parseMetrics(value, body[0])
			r.plain = r.plain && plain
		case rtaNexthop:
			r.nexthop, r.plain = uint32Of(value), false
		case unix.RTA_PREFSRC, unix.RTA_MULTIPATH, unix.RTA_ENCAP, unix.RTA_VIA:
			r.plain = false
		}
	}
	r.dst = netip.PrefixFrom(dst, int(body[1]))
	return r, r.table == unix.RT_TABLE_MAIN && flags&unix.RTM_F_CLONED == 0 && r.dst.IsValid()
}

// parseMetrics reads a route's MTU, and whether the metrics are as we make them.
func parseMetrics(b []byte, fam uint8) (mtu int, plain bool) {
	plain = true
	lock := uint32(0)
	for kind, value := range attributes(b) {
		switch kind {
		case unix.RTAX_MTU:
			mtu = int(uint32Of(value))
		case unix.RTAX_LOCK:
			lock = uint32Of(value)
		default:
			plain = false
		}
	}
	want := uint32(0)
	if mtu != 0 && fam == unix.AF_INET6 {
		want = 1 << unix.RTAX_MTU
	}
	return mtu, plain && lock == want
}
