package firewall

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"github.com/berth-cni/berth/pkg/internal/xtables"
)

// Held is what the firewall holds for one attachment, found by its hash alone: what
// [Rules] would have been told.
type Held struct {
	Rules
	Addresses []netip.Addr
	Ports     []attach.Port
	Spoof     bool // its senders are checked
	Echo      bool // what it sends to many does not come back to it

	senders  []nftnl.Element         // of [Spoof]
	elements []nftnl.Element         // of nftables
	texts    map[bool][]xtables.Rule // of iptables, by family (true: IPv6)
}

// ListHeld returns what the firewall holds for each attachment, by [attach.Key.Hash]. It
// lists all there is: it is for one whose record is lost.
func ListHeld(ctx context.Context) (map[string]*Held, error) {
	l := &heldList{by: map[string]*Held{}}
	if err := errors.Join(l.nftables(), l.spoof(), l.iptables(ctx)); err != nil {
		return nil, fmt.Errorf("list what the firewall holds: %w", err)
	}
	for _, h := range l.by {
		h.mergePorts()
	}
	return l.by, nil
}

// Forget deletes all that the firewall holds for the attachment of a hash, whatever it
// is. Nothing of that hash counts as deleted.
func Forget(ctx context.Context, hash string) error {
	all, err := ListHeld(ctx)
	h := all[hash]
	if err != nil || h == nil {
		return err
	}
	if err = errors.Join(h.removeElements(), h.removeTexts(), h.removeSenders()); err != nil {
		return fmt.Errorf("delete firewall rules with the mark %s: %w", hash, err)
	}
	a := &attach.Attachment{Ports: h.Ports}
	for _, ip := range h.Addresses {
		a.Addresses = append(a.Addresses, attach.Address{Prefix: netip.PrefixFrom(ip, ip.BitLen())})
	}
	return forgetFlows(a, true)
}

func (h *Held) removeElements() error {
	if len(h.elements) == 0 {
		return nil
	}
	s, err := dial()
	if err != nil {
		return err
	}
	return s.Remove(h.elements)
}

// mergePorts makes one of a port that is published for both families alike.
func (h *Held) mergePorts() {
	slices.SortFunc(h.Ports, func(a, b attach.Port) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.HostPort, b.HostPort), a.HostIP.Compare(b.HostIP))
	})
	h.Ports = slices.Compact(h.Ports)
	for i := 0; i+1 < len(h.Ports); i++ {
		both := h.Ports[i]
		both.HostIP = netip.IPv6Unspecified()
		if h.Ports[i].HostIP == netip.IPv4Unspecified() && h.Ports[i+1] == both {
			h.Ports[i].HostIP = netip.Addr{}
			h.Ports = slices.Delete(h.Ports, i+1, i+2)
		}
	}
}

// heldList gathers.
type heldList struct{ by map[string]*Held }

// of is what is held for a hash by a backend.
func (l *heldList) of(hash, backend string) *Held {
	h := l.by[hash]
	if h == nil {
		h = &Held{Rules: Rules{Backend: backend}, texts: map[bool][]xtables.Rule{}}
		l.by[hash] = h
	}
	return h
}

// address adds one, which is reached by an interface.
func (h *Held) address(ip netip.Addr, bridge string) {
	h.Bridge = bridge
	if !slices.Contains(h.Addresses, ip) {
		h.Addresses = append(h.Addresses, ip)
	}
}

// nftables reads our table; nothing when there is none.
func (l *heldList) nftables() error {
	s, err := dial()
	if err != nil {
		return err
	}
	for _, set := range []string{own4, own6, masq4, masq6, routed4, routed6, ports4, ports6, ports4IP, ports6IP, open4, open6, gateways4, gateways6, heldPorts, spoofContainers, spoofAlso4, spoofAlso6} {
		all, err := s.List(set)
		if nftnl.Absent(err) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range all {
			if attach.IsHash(e.Comment) {
				l.add(e)
			}
		}
	}
	for bridge, set := range l.bridges(NFTables) {
		var protects, routes [2]bool
		for _, m := range []struct {
			set string
			is  *bool
		}{
			{noICC, &set.NoICC}, {internal, &set.Internal}, {isolated, &set.Isolate}, {named, &set.Names}, {lan, &set.Foreign},
			{protected4, &protects[0]}, {protected6, &protects[1]}, {direct4, &routes[0]}, {direct6, &routes[1]},
		} {
			there, err := s.Have([]nftnl.Element{{Set: m.set, Key: nftnl.Name(bridge)}})
			if err != nil {
				return err
			}
			*m.is = there[0]
		}
		set.Mode4, set.Mode6 = modeOf(protects[0], routes[0]), modeOf(protects[1], routes[1])
		l.settle(NFTables, bridge, set)
	}
	return nil
}

