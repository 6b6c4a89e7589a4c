package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/cni/bridged"
	"github.com/berth-cni/berth/pkg/link"
)

// config is the reference bridge's (v1.10.0), with what is ours in [cni.Conf].
type config struct {
	bridged.Conf
	Bridge                    string          `json:"bridge"`
	IsGateway                 bool            `json:"isGateway"`
	ForceAddress              bool            `json:"forceAddress"`
	MTU                       int             `json:"mtu"`
	VLAN                      int             `json:"vlan"`
	VLANTrunk                 json.RawMessage `json:"vlanTrunk"` // []vlanRange
	PreserveDefaultVLAN       bool            `json:"preserveDefaultVlan"`
	DisableContainerInterface bool            `json:"disableContainerInterface"`
	HostBindingIPv4           string          `json:"hostBindingIPv4"`

	trunk []int // VLANTrunk, sorted
}

const defaultBridge = "cni0"

// vlanRange is one ID, a range of them, or both.
type vlanRange struct {
	MinID *int `json:"minID"`
	MaxID *int `json:"maxID"`
	ID    *int `json:"id"`
}

// validate notes every problem at the request, which reports all of them.
func (c *config) validate(r *cni.Request) {
	c.Validate(r)
	if err := cni.ValidIfName(c.Bridge); err != nil {
		r.Refuse("bridge", c.Bridge, "%v", err)
	}
	r.ValidMTU(c.MTU, link.MaxMTU, "that of the default route's device", r.IPAM.Subnets())
	if c.VLAN < 0 || c.VLAN > link.MaxVLAN {
		r.Refuse("vlan", c.VLAN, "want 0 (none) to %d", link.MaxVLAN)
	}
	if c.DisableContainerInterface && len(c.IPAM) > 0 && string(c.IPAM) != "{}" && string(c.IPAM) != "null" {
		r.Refuse("disableContainerInterface", true, "cannot be together with ipam")
	}
	c.readTrunk(r)
	c.bindPorts(r)
	if c.Routed() {
		c.validateRouted(r)
	}
	c.ValidateModes(r, c.IsGateway || c.IsDefaultGateway || c.Routed())
	if c.IPSpoofCheck && r.NoIPAM() && !r.Chained() && !r.Refused() {
		r.Refuse("ipspoofchk", true, "want an ipam section: it holds a container to its addresses")
	}
}

// validateRouted wants nothing of a bridge that a network without one cannot have.
func (c *config) validateRouted(r *cni.Request) {
	if r.NoIPAM() && !r.Refused() {
		r.Refuse("mode", c.Mode, "want an ipam section: the host routes to the containers' addresses")
	}
	if r.IPAM.Type == "dhcp" {
		r.Refuse("ipam.type", r.IPAM.Type, "cannot be together with mode routed, where no DHCP server is on the container's link")
	}
	const noPorts = "cannot be together with mode routed, which makes no bridge"
	if c.VLAN != 0 {
		r.Refuse("vlan", c.VLAN, noPorts)
	}
	if len(c.trunk) > 0 {
		r.Refuse("vlanTrunk", string(c.VLANTrunk), noPorts)
	}
	if c.DisableContainerInterface {
		r.Refuse("disableContainerInterface", true, noPorts)
	}
}

// bindPorts publishes the ports for which nobody has said an address of the host on the
// network's own.
func (c *config) bindPorts(r *cni.Request) {
	if c.HostBindingIPv4 == "" {
		return
	}
	if a, err := netip.ParseAddr(c.HostBindingIPv4); err != nil || !a.Is4() || a.IsMulticast() {
		r.Refuse("hostBindingIPv4", c.HostBindingIPv4, "want an IPv4 address of this host")
		return
	}
	for i := range c.Runtime.PortMappings {
		if m := &c.Runtime.PortMappings[i]; m.HostIP == "" {
			m.HostIP = c.HostBindingIPv4
		}
	}
}

func (c *config) readTrunk(r *cni.Request) {
	var ranges []vlanRange
	if !r.Decode("vlanTrunk", c.VLANTrunk, &ranges) {
		return
	}
	for i, v := range ranges {
		key := fmt.Sprintf("vlanTrunk[%d]", i)
		if v.ID != nil {
			if *v.ID < 1 || *v.ID > link.MaxVLAN {
				r.Refuse(key+".id", *v.ID, "want 1 to %d", link.MaxVLAN)
			} else {
				c.trunk = append(c.trunk, *v.ID)
			}
		}
		if v.MinID == nil && v.MaxID == nil {
			continue
		}
		if v.MinID == nil || v.MaxID == nil {
			r.Refuse(key, "minID, maxID", "want both or none")
			continue
		}
		if *v.MinID < 1 || *v.MaxID > link.MaxVLAN || *v.MinID > *v.MaxID {
			r.Refuse(key, fmt.Sprintf("%d to %d", *v.MinID, *v.MaxID), "want 1 <= minID <= maxID <= %d", link.MaxVLAN)
			continue
		}
		for id := *v.MinID; id <= *v.MaxID; id++ {
			c.trunk = append(c.trunk, id)
		}
	}
	slices.Sort(c.trunk)
	c.trunk = slices.Compact(c.trunk)
}

// gateway tells whether the bridge is that of the network's containers.
func (c *config) gateway(r *cni.Request) bool {
	return (c.IsGateway || c.IsDefaultGateway || c.Routed()) && !c.Modes().NoGateway(r.IPAM.Subnets())
}

func (c *config) policy() bridged.Policy {
	return bridged.Policy{Internal: c.Internal, Isolate: c.Isolate, NoICC: c.NoICC(), Modes: c.Modes()}
}

func (c *config) filtersVLANs() bool { return c.VLAN != 0 || len(c.trunk) > 0 }

// hostInterface is the one that the host reaches the containers through.
func (c *config) hostInterface(r *cni.Request) string {
	if c.VLAN != 0 && c.gateway(r) {
		return fmt.Sprintf("%s.%d", c.Bridge, c.VLAN)
	}
	return c.Bridge
}
