package main

import (
	"strconv"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/link/macvlan"
)

// config is the reference macvlan's (v1.10.0), with hostShim and enabledad, and what
// is ours in [cni.Conf].
type config struct {
	cni.Conf
	Master          string `json:"master"`
	Mode            string `json:"mode"`
	MTU             int    `json:"mtu"`
	MAC             string `json:"mac"`
	LinkInContainer bool   `json:"linkInContainer"`
	BcQueueLen      uint32 `json:"bcqueuelen"`
	EnableDAD       bool   `json:"enabledad"`
	HostShim        bool   `json:"hostShim"`
}

// validate notes every problem that shows without a look at the host.
func (c *config) validate(r *cni.Request) {
	if c.Master != "" {
		if err := cni.ValidIfName(c.Master); err != nil {
			r.Refuse("master", c.Master, "%v", err)
		}
	}
	if c.Mode == "" {
		c.Mode = "bridge"
	}
	if macvlan.ModeNumber(c.Mode) == 0 {
		r.Refuse("mode", c.Mode, "want bridge, private, vepa or passthru")
	}
	r.ValidMTU(c.MTU, link.MaxMTU, "the master's", r.IPAM.Subnets())
	if c.HostShim {
		c.validateShim(r)
	}
	c.refuseFirewall(r)
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

// refuseFirewall refuses what only a firewall can do: what containers send goes to
// the master's network past the host's.
func (c *config) refuseFirewall(r *cni.Request) {
	if c.Internal {
		r.Refuse("internal", true, "a macvlan is on the master's network, past the host's firewall")
	}
	if c.Isolate {
		r.Refuse("isolate", true, "a macvlan is on the master's network, past the host's firewall")
	}
	if c.NoICC() {
		r.Refuse("icc", false, "want mode private, which keeps containers from each other")
	}
}

// master is the interface that the container's is a child of.
type master struct {
	name string
	mac  string                // of the child when nobody asks for one; empty: what follows from its address
	vlan *macvlan.Subinterface // to be ensured, if the master is in a VLAN
}

// subinterface is the step that ensures the master, if there is one.
func (m *master) subinterface() attach.Step {
	if m.vlan == nil {
		return nil
	}
	return m.vlan
}

// findMaster looks for the master and compares what is wanted with it. Errors are
// about the look; a master that is not there or does not fit is noted.
func (c *config) findMaster(r *cni.Request) (*master, error) {
	m := &master{name: c.Master}
	if c.MAC != "" {
		m.mac = r.MAC("mac", c.MAC)
	}
	netns := ""
	if c.LinkInContainer {
		if netns = r.Netns; netns == "" {
			return m, nil // STATUS asks for no container
		}
	}
	parent, err := macvlan.FindParent(netns, c.Master)
	if err != nil {
		return nil, err
	}
	if !c.LinkInContainer {
		m.vlan = subinterface(c.Master)
	}
	if m.vlan != nil && parent == nil {
		if parent, err = macvlan.FindParent("", m.vlan.Parent); err != nil {
			return nil, err
		}
		if parent == nil {
			r.Refuse("master", c.Master, "there is neither this interface nor %s, for it to be made on", m.vlan.Parent)
			return m, nil
		}
	} else if parent != nil {
		m.name = parent.Name
	}
	switch {
	case parent == nil && c.Master == "":
		r.Refuse("master", c.Master, "want an interface: there is no default route whose device could be it")
		return m, nil
	case parent == nil:
		r.Refuse("master", c.Master, "there is no such interface")
		return m, nil
	case c.MTU > parent.MTU:
		r.Refuse("mtu", c.MTU, "want at most that of the master %s, %d bytes", m.name, parent.MTU)
	}
	if c.Mode == "passthru" && c.MAC == "" {
		m.mac = parent.MAC
	}
	return m, nil
}

// subinterface reads a name such as eth0.10: the parent and the VLAN; nil when it is
// none.
func subinterface(name string) *macvlan.Subinterface {
	i := strings.LastIndexByte(name, '.')
	if i < 1 {
		return nil
	}
	id, err := strconv.Atoi(name[i+1:])
	if err != nil || id < 1 || id > link.MaxVLAN || strconv.Itoa(id) != name[i+1:] {
		return nil
	}
	return &macvlan.Subinterface{Parent: name[:i], VLAN: id}
}
