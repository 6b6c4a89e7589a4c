package bridged

import (
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/firewall"
)

// Modes are the gateway modes of a network, by family.
type Modes struct{ IPv4, IPv6 firewall.GatewayMode }

// Modes are those of gatewayModeIPv4 and gatewayModeIPv6. An internal network has none
// but isolated: nothing comes in or goes out. A word that is none counts as not there:
// [Conf.ValidateModes] says it.
func (c *Conf) Modes() Modes {
	var m Modes
	for _, f := range c.families() {
		if mode, err := firewall.ParseGatewayMode(f.word); err == nil && (!c.Internal || mode == firewall.Isolated) {
			*f.mode(&m) = mode
		}
	}
	return m
}

// family is one with the key of its mode.
type family struct {
	v6        bool
	key, word string
}

func (c *Conf) families() [2]family {
	return [2]family{{false, "gatewayModeIPv4", c.GatewayModeIPv4}, {true, "gatewayModeIPv6", c.GatewayModeIPv6}}
}

func (f family) mode(m *Modes) *firewall.GatewayMode {
	if f.v6 {
		return &m.IPv6
	}
	return &m.IPv4
}

// name is the family as people call it.
func (f family) name() string {
	if f.v6 {
		return "IPv6"
	}
	return "IPv4"
}

// Isolated tells which families have no gateway.
func (m Modes) Isolated() (v4, v6 bool) {
	return m.IPv4 == firewall.Isolated, m.IPv6 == firewall.Isolated
}

// NoGateway tells whether none of the subnets' families has a gateway. Without subnets
// (another IPAM's are not known) the containers may have both.
func (m Modes) NoGateway(subnets []netip.Prefix) bool {
	v4, v6 := m.Isolated()
	if len(subnets) == 0 {
		return v4 && v6
	}
	return !slices.ContainsFunc(subnets, func(s netip.Prefix) bool { return s.Addr().Is4() && !v4 || s.Addr().Is6() && !v6 })
}

// ValidateModes notes the problems of the gateway modes on a network whose bridge has, or
// has not, the gateway.
func (c *Conf) ValidateModes(r *cni.Request, gateway bool) {
	for _, f := range c.families() {
		if f.word == "" {
			continue
		}
		mode, err := firewall.ParseGatewayMode(f.word)
		switch {
		case err != nil:
			r.Refuse(f.key, f.word, "want nat, nat-unprotected, routed or isolated")
		case mode == firewall.Isolated:
			c.validateIsolated(r, f)
		case r.Chained():
		case !gateway:
			r.Refuse(f.key, f.word, "want isGateway or isDefaultGateway, too: it says what the gateway does")
		case r.NoIPAM() && !r.Refused():
			r.Refuse(f.key, f.word, "want an ipam section: it is about the containers' addresses")
		}
		if mode == firewall.Routed && c.IPMasq != nil && *c.IPMasq {
			r.Refuse("ipMasq", true, "cannot be together with %s routed, which translates no address; nat masquerades by itself", f.key)
		}
		if err == nil && !c.has(r, f.v6) {
			r.Warn(f.key, f.word, "has no meaning: the network has no %s subnet", f.name())
		}
	}
}

// validateIsolated wants nothing beside the mode that needs a gateway.
func (c *Conf) validateIsolated(r *cni.Request, f family) {
	if !c.Internal {
		r.Refuse(f.key, f.word, "want internal true, too: a network without a gateway has no way in or out")
	}
	if c.IsDefaultGateway {
		r.Refuse("isDefaultGateway", true, "cannot be together with %s isolated, which has no gateway", f.key)
	}
	if r.Chained() {
		r.Refuse(f.key, f.word, "an earlier plugin of the chain has made the gateway")
	}
}

// has tells whether containers may have addresses of the family: of another IPAM nobody
// knows.
func (c *Conf) has(r *cni.Request, v6 bool) bool {
	subnets := r.IPAM.Subnets()
	return len(subnets) == 0 || slices.ContainsFunc(subnets, func(s netip.Prefix) bool { return s.Addr().Is6() == v6 })
}
