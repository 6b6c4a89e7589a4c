package main

import (
	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/cni/onparent"
	"github.com/berth-cni/berth/pkg/link/macvlan"
)

// config is the reference macvlan's (v1.10.0), with hostShim and enabledad, and what
// is ours in [cni.Conf].
type config struct {
	onparent.Conf
	MAC        string `json:"mac"`
	BcQueueLen uint32 `json:"bcqueuelen"`
	HostShim   bool   `json:"hostShim"`
}

// validate notes every problem that shows without a look at the host.
func (c *config) validate(r *cni.Request) {
	if c.Mode == "" {
		c.Mode = "bridge"
	}
	if macvlan.ModeNumber(c.Mode) == 0 {
		r.Refuse("mode", c.Mode, "want bridge, private, vepa or passthru")
	}
	c.Validate(r, "a macvlan", "mode private")
	if c.HostShim {
		c.validateShim(r)
	}
}

func (c *config) validateShim(r *cni.Request) {
	if c.Mode != "bridge" {
		r.Refuse("hostShim", true, "want mode bridge: in %s the host's child and the container's cannot talk", c.Mode)
	}
	if c.LinkInContainer {
		r.Refuse("hostShim", true, "cannot be together with linkInContainer: the master is not the host's")
	}
	if r.IPAM.Empty() {
		r.Refuse("hostShim", true, "want an ipam section, since the host reaches the container by its address")
	}
}

// mac is the container's when the runtime asks for none; empty: what follows from its
// address.
func (c *config) mac(r *cni.Request, m *onparent.Master) string {
	switch {
	case c.MAC != "":
		return r.MAC("mac", c.MAC)
	case c.Mode == "passthru":
		return m.MAC
	}
	return ""
}

// shim is the step that has the host reach the container, if that is wanted.
func (c *config) shim(master string) attach.Step {
	if !c.HostShim {
		return nil
	}
	return &macvlan.HostShim{Master: master}
}
