package rtnl

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/sys/unix"
)

// Route is an entry of a routing table.
type Route struct {
	Dst      netip.Prefix
	Gateway  netip.Addr
	Source   netip.Addr // that the host talks from (RTA_PREFSRC)
	Index    int        // of the link; 0: none, or several
	Hops     [4]int     // of the links of the first of several next hops (RTA_MULTIPATH)
	Priority uint32     // the metric. The kernel tells 1024 of an IPv6 route that was made without
	Table    uint32     // RT_TABLE_MAIN
	Protocol uint8      // who made it: RTPROT_RA, a router advertisement
	Type     uint8      // RTN_UNICAST
	Scope    uint8      // RT_SCOPE_LINK: on the link, without a gateway. 0 of IPv6
	TOS      uint8
	Onlink   bool   // the gateway need not be in a subnet of the link
	MTU      int    // bytes; 0: the link's
	LockMTU  bool   // no smaller one is found out, and IPv6 forwards by this one
	AdvMSS   int    // bytes; 0: the kernel chooses
	Nexthop  uint32 // of a nexthop object
	// More says that it has what these fields do not tell: several next hops, other
	// metrics, an encapsulation.
	More bool
}

const rtaNexthop = 30 // RTA_NH_ID of linux/rtnetlink.h

// Add is the request that adds the route; EEXIST when there is one to the same place
// with the same metric.
func (r Route) Add() *netlink.Request { return r.request(unix.NLM_F_CREATE | unix.NLM_F_EXCL) }

// Put adds the route, in the place of one to the same place with the same metric.
func (r Route) Put() *netlink.Request { return r.request(unix.NLM_F_CREATE | unix.NLM_F_REPLACE) }

func (r Route) request(flags uint16) *netlink.Request {
	req := netlink.NewRequest(unix.RTM_NEWROUTE, flags, r.header(r.Scope))
	r.where(req)
	if r.Source.IsValid() {
		req.Addr(unix.RTA_PREFSRC, r.Source)
	}
	if r.MTU == 0 && r.AdvMSS == 0 {
		return req
	}
	return req.Nest(unix.RTA_METRICS, func() {
		if r.MTU != 0 {
			req.Uint32(unix.RTAX_MTU, uint32(r.MTU))
		}
		if r.LockMTU {
			req.Uint32(unix.RTAX_LOCK, 1<<unix.RTAX_MTU)
		}
		if r.AdvMSS != 0 {
			req.Uint32(unix.RTAX_ADVMSS, uint32(r.AdvMSS))
		}
	})
}

// Delete is the request that deletes the route, and no other to that place.
func (r Route) Delete() *netlink.Request {
	const any = unix.RT_SCOPE_NOWHERE
	req := netlink.NewRequest(unix.RTM_DELROUTE, 0, r.header(any))
	if r.Nexthop == 0 {
		return r.where(req)
	}
	r.Index, r.Gateway = 0, netip.Addr{} // what it leads to must not be named then
	return r.where(req).Uint32(rtaNexthop, r.Nexthop)
}

// header is struct rtmsg.
func (r Route) header(scope uint8) []byte {
	const source = 0
	table, flags := uint8(unix.RT_TABLE_UNSPEC), uint8(0) // a larger table is an attribute
	if r.Table < 256 {
		table = uint8(r.Table)
	}
	b := []byte{Family(r.Dst.Addr()), uint8(r.Dst.Bits()), source, r.TOS, table, r.Protocol, scope, r.Type}
	if r.Onlink {
		flags = unix.RTNH_F_ONLINK
	}
	return append(b, netlink.AppendUint32(nil, uint32(flags))...)
}

// where appends what a route is told apart by.
func (r Route) where(req *netlink.Request) *netlink.Request {
	if r.Table >= 256 {
		req.Uint32(unix.RTA_TABLE, r.Table)
	}
	if r.Dst.Bits() > 0 {
		req.Addr(unix.RTA_DST, r.Dst.Masked().Addr())
	}
	if r.Gateway.IsValid() {
		req.Addr(unix.RTA_GATEWAY, r.Gateway)
	}
	if r.Index != 0 {
		req.Uint32(unix.RTA_OIF, uint32(r.Index))
	}
	if r.Priority != 0 {
		req.Uint32(unix.RTA_PRIORITY, r.Priority)
	}
	return req
}

// RouteFilter says which routes are listed: those of a family, and of these where they
// are not 0.
type RouteFilter struct {
	Family   uint8
	Index    int // of a link. Of several next hops, one of which is on the link, none is told
	Table    uint32
	Protocol uint8
	Type     uint8
}

// Routes lists routes, and appends them to a slice.
func (c *Conn) Routes(into []Route, f RouteFilter) ([]Route, error) {
	header := []byte{f.Family, 0, 0, 0, uint8(f.Table), f.Protocol, 0, f.Type, 0, 0, 0, 0}
	question := netlink.NewQuestion(unix.RTM_GETROUTE, header)
	if f.Index != 0 {
		question.Uint32(unix.RTA_OIF, uint32(f.Index))
	}
	all, err := netlink.List(c.Conn, question, into, func(m netlink.Message) (Route, bool) {
		r, ok := ParseRoute(m)
		return r, ok && f.matches(r)
	})
	if err != nil {
		return all, fmt.Errorf("list routes: %w", err)
	}
	return all, nil
}

