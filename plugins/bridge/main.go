// Bridge gives a container an interface on a Linux bridge of the host: one end of
// a veth pair is a port of the bridge, the other end the container's interface.
// The bridge is the gateway; the firewall translates to the outside and publishes
// ports.
package main

import (
	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/link"
)

func main() {
	cni.Main(cni.Mode{Name: "bridge", Config: func() cni.Config { return &config{Bridge: "cni0"} }})
}

// Plan implements [cni.Config].
func (c *config) Plan(r *cni.Request) (*cni.Plan, error) {
	c.validate(r)
	backend, err := r.FirewallBackend("ipMasqBackend", c.IPMasqBackend)
	if err != nil {
		return nil, err
	}
	rules := func(hostIf string) *firewall.Rules {
		return &firewall.Rules{Backend: backend, Bridge: hostIf,
			Masquerade: c.IPMasq && !c.Internal, Internal: c.Internal, Isolate: c.Isolate, NoICC: c.noICC(), Names: r.WantsNames()}
	}
	plan := &cni.Plan{
		Network:      attach.Network{Name: c.Name, Plugin: "bridge", Link: c.Bridge, Settings: c.settings()},
		Gateway:      c.gateway(),
		DefaultRoute: c.IsDefaultGateway && !c.Internal,
		Internal:     c.Internal,
		Once:         []attach.Step{&firewall.Forward{Bridge: c.Bridge, Names: r.WantsNames()}},
		Steps: []attach.Step{
			&link.Forwarding{Gateway: c.gateway()},
			&link.Bridge{Name: c.Bridge, MTU: c.MTU, Gateway: c.gateway(), ForceAddress: c.ForceAddress,
				Promisc: c.PromiscMode, VLANs: c.filtersVLANs(), GatewayVLAN: c.VLAN, KeepDefaults: c.PreserveDefaultVLAN},
			&link.Veth{Bridge: c.Bridge, MTU: c.MTU, Hairpin: c.HairpinMode, Isolated: c.PortIsolation,
				NoICC: c.noICC(), MACSpoofCheck: c.MACSpoofCheck, VLAN: c.VLAN, Trunk: c.trunk,
				KeepDefaults: c.PreserveDefaultVLAN, DAD: c.EnableDAD, Down: c.DisableContainerInterface},
			rules(c.hostInterface()),
		},
		Chained: func(hostIf string) []attach.Step {
			if hostIf == "" {
				hostIf = c.Bridge
			}
			r := rules(hostIf)
			r.Own = !link.IsBridge(hostIf) // a veth that leads to this container alone
			return []attach.Step{&link.Forwarding{}, &link.Localnet{Interface: hostIf}, &firewall.Forward{Bridge: hostIf, Own: r.Own}, r}
		},
	}
	if c.gateway() {
		plan.NamesBridge = c.hostInterface()
	}
	return plan, nil
}
