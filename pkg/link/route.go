package link

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// newRoute is the request that adds a route through a link. Without a gateway the
// destination is on the link.
func newRoute(index int, r attach.Route) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	msg := nl.NewRtMsg()
	msg.Family = uint8(family(r.Dst.Addr()))
	msg.Dst_len = uint8(r.Dst.Bits())
	msg.Protocol = unix.RTPROT_BOOT
	msg.Scope = unix.RT_SCOPE_UNIVERSE
	if !r.Gateway.IsValid() {
		msg.Scope = unix.RT_SCOPE_LINK
	}
	if r.Scope != nil {
		msg.Scope = uint8(*r.Scope)
	}
	msg.Table = unix.RT_TABLE_MAIN
	req.AddData(msg)
	if r.Table != nil {
		msg.Table = unix.RT_TABLE_UNSPEC
		req.AddData(nl.NewRtAttr(unix.RTA_TABLE, nl.Uint32Attr(uint32(*r.Table))))
	}
	if r.Dst.Bits() > 0 {
		req.AddData(nl.NewRtAttr(unix.RTA_DST, r.Dst.Masked().Addr().AsSlice()))
	}
	if r.Gateway.IsValid() {
		req.AddData(nl.NewRtAttr(unix.RTA_GATEWAY, r.Gateway.AsSlice()))
	}
	req.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(index))))
	if r.Priority != 0 {
		req.AddData(nl.NewRtAttr(unix.RTA_PRIORITY, nl.Uint32Attr(uint32(r.Priority))))
	}
	if r.MTU != 0 || r.AdvMSS != 0 {
		metrics := nl.NewRtAttr(unix.RTA_METRICS, nil)
		if r.MTU != 0 {
			metrics.AddRtAttr(unix.RTAX_MTU, nl.Uint32Attr(uint32(r.MTU)))
		}
		if r.AdvMSS != 0 {
			metrics.AddRtAttr(unix.RTAX_ADVMSS, nl.Uint32Attr(uint32(r.AdvMSS)))
		}
		req.AddData(metrics)
	}
	return req
}

// route is an entry of a routing table.
type route struct {
	dst      netip.Prefix
	gateway  netip.Addr
	index    int // of the device
	priority int
	table    int
	protocol int // RTPROT_RA: from a router advertisement
	kind     int // RTN_UNICAST, RTN_LOCAL
	mtu      int // bytes; 0: the device's
}

