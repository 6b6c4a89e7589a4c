package main

import (
	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/cni/onparent"
	"github.com/berth-cni/berth/pkg/link/ipvlan"
)

// config is the reference ipvlan's (v1.10.0), with flag and enabledad, and what is ours in
// [cni.Conf].
type config struct {
	onparent.Conf
	Flag string `json:"flag"`
}

// validate notes every problem that shows without a look at the host.
func (c *config) validate(r *cni.Request) {
	if c.Mode == "" {
		c.Mode = "l2"
	}
	if !ipvlan.IsMode(c.Mode) {
		r.Refuse("mode", c.Mode, "want l2, l3 or l3s")
	}
	if c.Flag == "" {
		c.Flag = "bridge"
	}
	if !ipvlan.IsFlag(c.Flag) {
		r.Refuse("flag", c.Flag, "want bridge, private or vepa")
	}
	c.Validate(r, "an ipvlan", "flag private")
	r.RefuseMAC("an ipvlan has the MAC of its master")
}

// network is what the host remembers. A master is in one mode, with one flag.
func (c *config) network(r *cni.Request, m *onparent.Master) *attach.Network {
	n := &attach.Network{Name: c.Name, Plugin: "ipvlan", Link: m.Name, Ranges: r.IPAM.Spans()}
	if !c.LinkInContainer {
		n.LinkMode = c.Mode + " " + c.Flag
	}
	return n
}
