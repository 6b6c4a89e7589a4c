package main

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/link"
)

// config is the reference macvlan's (v1.9.1), with hostShim and enabledad, and what
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

	vlan *link.Subinterface // to be ensured, if Master is in a VLAN
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
	if link.MacvlanMode(c.Mode) == 0 {
		r.Refuse("mode", c.Mode, "want bridge, private, vepa or passthru")
	}
	const minMTU, minMTU6 = 68, 1280 // RFC 791, RFC 8200
	if c.MTU != 0 && c.MTU < minMTU {
		r.Refuse("mtu", c.MTU, "want at least %d bytes, or 0 for the master's", minMTU)
	} else if c.MTU != 0 && c.MTU < minMTU6 && slices.ContainsFunc(r.IPAM.Subnets(), func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		r.Refuse("mtu", c.MTU, "want at least %d bytes for IPv6", minMTU6)
	}
	if c.MAC != "" {
		hw, err := net.ParseMAC(c.MAC)
		if err != nil || len(hw) != 6 || hw[0]&1 != 0 || hw.String() == "00:00:00:00:00:00" {
			r.Refuse("mac", c.MAC, "want a unicast MAC of six bytes such as 02:42:ac:11:00:02")
		} else {
			c.MAC = hw.String()
		}
	}
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
	if c.ICC != nil && !*c.ICC {
		r.Refuse("icc", false, "want mode private, which keeps containers from each other")
	}
}

// findMaster looks for the master and compares what is wanted with it. Errors are
// about the look; a master that is not there or does not fit is noted.
func (c *config) findMaster(r *cni.Request) error {
	netns := ""
	if c.LinkInContainer {
		if netns = r.Netns; netns == "" {
			return nil // STATUS asks for no container
		}
	}
	parent, err := link.FindParent(netns, c.Master)
	if err != nil {
		return err
	}
	if !c.LinkInContainer {
		c.vlan = subinterface(c.Master)
	}
	if c.vlan != nil && parent == nil {
		if parent, err = link.FindParent("", c.vlan.Parent); err != nil {
			return err
		}
		if parent == nil {
			r.Refuse("master", c.Master, "there is neither this interface nor %s, for it to be made on", c.vlan.Parent)
			return nil
		}
	} else if parent != nil {
		c.Master = parent.Name
	}
	switch {
	case parent == nil && c.Master == "":
		r.Refuse("master", c.Master, "want an interface: there is no default route whose device could be it")
		return nil
	case parent == nil:
		r.Refuse("master", c.Master, "there is no such interface")
		return nil
	case c.MTU > parent.MTU:
		r.Refuse("mtu", c.MTU, "want at most that of the master %s, %d bytes", c.Master, parent.MTU)
	}
	if c.Mode == "passthru" && c.MAC == "" {
		c.MAC = parent.MAC
	}
	return nil
}

// subinterface reads a name such as eth0.10: the parent and the VLAN; nil when it is
// none.
func subinterface(name string) *link.Subinterface {
	i := strings.LastIndexByte(name, '.')
	if i < 1 {
		return nil
	}
	const maxVLAN = 4094 // IEEE 802.1Q
	id, err := strconv.Atoi(name[i+1:])
	if err != nil || id < 1 || id > maxVLAN || strconv.Itoa(id) != name[i+1:] {
		return nil
	}
	return &link.Subinterface{Parent: name[:i], VLAN: id}
}
