// Package onparent is what the plugins share whose containers are on the network of an
// interface of the host, the master: macvlan and ipvlan.
package onparent

import (
	"strconv"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/link/parent"
)

// Conf are the keys that they have in common, those of the reference's plugins (v1.10.0)
// with enabledad.
type Conf struct {
	cni.Conf
	Master          string `json:"master"`
	Mode            string `json:"mode"`
	MTU             int    `json:"mtu"`
	LinkInContainer bool   `json:"linkInContainer"`
	EnableDAD       bool   `json:"enabledad"`
}

// Validate notes every problem that shows without a look at the host. kind is the plugin's,
// with its article, and apart what keeps containers from each other there.
func (c *Conf) Validate(r *cni.Request, kind, apart string) {
	if c.Master != "" {
		if err := cni.ValidIfName(c.Master); err != nil {
			r.Refuse("master", c.Master, "%v", err)
		}
	}
	r.ValidMTU(c.MTU, link.MaxMTU, "the master's", r.IPAM.Subnets())
	// What containers send goes to the master's network past the host's firewall.
	if c.Internal {
		r.Refuse("internal", true, "%s is on the master's network, past the host's firewall", kind)
	}
	if c.Isolate {
		r.Refuse("isolate", true, "%s is on the master's network, past the host's firewall", kind)
	}
	if c.NoICC() {
		r.Refuse("icc", false, "want %s, which keeps containers from each other", apart)
	}
}

// Master is the interface that the container's is a child of.
type Master struct {
	Name string
	MAC  string               // empty: not known yet, or there is no such interface
	VLAN *parent.Subinterface // to be ensured, if the master is in a VLAN
}

// Subinterface is the step that ensures the master; nil when that is in no VLAN. sharedMAC says
// that the containers have the master's MAC.
func (m *Master) Subinterface(sharedMAC bool) attach.Step {
	if m.VLAN == nil {
		return nil
	}
	vlan := *m.VLAN
	vlan.SharedMAC = sharedMAC
	return &vlan
}

// FindMaster looks for the master and compares what is wanted with it. Errors are
// about the look; a master that is not there or does not fit is noted.
func (c *Conf) FindMaster(r *cni.Request) (*Master, error) {
	m := &Master{Name: c.Master}
	if c.Master != "" && cni.ValidIfName(c.Master) != nil {
		return m, nil // which is noted
	}
	netns := ""
	if c.LinkInContainer {
		if netns = r.Netns; netns == "" {
			return m, nil // STATUS asks for no container
		}
	}
	found, err := parent.Find(netns, c.Master)
	if err != nil {
		return nil, err
	}
	if !c.LinkInContainer {
		m.VLAN = subinterface(c.Master)
	}
	if m.VLAN != nil && found == nil {
		if found, err = parent.Find("", m.VLAN.Parent); err != nil {
			return nil, err
		}
		if found == nil {
			r.Refuse("master", c.Master, "there is neither this interface nor %s, for it to be made on", m.VLAN.Parent)
			return m, nil
		}
	} else if found != nil {
		m.Name = found.Name
	}
	switch {
	case found == nil && c.Master == "":
		r.Refuse("master", c.Master, "want an interface: there is no default route whose device could be it")
		return m, nil
	case found == nil:
		r.Refuse("master", c.Master, "there is no such interface")
		return m, nil
	case c.MTU > found.MTU:
		r.Refuse("mtu", c.MTU, "want at most that of the master %s, %d bytes", m.Name, found.MTU)
	}
	m.MAC = found.MAC
	return m, nil
}

// subinterface reads a name such as eth0.10: the parent and the VLAN; nil when it is
// none.
func subinterface(name string) *parent.Subinterface {
	i := strings.LastIndexByte(name, '.')
	if i < 1 {
		return nil
	}
	id, err := strconv.Atoi(name[i+1:])
	if err != nil || id < 1 || id > link.MaxVLAN || strconv.Itoa(id) != name[i+1:] {
		return nil
	}
	return &parent.Subinterface{Parent: name[:i], VLAN: id}
}