// bridges are the interfaces that containers of a backend are behind.
func (l *heldList) bridges(backend string) map[string]*Rules {
	all := map[string]*Rules{}
	for _, h := range l.by {
		if h.Backend == backend && h.Bridge != "" && all[h.Bridge] == nil {
			all[h.Bridge] = &Rules{}
		}
	}
	return all
}

// settle gives the containers behind an interface what its network has.
func (l *heldList) settle(backend, bridge string, n *Rules) {
	for _, h := range l.by {
		if h.Backend == backend && h.Bridge == bridge {
			h.Internal, h.Isolate, h.NoICC, h.Names, h.Foreign = n.Internal, n.Isolate, n.NoICC, n.Names, n.Foreign
			h.Mode4, h.Mode6 = n.Mode4, n.Mode6
		}
	}
}

// add reads an element, whose fields are those that [Rules.containerElements] writes.
func (l *heldList) add(e nftnl.Element) {
	h := l.of(e.Comment, NFTables)
	h.elements = append(h.elements, e)
	switch e.Set {
	case own4, own6:
		n := 4
		if e.Set == own6 {
			n = 16
		}
		if len(e.Key) >= n {
			h.address(netlink.Addr(e.Key[:n]), netlink.Text(e.Key[n:]))
		}
	case masq4, masq6, routed4, routed6:
		h.Masquerade = true
	case heldPorts, spoofContainers, spoofAlso4, spoofAlso6:
		h.Spoof = true
	case gateways4, gateways6: // which go with the interface
	case open4, open6:
		if p, ok := openOf(e); ok {
			h.Open = append(h.Open, p)
		}
	default:
		if p, ok := portOf(e); ok {
			h.Ports = append(h.Ports, p)
		}
	}
}

// modeOf is the mode that has its network's bridge in these sets. That others masquerade
// is known of each container.
func modeOf(protects, routes bool) GatewayMode {
	switch {
	case routes:
		return Routed
	case protects:
		return NAT
	}
	return Plain
}

// openOf reads an element of a set of opened ports. Which port of the host was asked for
// is not in it, and means nothing.
func openOf(e nftnl.Element) (p attach.Port, ok bool) {
	n, all := 4, netip.IPv4Unspecified()
	if e.Set == open6 {
		n, all = 16, netip.IPv6Unspecified()
	}
	const field, port = 4, 2 // bytes
	if len(e.Key) < n+field+port {
		return p, false
	}
	p.HostIP, p.Protocol = all, attach.ProtocolName(e.Key[n])
	p.ContainerPort = binary.BigEndian.Uint16(e.Key[n+field:])
	p.HostPort = p.ContainerPort
	return p, p.Protocol != ""
}

// portOf reads an element of a map of ports.
func portOf(e nftnl.Element) (p attach.Port, ok bool) {
	key, n := e.Key, 4
	switch e.Set {
	case ports4:
		p.HostIP = netip.IPv4Unspecified()
	case ports6:
		p.HostIP, n = netip.IPv6Unspecified(), 16
	case ports6IP:
		n = 16
		fallthrough
	case ports4IP:
		if len(key) < n {
			return p, false
		}
		p.HostIP, key = netlink.Addr(key[:n]), key[n:]
	}
	const field, port = 4, 2 // bytes
	if len(key) < field+port || len(e.Value) < n+port {
		return p, false
	}
	p.Protocol = attach.ProtocolName(key[0])
	p.HostPort, p.ContainerPort = binary.BigEndian.Uint16(key[field:]), binary.BigEndian.Uint16(e.Value[n:])
	return p, p.Protocol != ""
}
