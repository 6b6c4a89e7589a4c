package link

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/proc"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"golang.org/x/sys/unix"
)

// errChanged is about what only a bridge has that Berth made.
var errChanged = errors.New("is not as Berth made it")

// look returns the bridge, and behind it the interface with the gateway of a VLAN, and
// the first thing that is not as Add would make it. It asks what the kernel answers
// without its interface lock, so that an ADD can.
func (b *Bridge) look(c *iface.Conn, a *attach.Attachment) (found []*rtnl.Link, fault error) {
	d, err := c.Glance(b.Name)
	if err != nil {
		return nil, err
	}
	gateway := d
	found = []*rtnl.Link{d}
	if b.Gateway && b.GatewayVLAN != 0 {
		if gateway, err = c.Glance(b.vlanInterface()); err != nil {
			return nil, err
		}
		found = append(found, gateway)
	}
	for _, i := range found {
		if i.Flags&unix.IFF_UP == 0 {
			return found, fmt.Errorf("bridge %s is down", i.Name)
		}
	}
	if b.Promisc && d.Flags&unix.IFF_PROMISC == 0 {
		return found, fmt.Errorf("bridge %s is not promiscuous", b.Name)
	}
	for _, s := range b.settings(gateway.Name, a) {
		have, err := proc.Read(s.path)
		if err == nil && (have == s.value || have == "" || b.leaves(c, d, s) || s.why != "" && !proc.Writable(s.path)) {
			continue
		}
		if err != nil || have != s.value {
			return found, errors.Join(err, fmt.Errorf("%s is %q, want %s", s.path, have, s.value))
		}
	}
	if fault := b.lookOutward(c, d, gateway, a); fault != nil {
		return found, fault
	}
	if want := bridgeMAC(b.Name); !slices.Equal(d.MAC, want) {
		return found, fmt.Errorf("bridge %s has the MAC %s, and %w, with %s", b.Name, d.MAC, errChanged, want)
	}
	return found, nil
}

// lookOutward looks at the routes that the bridge has to have and at its MTU.
func (b *Bridge) lookOutward(c *iface.Conn, d, gateway *rtnl.Link, a *attach.Attachment) error {
	to := []netip.Addr{iface.Outside4, iface.Outside6}
	gws := gateways(a)
	if !b.Gateway {
		gws = nil
	}
	for _, gw := range gws {
		to = append(to, gw.Addr(), neighbourIn(gw))
	}
	found, err := c.RoutesTo(to...)
	if err != nil {
		return err
	}
	for i, gw := range gws {
		own, beside := found[2+2*i], found[3+2*i]
		there := own != nil && own.Type == unix.RTN_LOCAL && own.Index == gateway.Index
		if gw.Addr().Is4() && !there && own != nil && own.Type == unix.RTN_LOCAL {
			// Interfaces of containers may have it, too: of a network that had no bridge.
			have, err := c.Prefixes(gateway.Index)
			if err != nil {
				return err
			}
			there = slices.Contains(have, gw)
		}
		if gw.Addr().Is6() { // whose route comes a moment after the address
			if there, err = c.HasAddress6(gateway.Index, gw.Addr()); err != nil {
				return err
			}
		}
		if !there {
			return fmt.Errorf("bridge %s lacks its gateway address %s", gateway.Name, gw)
		}
		if gw.IsSingleIP() || beside != nil && beside.Index == gateway.Index {
			continue
		}
		if there, err := c.Connected(gateway.Index, gw); err != nil || !there { // else the host's own routing policy has another way
			return errors.Join(err, fmt.Errorf("the host has no route to %s by bridge %s", gw.Masked(), gateway.Name))
		}
	}
	mtu := b.MTU
	if mtu == 0 {
		if _, mtu, err = c.OutOf(found[:2]); err != nil {
			return err
		}
	}
	if b.tooLarge(d, mtu) {
		return fmt.Errorf("bridge %s has MTU %d, more than the %d of the way out, and %w", b.Name, d.MTU, mtu, errChanged)
	}
	return nil
}

// setting is a value of /proc/sys.
type setting struct {
	path, value string
	why         string      // what another value means, if it only protects; empty: it is needed
	harms       func() bool // whether that is so now; nil: it is
	inet        uint16      // its number for [rtnl.SetInet]; 0: it has none
}

