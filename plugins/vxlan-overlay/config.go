package main

import (
	"encoding/json"

	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/cni/bridged"
	"github.com/berth-cni/berth/pkg/firewall"
)

// config has the bridge's keys where they make sense. Its name is the network's in
// the store. What is the network's own (subnets, internal, isolate) is there, the
// same for every host.
type config struct {
	bridged.Conf

	// IPSpoofCheck is on unless it says no: all hosts trust what an address of the
	// network says.
	IPSpoofCheck *bool `json:"ipspoofchk"`

	// Refused, since they would seem to do something.
	Bridge json.RawMessage `json:"bridge"`
	MTU    json.RawMessage `json:"mtu"`
	VLAN   json.RawMessage `json:"vlan"`
	Trunk  json.RawMessage `json:"vlanTrunk"`
}

// holds tells whether a container is held to its addresses. A kernel that cannot do it is
// an error only where the configuration asks for it.
func (c *config) holds(r *cni.Request) bool {
	if c.IPSpoofCheck != nil {
		return *c.IPSpoofCheck
	}
	err := firewall.SpoofStatus()
	if err != nil {
		r.Warn("ipspoofchk", true, "is not possible on this host: its containers can speak as others: %v", err)
	}
	return err == nil
}

// validate notes every problem at the request, which reports all of them.
func (c *config) validate(r *cni.Request) {
	c.Validate(r)
	if !r.IPAM.Empty() {
		r.Refuse("ipam", string(c.IPAM), "want none: the addresses are those of the block that this host owns")
	}
	for _, k := range []struct {
		key   string
		value json.RawMessage
		why   string
	}{
		{"bridge", c.Bridge, "want none: it follows from the network's VNI"},
		{"mtu", c.MTU, "want none: it is the network's, 'berth network create --mtu'"},
		{"vlan", c.VLAN, "want none: an overlay network has no VLANs"},
		{"vlanTrunk", c.Trunk, "want none: an overlay network has no VLANs"},
	} {
		if len(k.value) > 0 && string(k.value) != "null" && string(k.value) != "0" {
			r.Refuse(k.key, string(k.value), "%s", k.why)
		}
	}
	for key, word := range map[string]string{"gatewayModeIPv4": c.GatewayModeIPv4, "gatewayModeIPv6": c.GatewayModeIPv6} {
		if word != "" {
			r.Refuse(key, word, "want none: an overlay network has no gateway modes")
		}
	}
	for _, k := range []struct {
		key string
		on  bool
	}{{"internal", c.Internal}, {"isolate", c.Isolate}, {"icc", c.NoICC()}} {
		if k.on {
			r.Refuse(k.key, k.key != "icc", "want none: it is the network's own on every host, 'berth network create'")
		}
	}
}
