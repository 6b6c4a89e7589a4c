package bridged

import (
	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/firewall/allow"
	"github.com/berth-cni/berth/pkg/link"
)

// routed is the mode of a network without a bridge: the host routes to each container.
const routed = "routed"

// Routed tells whether the network has no bridge.
func (c *Conf) Routed() bool { return c.Mode == routed }

// validateRouted refuses what only a bridge can do, where something would be open without,
// and says of the rest that it has no meaning.
func (c *Conf) validateRouted(r *cni.Request) {
	if r.Chained() {
		r.Refuse("mode", c.Mode, "another plugin of the chain has made the interface")
		return
	}
	if c.PortIsolation {
		r.Refuse("portIsolation", true, "cannot be together with mode routed, which has no ports of a bridge: icc false keeps containers from each other")
	}
	for key, word := range map[string]string{"gatewayModeIPv4": c.GatewayModeIPv4, "gatewayModeIPv6": c.GatewayModeIPv6} {
		if word == string(firewall.Isolated) {
			r.Refuse(key, word, "cannot be together with mode routed: its containers reach each other by the gateway")
		}
	}
	for _, k := range []struct {
		key string
		on  bool
	}{{"hairpinMode", c.HairpinMode}, {"promiscMode", c.PromiscMode}} {
		if k.on {
			r.Warn(k.key, true, "has no meaning: mode routed makes no bridge")
		}
	}
}

// RoutedSteps are those of a container on a network without a bridge, but for the network
// itself, addresses and names: before is what its interface stands on, and behind what
// stands on that. The firewall's rules are told of the network's interfaces.
func (c *Conf) RoutedSteps(r *cni.Request, rules *firewall.Rules, pair link.Routed, holds bool) (before, behind []attach.Step) {
	rules.Bridge, rules.Group = r.HostEnd(), attach.Group(r.Conf.Name)
	pair.Group, pair.DAD = rules.Group, c.EnableDAD
	before = []attach.Step{
		&allow.Forward{Bridge: rules.Bridge, Group: rules.Group, Tunnel: rules.Overlay, Names: r.WantsNames()},
		&link.Forwarding{Gateway: true},
		&pair,
	}
	behind = []attach.Step{rules}
	if holds {
		behind = append(behind, &firewall.Spoof{Group: rules.Group})
	}
	return before, behind
}
