package link

import (
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
	r := route{table: int(msg.Table), protocol: int(msg.Protocol)}
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
		}
	}
	r.dst = netip.PrefixFrom(dst, int(msg.Dst_len))
	return r, nil
}

// defaultDevice returns the device of the default route in the main table, of
// IPv4 if there is one; nil without a default route.
func (c *conn) defaultDevice() (*device, error) {
	for _, f := range []int{unix.AF_INET, unix.AF_INET6} {
		all, err := c.routes(f)
		if err != nil {
			return nil, err
		}
		var best *route
		for i, r := range all {
			if r.table == unix.RT_TABLE_MAIN && r.dst.Bits() == 0 && r.index != 0 &&
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
