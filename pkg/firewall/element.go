package firewall

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall/conntrack"
	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"golang.org/x/sys/unix"
)

// networkElements are what the network's rules ask for. unwanted are the
// memberships of the bridge that they do not ask for, and that other settings left.
func (r *Rules) networkElements() (wanted, unwanted []nftnl.Element) {
	name := nftnl.Name(r.Bridge)
	wanted = append(wanted,
		nftnl.Element{Set: bridges, Key: name},
		nftnl.Element{Set: same, Key: nftnl.Join(name, name)})
	for _, m := range []struct {
		set string
		on  bool
	}{
		{noICC, r.NoICC}, {internal, r.Internal}, {isolated, r.Isolate}, {named, r.Names}, {lan, r.Foreign},
		{protected4, r.Mode4.protects()}, {protected6, r.Mode6.protects()}, {direct4, r.Mode4 == Routed}, {direct6, r.Mode6 == Routed},
	} {
		e := nftnl.Element{Set: m.set, Key: name}
		if m.on {
			wanted = append(wanted, e)
		} else {
			unwanted = append(unwanted, e)
		}
	}
	if r.Overlay != "" {
		wanted = append(wanted, r.tunnel().networkElements()...)
	}
	if r.Group != 0 {
		wanted = r.grouped(wanted)
	}
	return wanted, unwanted
}

// grouped are the elements of a network without a bridge. What is of the container's own
// interface goes with the container. What others send from it back to itself comes by no
// other way than this host, and is masqueraded, or the container would drop it.
func (r *Rules) grouped(all []nftnl.Element) []nftnl.Element {
	all = slices.DeleteFunc(all, func(e nftnl.Element) bool {
		return e.Set == same && r.Overlay != "" && e.Names(r.Overlay) // which is in the group, too
	})
	for i := range all {
		all[i].Lasting = all[i].Lasting && !all[i].Names(r.Bridge)
	}
	return append(append(all, groupElement(r.Group)), (&Hairpin{Bridge: r.Bridge}).elements()...)
}

func groupElement(group uint32) nftnl.Element {
	g := nftnl.Host(group)
	return nftnl.Element{Set: groups, Key: nftnl.Join(g, g), Lasting: true}
}

// ofInterface are those that a container whose interface no other one is behind has of its
// network, of whatever settings.
func (r *Rules) ofInterface() []nftnl.Element {
	every := append(everyMembership(r.Bridge), nftnl.Element{Set: inside, Key: nftnl.Name(r.Bridge)})
	return slices.DeleteFunc(every, func(e nftnl.Element) bool { return !e.Names(r.Bridge) })
}

// everyMembership is all that bridges of networks of any settings have.
func everyMembership(bridge string) []nftnl.Element {
	every := &Rules{Bridge: bridge, Internal: true, Isolate: true, NoICC: true, Names: true, Foreign: true, Mode4: Routed, Mode6: Routed}
	all, _ := every.networkElements()
	return append(all, (&Hairpin{Bridge: bridge}).elements()...)
}

// containerElements are what one container adds. An error for a port of another protocol.
func (r *Rules) containerElements(a *attach.Attachment) ([]nftnl.Element, error) {
	hash := a.Hash()
	var all []nftnl.Element
	for _, addr := range a.Addresses {
		ip := addr.Prefix.Addr()
		own, hidden := own4, masq4
		switch {
		case ip.Is6() && r.Overlay != "":
			own, hidden = own6, routed6
		case ip.Is6():
			own, hidden = own6, masq6
		case r.Overlay != "":
			hidden = routed4
		}
		all = append(all, nftnl.Element{Set: own, Key: nftnl.Join(ip.AsSlice(), nftnl.Name(r.Bridge)), Comment: hash})
		if r.hides(ip.Is6()) {
			all = append(all, nftnl.Element{Set: hidden, Key: ip.AsSlice(), Comment: hash})
		}
	}
	if r.alone() {
		all = append(all, r.gatewayElements(a)...)
	}
	if s := spoofOf(a); s != nil && !s.Loose {
		all = append(all, r.heldElements(a)...)
	}
	forwards, err := forwards(a)
	for _, f := range forwards {
		set, key := ports4, []byte(nil)
		switch {
		case f.host.Is4() && !f.host.IsUnspecified():
			set, key = ports4IP, f.host.AsSlice()
		case f.host.Is6() && f.host.IsUnspecified():
			set = ports6
		case f.host.Is6():
			set, key = ports6IP, f.host.AsSlice()
		}
		key = nftnl.Join(key, []byte{f.proto}, nftnl.Port(f.hostPort))
		all = append(all, nftnl.Element{Set: set, Key: key, Value: nftnl.Join(f.to.Addr().AsSlice(), nftnl.Port(f.to.Port())), Comment: hash})
	}
	opened, bad := r.opened(a)
	for _, f := range opened {
		set := open4
		if f.to.Addr().Is6() {
			set = open6
		}
		key := nftnl.Join(f.to.Addr().AsSlice(), []byte{f.proto}, nftnl.Port(f.to.Port()))
		all = append(all, nftnl.Element{Set: set, Key: key, Comment: hash})
	}
	return all, errors.Join(err, bad)
}

// forward is a published port of one address family.
type forward struct {
	protocol string
	proto    uint8      // its number in the IP header
	host     netip.Addr // unspecified for all of the family
	hostPort uint16
	to       netip.AddrPort
}

// forwards are the attachment's published ports. One that is published on all
// addresses is published for the families that the container has, one on an
// address of a family that it does not have is not published.
func forwards(a *attach.Attachment) ([]forward, error) {
	var all []forward
	for _, p := range a.Ports {
		proto, ok := p.ProtocolNumber()
		if !ok {
			return nil, unknownProtocol(p)
		}
		for _, host := range p.HostIPs() {
			to, ok := firstOfFamily(a.Addresses, host)
			if ok {
				all = append(all, forward{p.Protocol, proto, host, p.HostPort, netip.AddrPortFrom(to, p.ContainerPort)})
			}
		}
	}
	return all, nil
}

// staleFlows are those of the attachment's ports whose protocol has no end of
// its own that the kernel sees.
func staleFlows(a *attach.Attachment, gone bool) []conntrack.Flows {
	forwards, _ := forwards(a)
	var all []conntrack.Flows
	for _, f := range forwards {
		if f.proto != unix.IPPROTO_TCP {
			all = append(all, conntrack.Flows{Protocol: f.protocol, Number: f.proto, Host: f.host, HostPort: f.hostPort, To: f.to.Addr(), Gone: gone})
		}
	}
	return all
}

// goneFlows are the stale flows of the ports that an attachment had, and has no more.
func goneFlows(before, now *attach.Attachment) []conntrack.Flows {
	gone := *before
	gone.Ports = slices.DeleteFunc(slices.Clone(before.Ports), func(p attach.Port) bool { return slices.Contains(now.Ports, p) })
	return staleFlows(&gone, true)
}

func unknownProtocol(p attach.Port) error {
	return fmt.Errorf("publish %s: protocol %q is none of tcp, udp, sctp", p, p.Protocol)
}

func firstOfFamily(addrs []attach.Address, like netip.Addr) (netip.Addr, bool) {
	for _, a := range addrs {
		if a.Prefix.Addr().Is4() == like.Is4() {
			return a.Prefix.Addr(), true
		}
	}
	return netip.Addr{}, false
}