// set writes the setting of a link, by netlink where /proc/sys is read-only and there is a
// way. One that only protects is left then, and said.
func (s setting) set(c *iface.Conn, index int, warn func(string, ...any)) error {
	_, err := proc.Set(s.path, s.value)
	if !proc.IsReadOnly(err) {
		return err
	}
	if s.inet != 0 {
		value, _ := strconv.Atoi(s.value)
		return c.Send(rtnl.SetInet(index, s.inet, uint32(value)))
	}
	if s.why == "" {
		return err
	}
	if s.harms != nil && !s.harms() {
		return nil
	}
	warn("%s cannot be set to %s: %s", s.path, s.value, s.why)
	return nil
}

// leaves tells whether a setting is not to be touched: the host's own LAN bridge, which
// its way out goes by or a port of which leads to no container, takes router
// advertisements or not as its administrator has it, and a bridge that Berth did not make
// keeps its IPv6 and its filter of senders. It may list the links, for a bridge that somebody else made and that
// takes advertisements.
func (b *Bridge) leaves(c *iface.Conn, d *rtnl.Link, s setting) bool {
	others := s.value == "1" && s.path == proc.Net("ipv6", "conf", b.Name, "disable_ipv6") || strings.HasSuffix(s.path, "/rp_filter")
	if !others && s.path != proc.Net("ipv6", "conf", b.Name, "accept_ra") {
		return false
	}
	if i, err := c.LinkByName(b.Name); err != nil || i.Alias == iface.SharedAlias {
		return false
	}
	if others {
		return true
	}
	found, err := c.RoutesTo(iface.Outside4, iface.Outside6)
	if err == nil && slices.ContainsFunc(found, func(r *rtnl.Route) bool {
		return r != nil && r.Type == unix.RTN_UNICAST && (r.Index == d.Index || slices.Contains(r.Hops[:], d.Index))
	}) {
		return true
	}
	all, err := c.Links()
	return err == nil && slices.ContainsFunc(all, func(p *rtnl.Link) bool { return p.Master == d.Index && !leadsToContainer(p) })
}

// leadsToContainer tells whether a port is the host's end of a veth pair of a container, as
// all suites name it.
func leadsToContainer(p *rtnl.Link) bool {
	return p.Kind == "veth" && p.Away && strings.HasPrefix(p.Name, "veth")
}

// takesAdvertisements tells whether an interface takes those of a router: one that forwards
// does only if accept_ra is 2.
func takesAdvertisements(name string) bool {
	accept, _ := proc.Read(proc.Net("ipv6", "conf", name, "accept_ra"))
	forwards, _ := proc.Read(proc.Net("ipv6", "conf", name, "forwarding"))
	return accept == "2" || accept == "1" && forwards == "0"
}

// strictReversePath tells whether the kernel drops what comes by an interface that its sender
// is not reached by (RFC 3704, section 2.2): the larger value of the interface and of all
// counts (Documentation/networking/ip-sysctl.rst, rp_filter).
func strictReversePath(name string) bool {
	const strict, loose = "1", "2"
	own, _ := proc.Read(proc.Net("ipv4", "conf", name, "rp_filter"))
	if own == loose {
		return false
	}
	all, _ := proc.Read(proc.Net("ipv4", "conf", "all", "rp_filter"))
	return all != loose && (own == strict || all == strict)
}

// settings are those of the bridge. on is the interface with the gateway.
func (b *Bridge) settings(on string, a *attach.Attachment) []setting {
	// No router advertisement of a container may change the host's routes
	// (CVE-2020-10749).
	all := []setting{{path: proc.Net("ipv6", "conf", b.Name, "accept_ra"), value: "0",
		why: "a container can make itself this host's router", harms: func() bool { return takesAdvertisements(b.Name) }}}
	if b.NoIPv6 {
		all = append(all, setting{path: proc.Net("ipv6", "conf", b.Name, "disable_ipv6"), value: "1", why: "this host can be reached there by IPv6"})
	}
	if !b.Gateway && len(a.Ports) == 0 {
		return all
	}
	var v4, v6 bool
	for _, addr := range a.Addresses {
		v4 = v4 || addr.Prefix.Addr().Is4()
		v6 = v6 || addr.Prefix.Addr().Is6()
	}
	if v6 && !b.NoIPv6 {
		all = append(all, setting{path: proc.Net("ipv6", "conf", on, "disable_ipv6"), value: "0"})
	}
	if v4 && b.Gateway && strictReversePath(on) {
		// A container of several networks answers all of them by its default route.
		all = append(all, setting{path: proc.Net("ipv4", "conf", on, "rp_filter"), value: "2",
			why: "what a container of several networks publishes here is answered by another one, and dropped"})
	}
	if v4 && len(a.Ports) > 0 {
		// For 127.0.0.1:port of the host; the firewall keeps others from it.
		all = append(all, localnet(on))
	}
	return all
}
