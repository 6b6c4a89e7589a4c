// Bridge gives a container an interface on a Linux bridge of the host: one end of
// a veth pair is a port of the bridge, the other end the container's interface.
// The bridge is the gateway; the firewall translates to the outside and publishes
// ports.
package main

import (
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/cni/bridged"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/firewall/allow"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/names"
)

var mode = cni.Mode{Name: "bridge", Chains: true, Config: func() cni.Config { return &config{Bridge: defaultBridge} }}

func main() { cni.Main(mode) }

// Replaces implements [cni.Replacer].
func (c *config) Replaces() link.ForeignKind { return link.ForeignKind{On: c.Bridge} }

// Plan implements [cni.Config].
func (c *config) Plan(r *cni.Request) ([]attach.Step, error) {
	c.validate(r)
	policy := c.policy()
	rules, err := c.Rules(r, c.hostInterface(r), policy)
	if err != nil {
		return nil, err
	}
	if r.Chained() {
		return c.chained(r, rules), nil
	}
	if c.Routed() {
		return c.routed(r, rules), nil
	}
	gateway := c.gateway(r)
	reflects := gateway && c.Reflects()
	isolated4, isolated6 := policy.Modes.Isolated()
	complete := &link.Gateway{Gateway: gateway, Isolated4: isolated4, Isolated6: isolated6, DefaultRoute: c.IsDefaultGateway && !c.Internal, NoDefault: c.Internal || r.KeepsDefaultRoute(),
		Priority: r.GatewayPriority(c.Internal)}
	steps := r.Addressed(r.IPAM, complete,
		c.Ports(r, rules, r.IPAM, gateway),
		&allow.Forward{Bridge: c.Bridge, Names: r.WantsNames()},
		&link.Forwarding{Gateway: gateway},
		&link.Bridge{Name: c.Bridge, MTU: c.MTU, Gateway: gateway, NoIPv6: isolated6, ForceAddress: c.ForceAddress,
			Promisc: c.PromiscMode, VLANs: c.filtersVLANs(), GatewayVLAN: c.VLAN, KeepDefaults: c.PreserveDefaultVLAN},
		&link.Veth{Bridge: c.Bridge, MTU: c.MTU, Hairpin: c.HairpinMode, Reflect: reflects, Isolated: c.PortIsolation,
			NoICC: policy.NoICC, MACSpoofCheck: c.MACSpoofCheck, VLAN: c.VLAN, Trunk: c.trunk,
			KeepDefaults: c.PreserveDefaultVLAN, DAD: c.EnableDAD, AcceptRA: r.AcceptRA(r.IPAM), Down: c.DisableContainerInterface})
	steps = slices.Concat([]attach.Step{c.network(r)}, steps, []attach.Step{rules, &firewall.Hairpin{Backend: rules.Backend, Bridge: c.Bridge}})
	return append(steps, bridged.Senders(c.IPSpoofCheck, reflects), c.names(r)), nil
}

// routed are the steps for a network without a bridge.
func (c *config) routed(r *cni.Request, rules *firewall.Rules) []attach.Step {
	before, behind := c.RoutedSteps(r, rules, link.Routed{Beside: c.Bridge, MTU: c.MTU, AcceptRA: r.AcceptRA(r.IPAM)}, c.IPSpoofCheck)
	complete := &link.Gateway{Gateway: true, Routed: true, DefaultRoute: c.IsDefaultGateway && !c.Internal, NoDefault: c.Internal || r.KeepsDefaultRoute(),
		Priority: r.GatewayPriority(c.Internal)}
	steps := r.Addressed(r.IPAM, complete, append([]attach.Step{c.Ports(r, rules, r.IPAM, true)}, before...)...)
	steps = slices.Concat([]attach.Step{c.network(r)}, steps, behind)
	return append(steps, r.Names(names.AnyInterface, c.Internal, nil))
}

// chained are the steps for an interface that an earlier plugin of the chain has made.
func (c *config) chained(r *cni.Request, rules *firewall.Rules) []attach.Step {
	if hostIf := r.HostIfName(); hostIf != "" {
		rules.Bridge = hostIf
	} else {
		rules.Bridge = c.Bridge
	}
	rules.Own = !link.IsBridge(rules.Bridge) // a veth that leads to this container alone
	steps := []attach.Step{
		c.network(r),
		c.Ports(r, rules, nil, false),
		&link.Forwarding{},
		&link.Localnet{Interface: rules.Bridge},
		&allow.Forward{Bridge: rules.Bridge, Own: rules.Own},
		rules,
	}
	if !rules.Own {
		steps = append(steps, &firewall.Hairpin{Backend: rules.Backend, Bridge: rules.Bridge})
	}
	return steps
}

// network is what the host remembers.
func (c *config) network(r *cni.Request) *attach.Network {
	n := &attach.Network{Name: c.Name, Plugin: "bridge", Link: c.Bridge, Ranges: r.IPAM.Spans(), Settings: c.Settings(c.policy())}
	if c.Routed() {
		n.Link = ""
	}
	if c.gateway(r) {
		n.Subnets = r.IPAM.Subnets()
	}
	return n
}

// names come in by the gateway.
func (c *config) names(r *cni.Request) attach.Step {
	if !c.gateway(r) {
		return nil
	}
	return r.Names(c.hostInterface(r), c.Internal, nil)
}
