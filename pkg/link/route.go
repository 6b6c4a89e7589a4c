package link

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/sys/unix"
)

// newRoute is the request that adds a route through a link. Without a gateway the
// destination is on the link.
func newRoute(index int, r attach.Route) *netlink.Request {
	return routeRequest(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, index, r)
}

// deleteRoute is the request that deletes that route.
func deleteRoute(index int, r attach.Route) *netlink.Request {
	return routeRequest(unix.RTM_DELROUTE, 0, index, r)
}

func routeRequest(kind, flags uint16, index int, r attach.Route) *netlink.Request {
	scope, table := uint8(unix.RT_SCOPE_UNIVERSE), uint8(unix.RT_TABLE_MAIN)
	if !r.Gateway.IsValid() {
		scope = unix.RT_SCOPE_LINK
	}
	if r.Scope != nil {
		scope = uint8(*r.Scope)
	}
	if r.Table != nil {
		table = unix.RT_TABLE_UNSPEC // an attribute has it, which holds larger ones
	}
	req := netlink.NewRequest(kind, flags, rtmsg(r.Dst, table, unix.RTPROT_BOOT, scope, unix.RTN_UNICAST, 0))
	if r.Table != nil {
		req.Uint32(unix.RTA_TABLE, uint32(*r.Table))
	}
	if r.Dst.Bits() > 0 {
		req.Addr(unix.RTA_DST, r.Dst.Masked().Addr())
	}
	if r.Gateway.IsValid() {
		req.Addr(unix.RTA_GATEWAY, r.Gateway)
	}
	req.Uint32(unix.RTA_OIF, uint32(index))
	if r.Priority != 0 {
		req.Uint32(unix.RTA_PRIORITY, uint32(r.Priority))
	}
	if r.MTU != 0 || r.AdvMSS != 0 {
		req.Nest(unix.RTA_METRICS, func() {
			if r.MTU != 0 {
				req.Uint32(unix.RTAX_MTU, uint32(r.MTU))
			}
			if r.AdvMSS != 0 {
				req.Uint32(unix.RTAX_ADVMSS, uint32(r.AdvMSS))
			}
		})
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

// routes lists the routes of a family, of every table; through one link alone if its
// index is not 0. Not for the ADD path.
func (c *conn) routes(family, index int) ([]route, error) {
	header := make([]byte, unix.SizeofRtMsg)
	header[0] = uint8(family)
	question := netlink.NewQuestion(unix.RTM_GETROUTE, header)
	if index != 0 {
		question.Uint32(unix.RTA_OIF, uint32(index))
	}
	all, err := list(c, question, unix.RTM_NEWROUTE, parseRoute)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return slices.DeleteFunc(all, func(r route) bool { return index != 0 && r.index != index }), nil // a kernel before 4.20 does not filter
}

func parseRoute(m netlink.Message) (route, error) {
	if len(m.Body) < unix.SizeofRtMsg {
		return route{}, fmt.Errorf("route message of %d bytes", len(m.Body))
	}
	dst := netip.IPv4Unspecified()
	if m.Body[0] == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	r := route{table: int(m.Body[4]), protocol: int(m.Body[5]), kind: int(m.Body[7])}
	for kind, value := range m.Attrs(unix.SizeofRtMsg) {
		switch kind {
		case unix.RTA_DST:
			dst = netlink.Addr(value)
		case unix.RTA_GATEWAY:
			r.gateway = netlink.Addr(value)
		case unix.RTA_OIF:
			r.index = int(netlink.Uint32(value))
		case unix.RTA_PRIORITY:
			r.priority = int(netlink.Uint32(value))
		case unix.RTA_TABLE:
			r.table = int(netlink.Uint32(value))
		case unix.RTA_METRICS:
			r.mtu = int(netlink.Uint32(netlink.Find(value, unix.RTAX_MTU)))
		}
	}
	r.dst = netip.PrefixFrom(dst, int(m.Body[1]))
	return r, nil
}

// defaultDevice returns the device of the default route in the main table, of
// IPv4 if there is one; nil without a default route. Routes of other kinds than unicast
// (local, blackhole) lead nowhere.
func (c *conn) defaultDevice() (*device, error) {
	for _, f := range []int{unix.AF_INET, unix.AF_INET6} {
		all, err := c.routes(f, 0)
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

// ways asks the kernel by which routes it sends to some addresses, as the rules of its
// routing policy have it: the entry that matches (RTM_F_FIB_MATCH, kernel 4.13), nil for
// an address that it cannot reach. It asks all in one go, and the answer waits for
// nobody: route netlink does not take the interface lock for it.
func (c *conn) ways(to ...netip.Addr) ([]*route, error) {
	reqs := make([]*netlink.Request, len(to))
	for i, addr := range to {
		header := rtmsg(host(addr), unix.RT_TABLE_UNSPEC, unix.RTPROT_UNSPEC, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNSPEC, unix.RTM_F_FIB_MATCH)
		reqs[i] = netlink.NewQuestion(unix.RTM_GETROUTE, header).Addr(unix.RTA_DST, addr)
	}
	found := make([]*route, len(to))
	var bad error
	err := c.Do(reqs, func(i int, m netlink.Message) {
		r, err := parseRoute(m)
		if err != nil {
			bad = err
			return
		}
		found[i] = &r
	})
	if netlink.Refusals(err) != nil {
		err = nil
	}
	if err = errors.Join(err, bad); err != nil {
		return nil, fmt.Errorf("ask for routes: %w", err)
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
func connectedRoute(index int, p netip.Prefix) *netlink.Request {
	header := rtmsg(p, unix.RT_TABLE_MAIN, unix.RTPROT_KERNEL, unix.RT_SCOPE_LINK, unix.RTN_UNICAST, 0)
	req := netlink.NewRequest(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, header)
	req.Addr(unix.RTA_DST, p.Masked().Addr()).Uint32(unix.RTA_OIF, uint32(index))
	if p.Addr().Is4() {
		return req.Addr(unix.RTA_PREFSRC, p.Addr())
	}
	const metric = 256 // IP6_RT_PRIO_ADDRCONF
	return req.Uint32(unix.RTA_PRIORITY, metric)
}

// connected reports whether the main table has that route. It lists the link's routes.
func (c *conn) connected(index int, p netip.Prefix) (bool, error) {
	all, err := c.routes(family(p.Addr()), index)
	for _, r := range all {
		if r.dst == p.Masked() && r.table == unix.RT_TABLE_MAIN && r.kind == unix.RTN_UNICAST {
			return true, nil
		}
	}
	return false, err
}
