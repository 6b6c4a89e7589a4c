package link

import (
	"fmt"
	"net/netip"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"github.com/berth-cni/berth/pkg/link/netns"
	"golang.org/x/sys/unix"
)

func isLoopback(p netip.Prefix) bool { return p.Addr().IsLoopback() }

// inspect returns an interface, without a sandbox, and its addresses but the
// link-local ones.
func inspect(c *iface.Conn, name string) (attach.Interface, []netip.Prefix, error) {
	d, err := c.LinkByName(name)
	if err != nil {
		return attach.Interface{}, nil, err
	}
	all, err := c.Prefixes(d.Index)
	if err != nil {
		return attach.Interface{}, nil, err
	}
	var prefixes []netip.Prefix
	for _, p := range all {
		if !p.Addr().IsLinkLocalUnicast() {
			prefixes = append(prefixes, p)
		}
	}
	return attach.Interface{Name: d.Name, MAC: d.MAC.String(), MTU: d.MTU, Index: d.Index}, prefixes, nil
}

// Inspect returns an interface of a namespace, with the namespace's path for its
// sandbox, and its addresses but the link-local ones. ENODEV when there is none.
func Inspect(ns *netns.Namespace, name string) (attach.Interface, []attach.Address, error) {
	c, err := iface.DialNetns(ns)
	if err != nil {
		return attach.Interface{}, nil, err
	}
	defer c.Close()
	i, prefixes, err := inspect(c, name)
	i.Sandbox = ns.Path()
	var addrs []attach.Address
	for _, p := range prefixes {
		addrs = append(addrs, attach.Address{Prefix: p})
	}
	return i, addrs, err
}

// Uplink returns the host's interface of the default route, its addresses but the
// link-local ones, and its default routes; lo and its addresses on a host without a
// default route. It reads the host's routes.
func Uplink() (attach.Interface, []attach.Address, []attach.Route, error) {
	c, err := iface.Dial()
	if err != nil {
		return attach.Interface{}, nil, nil, err
	}
	defer c.Close()
	name := loopback
	d, err := c.DefaultDevice()
	if err != nil {
		return attach.Interface{}, nil, nil, fmt.Errorf("find the default route: %w", err)
	}
	if d != nil {
		name = d.Name
	}
	i, prefixes, err := inspect(c, name)
	if err != nil {
		return i, nil, nil, err
	}
	routes, err := defaultRoutes(c, i.Index)
	if err != nil {
		return i, nil, nil, err
	}
	var addrs []attach.Address
	for _, p := range prefixes {
		addrs = append(addrs, attach.Address{Prefix: p, Gateway: gatewayOf(p, routes)})
	}
	return i, addrs, routes, nil
}

// DefaultDevices returns the names of the devices of the default routes, of IPv4 and of
// IPv6; empty without one.
func DefaultDevices() (v4, v6 string, err error) {
	c, err := iface.Dial()
	if err != nil {
		return "", "", err
	}
	defer c.Close()
	var names [2]string
	for i, f := range rtnl.Families {
		d, err := c.DefaultOf(f)
		if err != nil {
			return "", "", fmt.Errorf("find the default route: %w", err)
		}
		if d != nil {
			names[i] = d.Name
		}
	}
	return names[0], names[1], nil
}

// defaultRoutes are those of the main table through a gateway on one link.
func defaultRoutes(c *iface.Conn, index int) ([]attach.Route, error) {
	var found []attach.Route
	for _, f := range rtnl.Families {
		all, err := c.ListRoutes(f, 0)
		if err != nil {
			return nil, err
		}
		for _, r := range all {
			if r.Table == unix.RT_TABLE_MAIN && r.Dst.Bits() == 0 && r.Index == index && r.Gateway.IsValid() {
				found = append(found, attach.Route{Dst: r.Dst, Gateway: r.Gateway})
			}
		}
	}
	return found, nil
}

// gatewayOf is the gateway that is in the subnet; none when no route has one.
func gatewayOf(subnet netip.Prefix, routes []attach.Route) netip.Addr {
	for _, r := range routes {
		if subnet.Contains(r.Gateway) {
			return r.Gateway
		}
	}
	return netip.Addr{}
}

// ViewHost is the view of this process's own namespace: what leads outside, the
// interface of the default route.
func ViewHost() (*netns.View, error) {
	cookie, err := netns.HostCookie()
	if err != nil {
		return nil, err
	}
	v := &netns.View{Cookie: cookie}
	v.Interface, v.Addresses, v.Routes, err = Uplink()
	return v, err
}
