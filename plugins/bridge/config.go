package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/cni"
)

// config is the reference bridge's (v1.9.1), with what is ours in [cni.Conf].
type config struct {
	cni.Conf
	Bridge                    string          `json:"bridge"`
	IsGateway                 bool            `json:"isGateway"`
	IsDefaultGateway          bool            `json:"isDefaultGateway"`
	ForceAddress              bool            `json:"forceAddress"`
	IPMasq                    bool            `json:"ipMasq"`
	IPMasqBackend             string          `json:"ipMasqBackend"`
	MTU                       int             `json:"mtu"`
	HairpinMode               bool            `json:"hairpinMode"`
	PromiscMode               bool            `json:"promiscMode"`
	VLAN                      int             `json:"vlan"`
	VLANTrunk                 json.RawMessage `json:"vlanTrunk"` // []vlanRange
	PreserveDefaultVLAN       bool            `json:"preserveDefaultVlan"`
	MACSpoofCheck             bool            `json:"macspoofchk"`
	EnableDAD                 bool            `json:"enabledad"`
	DisableContainerInterface bool            `json:"disableContainerInterface"`
	PortIsolation             bool            `json:"portIsolation"`

	trunk []int // VLANTrunk, sorted
}

// vlanRange is one ID, a range of them, or both.
type vlanRange struct {
	MinID *int `json:"minID"`
	MaxID *int `json:"maxID"`
	ID    *int `json:"id"`
}

// validate notes every problem at the request, which reports all of them.
func (c *config) validate(r *cni.Request) {
	if err := cni.ValidIfName(c.Bridge); err != nil {
		r.Refuse("bridge", c.Bridge, "%v", err)
	}
	const minMTU, minMTU6, maxMTU = 68, 1280, 65535 // RFC 791, RFC 8200
	if c.MTU != 0 && (c.MTU < minMTU || c.MTU > maxMTU) {
		r.Refuse("mtu", c.MTU, "want %d to %d bytes, or 0 for that of the default route's device", minMTU, maxMTU)
	} else if c.MTU != 0 && c.MTU < minMTU6 && slices.ContainsFunc(r.IPAM.Subnets(), func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		r.Refuse("mtu", c.MTU, "want at least %d bytes for IPv6", minMTU6)
	}
	if c.VLAN < 0 || c.VLAN > maxVLAN {
		r.Refuse("vlan", c.VLAN, "want 0 (none) to %d", maxVLAN)
	}
	if c.HairpinMode && c.PromiscMode {
		r.Refuse("hairpinMode", true, "cannot be together with promiscMode")
	}
	if c.DisableContainerInterface && len(c.IPAM) > 0 && string(c.IPAM) != "{}" && string(c.IPAM) != "null" {
		r.Refuse("disableContainerInterface", true, "cannot be together with ipam")
	}
	c.readTrunk(r)
}

const maxVLAN = 4094 // IEEE 802.1Q

func (c *config) readTrunk(r *cni.Request) {
	var ranges []vlanRange
	if len(c.VLANTrunk) > 0 {
		if err := json.Unmarshal(c.VLANTrunk, &ranges); err != nil {
			r.Refuse("vlanTrunk", string(c.VLANTrunk), "want a list of {id} or {minID, maxID}: %v", err)
		}
	}
	for i, v := range ranges {
		key := fmt.Sprintf("vlanTrunk[%d]", i)
		if v.ID != nil {
			if *v.ID < 1 || *v.ID > maxVLAN {
				r.Refuse(key+".id", *v.ID, "want 1 to %d", maxVLAN)
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
		if *v.MinID < 1 || *v.MaxID > maxVLAN || *v.MinID > *v.MaxID {
			r.Refuse(key, fmt.Sprintf("%d to %d", *v.MinID, *v.MaxID), "want 1 <= minID <= maxID <= %d", maxVLAN)
			continue
		}
		for id := *v.MinID; id <= *v.MaxID; id++ {
			c.trunk = append(c.trunk, id)
		}
	}
	slices.Sort(c.trunk)
	c.trunk = slices.Compact(c.trunk)
}

func (c *config) gateway() bool { return c.IsGateway || c.IsDefaultGateway }

func (c *config) noICC() bool { return c.ICC != nil && !*c.ICC }

func (c *config) filtersVLANs() bool { return c.VLAN != 0 || len(c.trunk) > 0 }

// hostInterface is the one that the host reaches the containers through.
func (c *config) hostInterface() string {
	if c.VLAN != 0 && c.gateway() {
		return fmt.Sprintf("%s.%d", c.Bridge, c.VLAN)
	}
	return c.Bridge
}

// settings are the words of which the firewall keeps something for the network.
func (c *config) settings() []string {
	var words []string
	for _, s := range []struct {
		on   bool
		word string
	}{{c.Internal, "internal"}, {c.Isolate, "isolate"}, {c.noICC(), "noicc"}, {c.Names, "names"}} {
		if s.on {
			words = append(words, s.word)
		}
	}
	return words
}