// routes lists the routes of a family, of every table; with a filter (RTA_OIF,
// kernel 4.20) those that it lets through. Not for the ADD path.
func (c *conn) routes(family int, filter ...*nl.RtAttr) ([]route, error) {
	replies, err := c.dump(func() *nl.NetlinkRequest {
		req := nl.NewNetlinkRequest(unix.RTM_GETROUTE, unix.NLM_F_DUMP)
		msg := &nl.RtMsg{}
		msg.Family = uint8(family)
		req.AddData(msg)
		for _, f := range filter {
			req.AddData(f)
		}
		return req
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var all []route
	for _, r := range replies {
		if r.kind != unix.RTM_NEWROUTE || len(r.data) < unix.SizeofRtMsg {
			continue
		}
		parsed, err := parseRoute(r.data)
		if err != nil {
			return nil, err
		}
		all = append(all, parsed)
	}
	return all, nil
}

func parseRoute(data []byte) (route, error) {
	msg := nl.DeserializeRtMsg(data)
	attrs, err := nl.ParseRouteAttr(data[msg.Len():])
	if err != nil {
		return route{}, fmt.Errorf("route message: %w", err)
	}
	dst := netip.IPv4Unspecified()
	if msg.Family == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	r := route{table: int(msg.Table), protocol: int(msg.Protocol), kind: int(msg.Type)}
	for _, a := range attrs {
		switch a.Attr.Type {
		case unix.RTA_DST:
			dst, _ = netip.AddrFromSlice(a.Value)
		case unix.RTA_GATEWAY:
			r.gateway, _ = netip.AddrFromSlice(a.Value)
		case unix.RTA_OIF:
			r.index = int(uint32Of(a.Value))
		case unix.RTA_PRIORITY:
			r.priority = int(uint32Of(a.Value))
		case unix.RTA_TABLE:
			r.table = int(uint32Of(a.Value))
		case unix.RTA_METRICS:
			r.mtu = metricOf(a.Value, unix.RTAX_MTU)
		}
	}
	r.dst = netip.PrefixFrom(dst, int(msg.Dst_len))
	return r, nil
}

// metricOf is one of a route's metrics (RTAX_*); 0 when it has none.
func metricOf(data []byte, metric uint16) int {
	all, err := nl.ParseRouteAttr(data)
	if err != nil {
		return 0
	}
	for _, m := range all {
		if m.Attr.Type == metric {
			return int(uint32Of(m.Value))
		}
	}
	return 0
}

// defaultDevice returns the device of the default route in the main table, of
// IPv4 if there is one; nil without a default route. Routes of other kinds than unicast
// (local, blackhole) lead nowhere.
func (c *conn) defaultDevice() (*device, error) {
	for _, f := range []int{unix.AF_INET, unix.AF_INET6} {
		all, err := c.routes(f)
		if err != nil {
			return nil, err
		}
		var best *route
		for i, r := range all {
			if r.table == unix.RT_TABLE_MAIN && r.dst.Bits() == 0 && r.index > 1 && r.kind == unix.RTN_UNICAST &&
				(best == nil || r.priority < best.priority) {
				best = &all[i]
			}
		}
		if best != nil {
			return c.byIndex(best.index)
		}
	}
	return nil, nil
}

func (c *conn) byIndex(index int) (*device, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, 0)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	replies, err := c.do(req)
	if err != nil {
		return nil, fmt.Errorf("interface %d: %w", index, err)
	}
	if len(replies) == 0 {
		return nil, fmt.Errorf("interface %d: the kernel sent no answer", index)
	}
	return parseDevice(replies[0].data)
}

// ways asks the kernel by which routes it sends to some addresses, as the rules of its
// routing policy have it: the entry that matches (RTM_F_FIB_MATCH, kernel 4.13), nil for
// an address that it cannot reach. It asks all in one go, and the answer waits for
// nobody: route netlink does not take the interface lock for it.
func (c *conn) ways(to ...netip.Addr) ([]*route, error) {
	reqs := make([]*nl.NetlinkRequest, len(to))
	for i, addr := range to {
		req := nl.NewNetlinkRequest(unix.RTM_GETROUTE, 0)
		msg := &nl.RtMsg{}
		msg.Family, msg.Dst_len, msg.Flags = uint8(family(addr)), uint8(addr.BitLen()), unix.RTM_F_FIB_MATCH
		req.AddData(msg)
		req.AddData(nl.NewRtAttr(unix.RTA_DST, addr.AsSlice()))
		reqs[i] = req
	}
	first := c.seq + 1
	replies, err := c.do(reqs...)
	for _, e := range split(err) {
		var refused *requestError
		if !errors.As(e, &refused) {
			return nil, fmt.Errorf("ask for routes: %w", e)
		}
	}
	found := make([]*route, len(to))
	for _, r := range replies {
		i := int(r.seq - first)
		if r.kind != unix.RTM_NEWROUTE || len(r.data) < unix.SizeofRtMsg || i >= len(found) {
			continue
		}
		parsed, err := parseRoute(r.data)
		if err != nil {
			return nil, err
		}
		found[i] = &parsed
	}
	return found, nil
}

// Addresses that no route is about but one to everywhere: one of class E (RFC 1112,
// section 4), and one of the documentation prefix (RFC 9637).
var outside4, outside6 = netip.MustParseAddr("240.0.0.1"), netip.MustParseAddr("3fff::1")

// wayOut returns the device by which the host sends to the outside, of IPv4 if it does,
// and the largest packet that the way takes, in bytes; nil when there is none.
func (c *conn) wayOut() (*device, int, error) {
	found, err := c.ways(outside4, outside6)
	if err != nil {
		return nil, 0, err
	}
	return c.outOf(found)
}

// outOf is [conn.wayOut] for the answers.
func (c *conn) outOf(ways []*route) (*device, int, error) {
	const lo = 1 // of every namespace
	for _, r := range ways {
		if r == nil || r.kind != unix.RTN_UNICAST || r.index <= lo {
			continue
		}
		name, err := c.name(r.index)
		if isErrno(err, unix.ENODEV) {
			continue // gone since
		}
		if err != nil {
			return nil, 0, err
		}
		d, err := c.glance(name)
		if err != nil {
			return nil, 0, err
		}
		if r.mtu != 0 && r.mtu < d.mtu {
			return d, r.mtu, nil
		}
		return d, d.mtu, nil
	}
	return nil, 0, nil
}

// connectedRoute is the request for the route to an address's own subnet, as the kernel
// makes it with the address.
func connectedRoute(index int, p netip.Prefix) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	msg := nl.NewRtMsg()
	msg.Family, msg.Dst_len = uint8(family(p.Addr())), uint8(p.Bits())
	msg.Table, msg.Protocol, msg.Scope = unix.RT_TABLE_MAIN, unix.RTPROT_KERNEL, unix.RT_SCOPE_LINK
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.RTA_DST, p.Masked().Addr().AsSlice()))
	req.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(index))))
	if p.Addr().Is4() {
		req.AddData(nl.NewRtAttr(unix.RTA_PREFSRC, p.Addr().AsSlice()))
	} else {
		const metric = 256 // IP6_RT_PRIO_ADDRCONF
		req.AddData(nl.NewRtAttr(unix.RTA_PRIORITY, nl.Uint32Attr(metric)))
	}
	return req
}

// connected reports whether the main table has that route. It lists the link's routes.
func (c *conn) connected(index int, p netip.Prefix) (bool, error) {
	all, err := c.routes(family(p.Addr()), nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(index))))
	for _, r := range all {
		if r.index == index && r.dst == p.Masked() && r.table == unix.RT_TABLE_MAIN && r.kind == unix.RTN_UNICAST {
			return true, nil
		}
	}
	return false, err
}
