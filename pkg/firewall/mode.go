package firewall

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
)

// GatewayMode says how a network's containers and the outside reach each other, in one
// address family. The words are Docker's (gateway_mode_ipv4 and _ipv6, Docker 28).
//
// The outside is what is no Berth network: other hosts, and other bridges of this one.
// The host itself reaches its containers in every mode, and what somebody else
// translates (kube-proxy's services, another suite's portmap) is not kept from them.
type GatewayMode string

// The modes.
const (
	// Plain is what [Rules.Masquerade] says, and nothing is kept from the containers: the
	// reference's bridge.
	Plain GatewayMode = ""
	// NAT masquerades what containers send out, and lets in from outside only what is
	// published.
	NAT GatewayMode = "nat"
	// NATUnprotected masquerades, and lets in whatever is routed here.
	NATUnprotected GatewayMode = "nat-unprotected"
	// Routed translates nothing. From outside, ICMP and the container's side of published
	// ports are let in.
	Routed GatewayMode = "routed"
	// Isolated is a network without a gateway: nothing in or out. It takes
	// [Rules.Internal].
	Isolated GatewayMode = "isolated"
)

var modes = []GatewayMode{NAT, NATUnprotected, Routed, Isolated}

// ParseGatewayMode reads one. An error says which there are.
func ParseGatewayMode(word string) (GatewayMode, error) {
	var all []string
	for _, m := range modes {
		if string(m) == word {
			return m, nil
		}
		all = append(all, string(m))
	}
	return Plain, fmt.Errorf("%q: want one of %s", word, strings.Join(all, ", "))
}

// Mode is that of a family.
func (r *Rules) Mode(v6 bool) GatewayMode {
	if v6 {
		return r.Mode6
	}
	return r.Mode4
}

// hides tells whether the addresses of a family are masqueraded.
func (r *Rules) hides(v6 bool) bool {
	switch r.Mode(v6) {
	case NAT, NATUnprotected:
		return !r.NoMasquerade
	case Routed, Isolated:
		return false
	}
	return r.Masquerade
}

// protects tells whether only what is published is let in from outside.
func (m GatewayMode) protects() bool { return m == NAT || m == Routed }

// Publish splits ports by family: those that are to be claimed and translated are
// returned, those of a routed family are opened ([Rules.Open]), unless they are for the
// host's loopback alone: the host reaches the container by its own address. A port without
// an address is one of both families.
func (r *Rules) Publish(ports []attach.Port) (translated []attach.Port) {
	r.Open = nil
	for _, p := range ports {
		var left []attach.Port
		for _, host := range p.HostIPs() {
			one := p
			one.HostIP = host
			switch {
			case r.Mode(host.Is6()) != Routed:
				left = append(left, one)
			case !host.IsLoopback():
				r.Open = append(r.Open, one)
			}
		}
		if len(left) == len(p.HostIPs()) {
			left = []attach.Port{p}
		}
		translated = append(translated, left...)
	}
	return translated
}

// opened are the addresses and ports of the container that are let in from outside, of
// those of its families that are routed.
func (r *Rules) opened(a *attach.Attachment) (all []forward, err error) {
	for _, p := range r.Open {
		proto, ok := p.ProtocolNumber()
		if !ok {
			return nil, unknownProtocol(p)
		}
		for _, host := range p.HostIPs() {
			if to, ok := firstOfFamily(a.Addresses, host); ok && r.Mode(host.Is6()) == Routed {
				all = append(all, forward{p.Protocol, proto, host, p.HostPort, netip.AddrPortFrom(to, p.ContainerPort)})
			}
		}
	}
	return all, nil
}