// matches is for a kernel before 4.20, which does not filter.
func (f RouteFilter) matches(r Route) bool {
	return (f.Index == 0 || r.Index == f.Index || r.Index == 0 && r.More) && (f.Table == 0 || r.Table == f.Table) &&
		(f.Protocol == 0 || r.Protocol == f.Protocol) && (f.Type == 0 || r.Type == f.Type)
}

// RoutesTo asks the kernel by which routes it sends to some addresses, as the rules of
// its routing policy have it: the entry that matches (RTM_F_FIB_MATCH, kernel 4.13), nil
// for an address that it cannot reach. It asks all in one go, and the answer waits for
// nobody: route netlink does not take the interface lock for it.
func (c *Conn) RoutesTo(addrs ...netip.Addr) ([]*Route, error) {
	reqs := make([]*netlink.Request, len(addrs))
	for i, a := range addrs {
		header := []byte{Family(a), uint8(a.BitLen()), 0, 0, 0, 0, 0, 0}
		reqs[i] = netlink.NewQuestion(unix.RTM_GETROUTE, netlink.AppendUint32(header, unix.RTM_F_FIB_MATCH)).Addr(unix.RTA_DST, a)
	}
	found := make([]*Route, len(addrs))
	err := c.Do(reqs, func(i int, m netlink.Message) {
		if r, ok := ParseRoute(m); ok {
			found[i] = &r
		}
	})
	if err != nil && netlink.Refusals(err) == nil {
		return nil, fmt.Errorf("ask for routes: %w", err)
	}
	return found, nil
}

// IsLocal reports whether the host takes what is sent to an address for its own. Of an IPv6
// address that a link has, its worker for duplicate address detection sees to that, a moment
// after the address and the carrier are both there (net/ipv6/addrconf.c), also where none is
// done.
func (c *Conn) IsLocal(a netip.Addr) (local bool, err error) {
	const kind = 7 // rtm_type of struct rtmsg
	question := netlink.NewQuestion(unix.RTM_GETROUTE, []byte{Family(a), uint8(a.BitLen()), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}).Addr(unix.RTA_DST, a)
	err = c.Do([]*netlink.Request{question}, func(_ int, m netlink.Message) {
		local = m.Kind == unix.RTM_NEWROUTE && len(m.Body) >= unix.SizeofRtMsg && m.Body[kind] == unix.RTN_LOCAL
	})
	if err != nil && netlink.Refusals(err) == nil { // which says that there is no route
		return false, fmt.Errorf("ask whether %s is local: %w", a, err)
	}
	return local, nil
}

// ParseRoute reads an RTM_NEWROUTE or RTM_DELROUTE of IPv4 or IPv6; not the kernel's
// notes of routes in use (RTM_F_CLONED).
func ParseRoute(m netlink.Message) (r Route, ok bool) {
	b := m.Body
	if m.Kind != unix.RTM_NEWROUTE && m.Kind != unix.RTM_DELROUTE || len(b) < unix.SizeofRtMsg || !slices.Contains(Families, b[0]) {
		return r, false
	}
	flags := netlink.Uint32(b[8:])
	r = Route{TOS: b[3], Table: uint32(b[4]), Protocol: b[5], Scope: b[6], Type: b[7],
		Onlink: flags&unix.RTNH_F_ONLINK != 0, More: b[2] != 0} // with a source, too
	dst := netip.IPv4Unspecified()
	if b[0] == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	for kind, value := range m.Attrs(unix.SizeofRtMsg) {
		switch kind {
		case unix.RTA_DST:
			dst = netlink.Addr(value)
		case unix.RTA_GATEWAY:
			r.Gateway = netlink.Addr(value)
		case unix.RTA_PREFSRC:
			r.Source = netlink.Addr(value)
		case unix.RTA_OIF:
			r.Index = int(netlink.Uint32(value))
		case unix.RTA_PRIORITY:
			r.Priority = netlink.Uint32(value)
		case unix.RTA_TABLE:
			r.Table = netlink.Uint32(value)
		case unix.RTA_METRICS:
			r.parseMetrics(value)
		case rtaNexthop:
			r.Nexthop, r.More = netlink.Uint32(value), true
		case unix.RTA_MULTIPATH:
			r.parseHops(value)
			r.More = true
		case unix.RTA_ENCAP, unix.RTA_VIA:
			r.More = true
		}
	}
	r.Dst = netip.PrefixFrom(dst, int(b[1]))
	return r, flags&unix.RTM_F_CLONED == 0 && r.Dst.IsValid()
}

func (r *Route) parseMetrics(b []byte) {
	for kind, value := range netlink.Attrs(b) {
		switch n := netlink.Uint32(value); {
		case kind == unix.RTAX_MTU:
			r.MTU = int(n)
		case kind == unix.RTAX_ADVMSS:
			r.AdvMSS = int(n)
		case kind == unix.RTAX_LOCK && n == 1<<unix.RTAX_MTU:
			r.LockMTU = true
		default:
			r.More = true
		}
	}
}

// parseHops reads the links of next hops (struct rtnexthop).
func (r *Route) parseHops(b []byte) {
	for i := range r.Hops {
		if len(b) < unix.SizeofRtNexthop {
			return
		}
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtNexthop {
			return
		}
		r.Hops[i] = int(netlink.Uint32(b[4:]))
		b = b[min(len(b), (n+3)&^3):]
	}
}
