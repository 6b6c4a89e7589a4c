package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/proc"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"golang.org/x/sys/unix"
)

// alone has an address reach its whole subnet by the gateway ([Routed]).
func alone(a *attach.Attachment, addr *attach.Address) {
	subnet := addr.Prefix.Masked()
	if addr.Prefix.Addr().Is6() {
		addr.Gateway = linkLocal(hostMAC(a.Key))
	}
	addr.Prefix = netip.PrefixFrom(addr.Prefix.Addr(), addr.Prefix.Addr().BitLen())
	var first []attach.Route
	if addr.Gateway.Is4() { // which nothing else leads to
		scope := unix.RT_SCOPE_LINK
		first = append(first, attach.Route{Dst: netip.PrefixFrom(addr.Gateway, addr.Gateway.BitLen()), Scope: &scope})
	}
	first = slices.DeleteFunc(append(first, attach.Route{Dst: subnet, Gateway: addr.Gateway}), func(r attach.Route) bool {
		return r.Dst == addr.Prefix || slices.ContainsFunc(a.Routes, func(o attach.Route) bool { return o.Dst.Masked() == r.Dst && o.Table == nil })
	})
	a.Routes = append(first, a.Routes...)
}

// linkLocal is the address that an interface makes itself of its MAC (RFC 4291, appendix A).
func linkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80,
		8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]})
}

// gateways4 are the IPv4 gateways, each as a single address.
func gateways4(a *attach.Attachment) []netip.Prefix {
	return slices.DeleteFunc(gateways(a), func(p netip.Prefix) bool { return p.Addr().Is6() })
}

// settings are those of the host's end.
func (r *Routed) settings(a *attach.Attachment) []setting {
	var v4, v6 bool
	for _, addr := range a.Addresses {
		v4 = v4 || addr.Prefix.Addr().Is4()
		v6 = v6 || addr.Prefix.Addr().Is6()
	}
	name := a.HostIfName()
	var all []setting
	if v6 {
		all = append(all, setting{path: proc.Net("ipv6", "conf", name, "disable_ipv6"), value: "0"},
			// Nobody else has the link-local address; while it waited for duplicate address
			// detection, nothing would be forwarded to the container.
			setting{path: proc.Net("ipv6", "conf", name, "accept_dad"), value: "0", why: "the container is not reached by IPv6 for a second",
				harms: func() bool { return false }},
			// No router advertisement of a container may change the host's routes (CVE-2020-10749).
			setting{path: proc.Net("ipv6", "conf", name, "accept_ra"), value: "0",
				why: "a container can make itself this host's router", harms: func() bool { return takesAdvertisements(name) }})
	}
	if v4 && strictReversePath(name) {
		// A container of several networks answers all of them by its default route.
		all = append(all, setting{path: proc.Net("ipv4", "conf", name, "rp_filter"), value: "2", inet: rtnl.RPFilter,
			why: "what a container of several networks publishes here is answered by another one, and dropped"})
	}
	if v4 && len(a.Ports) > 0 {
		all = append(all, localnet(name)) // for 127.0.0.1:port of the host; the firewall keeps others from it
	}
	return all
}

func (r *Routed) checkSettings(a *attach.Attachment) error {
	var errs []error
	for _, s := range r.settings(a) {
		have, err := proc.Read(s.path)
		if err == nil && have != s.value && have != "" && (s.why == "" || proc.Writable(s.path)) {
			err = fmt.Errorf("%s is %q, want %s", s.path, have, s.value)
		}
		errs = append(errs, err)
	}
	for _, path := range forwardingOf(a.HostIfName(), a) {
		if have, err := proc.Read(path); err == nil && have == "0" {
			errs = append(errs, fmt.Errorf("the host does not forward what comes by %s: %s is not 1", a.HostIfName(), path))
		}
	}
	return errors.Join(errs...)
}

// route has the host reach the container's addresses by its own end, and talk to them from
// the gateway. A container without an IPv6 default route could answer no address of the host
// but the link-local one.
func (r *Routed) route(c *iface.Conn, index int, a *attach.Attachment) error {
	if iface.HasIPv6(a) {
		if err := c.AwaitAddress(index, linkLocal(hostMAC(a.Key))); err != nil {
			return err
		}
	}
	var b iface.Batch
	for _, route := range hostRoutes(index, a) {
		b.Add(fmt.Sprintf("add route to %s by %s", route.Dst, a.HostIfName()), route.Put())
	}
	return b.Run(c)
}

// hostRoutes are the host's routes to the container.
func hostRoutes(index int, a *attach.Attachment) (all []rtnl.Route) {
	default6 := slices.ContainsFunc(a.Routes, func(r attach.Route) bool { return r.Dst.Bits() == 0 && r.Dst.Addr().Is6() })
	for _, addr := range a.Addresses {
		ip := addr.Prefix.Addr()
		route := rtnl.Route{Dst: netip.PrefixFrom(ip, ip.BitLen()), Index: index, Table: unix.RT_TABLE_MAIN,
			Protocol: protocolBerth, Type: unix.RTN_UNICAST}
		if ip.Is4() {
			route.Scope = unix.RT_SCOPE_LINK
		}
		if ip.Is4() || !default6 {
			route.Source = addr.Gateway
		}
		all = append(all, route)
	}
	return all
}

// checkRoutes tells whether the gateways and the routes are there.
func (r *Routed) checkRoutes(c *iface.Conn, host *rtnl.Link, a *attach.Attachment) error {
	have, err := c.Prefixes(host.Index)
	if err != nil {
		return err
	}
	var to []netip.Addr
	for _, addr := range a.Addresses {
		to = append(to, addr.Prefix.Addr())
		if addr.Gateway.IsValid() && !slices.ContainsFunc(have, func(p netip.Prefix) bool { return p.Addr() == addr.Gateway }) {
			return fmt.Errorf("interface %s lacks the gateway address %s", host.Name, addr.Gateway)
		}
	}
	found, err := c.RoutesTo(to...)
	if err != nil {
		return err
	}
	for i, ip := range to {
		if way := found[i]; way == nil || way.Index != host.Index || way.Type != unix.RTN_UNICAST {
			return fmt.Errorf("the host has no route to %s by interface %s", ip, host.Name)
		}
	}
	return nil
}

// restoreLinkLocal puts back the address that the kernel makes once only, when an interface
// comes up.
func (r *Routed) restoreLinkLocal(c *iface.Conn, index int, a *attach.Attachment) error {
	if !iface.HasIPv6(a) {
		return nil
	}
	err := c.Send(iface.NewAddress(index, netip.PrefixFrom(linkLocal(hostMAC(a.Key)), 64), false))
	if err != nil && !iface.IsErrno(err, unix.EEXIST) {
		return fmt.Errorf("add link-local address: %w", err)
	}
	return nil
}

// forwardingOf are the switches of what comes by an interface, where the host's own is on
// ([Forwarding]).
func forwardingOf(name string, a *attach.Attachment) (paths []string) {
	for _, family := range []struct {
		v4   bool
		name string
	}{{true, "ipv4"}, {false, "ipv6"}} {
		if on, err := Forwards(!family.v4); err != nil || !on {
			continue
		}
		if slices.ContainsFunc(a.Addresses, func(addr attach.Address) bool { return addr.Prefix.Addr().Is4() == family.v4 }) {
			paths = append(paths, proc.Net(family.name, "conf", name, "forwarding"))
		}
	}
	return paths
}
