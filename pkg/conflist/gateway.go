package conflist

import (
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/firewall"
)

// gatewayModes sets the mode of each family that the network has a subnet of, nat unless
// another is asked for, and what follows from it. An internal network has none but
// isolated.
func (p *plan) gatewayModes() {
	isolated := 0
	for _, f := range []struct {
		v6   bool
		name string
		mode *firewall.GatewayMode
	}{{false, "ipv4", &p.conf.GatewayModeIPv4}, {true, "ipv6", &p.conf.GatewayModeIPv6}} {
		i := slices.IndexFunc(p.ranges, func(r Range) bool { return r.Subnet.Addr().Is6() == f.v6 })
		flag := "--gateway-mode-" + f.name
		switch {
		case i < 0 && *f.mode != "" && len(p.errs) == 0:
			p.refuse("%s: %s: the network has no subnet of this family", flag, *f.mode)
		case i < 0:
		case *f.mode == "" && !p.Internal:
			*f.mode = firewall.NAT
		case *f.mode == firewall.Routed && p.conf.IPMasq != nil && *p.conf.IPMasq:
			p.refuse("--opt: ipMasq=true: cannot be together with %s routed", flag)
		case *f.mode != firewall.Isolated:
		case !p.Internal:
			p.refuse("%s: isolated: want --internal, too: a network without a gateway has no way in or out", flag)
		default:
			isolated++
			p.noGateway(f.v6, flag)
		}
	}
	if isolated > 0 && isolated == len(p.ranges) { // names are asked for at the gateway
		p.conf.IsGateway, p.conf.Names = false, false
		delete(p.conf.Capabilities, "aliases")
	}
	if p.conf.IPMasq == nil && !p.Internal && p.conf.GatewayModeIPv4 != firewall.Routed && p.conf.GatewayModeIPv6 != firewall.Routed {
		on := true // for a plugin that does not know the modes
		p.conf.IPMasq = &on
	}
}

// noGateway takes the gateways of a family from its ranges.
func (p *plan) noGateway(v6 bool, flag string) {
	for i, r := range p.ranges {
		if r.Subnet.Addr().Is6() != v6 {
			continue
		}
		if slices.Contains(p.Gateways, r.Gateway) {
			p.refuse("--gateway: %s: cannot be together with %s isolated", r.Gateway, flag)
		}
		p.ranges[i].Gateway = netip.Addr{}
	}
}
