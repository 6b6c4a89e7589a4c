// Package bridged is what the modes share that put containers on a bridge of the
// host: the keys of their configuration, and how they meet the firewall.
package bridged

import (
	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/firewall/publish"
	"github.com/berth-cni/berth/pkg/ipam"
)

// Conf are the shared keys, those of the reference bridge (v1.10.0), with what is ours
// in [cni.Conf].
type Conf struct {
	cni.Conf
	Mode             string `json:"mode"` // bridge, or routed; see [Conf.Routed]
	IsDefaultGateway bool   `json:"isDefaultGateway"`
	IPMasq           *bool  `json:"ipMasq"` // nil: as the gateway modes say, or false
	IPMasqBackend    string `json:"ipMasqBackend"`
	GatewayModeIPv4  string `json:"gatewayModeIPv4"`
	GatewayModeIPv6  string `json:"gatewayModeIPv6"`
	HairpinMode      bool   `json:"hairpinMode"`
	PromiscMode      bool   `json:"promiscMode"`
	MACSpoofCheck    bool   `json:"macspoofchk"`
	IPSpoofCheck     bool   `json:"ipspoofchk"`
	EnableDAD        bool   `json:"enabledad"`
	PortIsolation    bool   `json:"portIsolation"`
}

// Validate notes the problems of the shared keys.
func (c *Conf) Validate(r *cni.Request) {
	if c.HairpinMode && c.PromiscMode {
		r.Refuse("hairpinMode", true, "cannot be together with promiscMode")
	}
	switch {
	case c.Mode != "" && c.Mode != "bridge" && c.Mode != routed:
		r.Refuse("mode", c.Mode, "want bridge or routed")
	case c.Routed():
		c.validateRouted(r)
	}
}

// Policy is what a network lets through, and what not.
type Policy struct {
	Internal bool // nothing in or out
	Isolate  bool // nothing to other isolated networks
	NoICC    bool // nothing between its containers
	Modes    Modes
}

// Rules are the firewall's for a container that the host reaches by an interface. The
// error is that the host lacks the firewall.
func (c *Conf) Rules(r *cni.Request, hostIf string, p Policy) (*firewall.Rules, error) {
	backend, err := r.FirewallBackend("ipMasqBackend", c.IPMasqBackend)
	if err == nil && c.Routed() && backend != firewall.NFTables {
		r.Refuse("mode", c.Mode, "takes the firewall backend nftables, not %s", backend)
	}
	rules := &firewall.Rules{Backend: backend, Bridge: hostIf, Internal: p.Internal, Isolate: p.Isolate, NoICC: p.NoICC,
		Names: r.WantsNames(), Mode4: p.Modes.IPv4, Mode6: p.Modes.IPv6}
	if c.IPMasq != nil && !p.Internal {
		rules.Masquerade, rules.NoMasquerade = *c.IPMasq, !*c.IPMasq
	}
	return rules, err
}

// Reflects tells whether ports of the bridge send back what the host translates, in frames
// to one container alone ([link.Veth]). A bridge that is promiscuous would take them twice.
func (c *Conf) Reflects() bool {
	return !c.PromiscMode && !c.HairpinMode && firewall.SpoofStatus() == nil
}

// Senders is the step that looks at what the container sends, if any does: one that is held
// to its addresses, or that a port sends frames back to.
func Senders(holds, reflects bool) attach.Step {
	if !holds && !reflects {
		return nil
	}
	return &firewall.Spoof{Echo: reflects, Loose: !holds}
}

// Settings are the words of which the firewall keeps something for the network.
func (c *Conf) Settings(p Policy) []string {
	var words []string
	for _, s := range []struct {
		on   bool
		word string
	}{{p.Internal, "internal"}, {p.Isolate, "isolate"}, {p.NoICC, "noicc"}, {c.Names, "names"}} {
		if s.on {
			words = append(words, s.word)
		}
	}
	return append(words, firewall.ModeWords(p.Modes.IPv4, p.Modes.IPv6)...)
}

// Ports is [cni.Request.Ports], unless nothing comes in. What the rules open instead of
// having it translated needs no port of the host. gateway says that the bridge has the
// gateways of the addresses.
func (c *Conf) Ports(r *cni.Request, rules *firewall.Rules, conf *ipam.Config, gateway bool) attach.Step {
	if rules.Internal {
		r.IgnorePorts("it is internal")
		return nil
	}
	step, ok := r.Ports(conf, gateway).(*publish.Ports)
	if !ok {
		return nil
	}
	for _, p := range step.Ports {
		if p.HostIP.IsLoopback() && rules.Mode(p.HostIP.Is6()) == firewall.Routed {
			r.Warn("runtimeConfig.portMappings", p.String(), "is not published: it is for the host alone, and the gateway mode routed translates nothing")
		}
	}
	step.Ports = rules.Publish(step.Ports)
	return step
}
