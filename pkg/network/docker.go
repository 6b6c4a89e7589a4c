package network

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"time"

	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/inspect"
)

// Docker is a network as Docker's API describes one (GET /networks/{id}), in its words and
// shapes.
type Docker struct {
	Name       string
	ID         string `json:"Id"` // 64 hexadecimal digits
	Created    time.Time
	Scope      string
	Driver     string
	EnableIPv4 bool
	EnableIPv6 bool
	IPAM       DockerIPAM
	Internal   bool
	Attachable bool
	Ingress    bool
	ConfigFrom struct{ Network string }
	ConfigOnly bool
	Options    map[string]string
	Labels     map[string]string
	// Containers are by their IDs. Of one with several interfaces on the network it is the first.
	Containers map[string]DockerContainer
	Peers      []DockerPeer `json:",omitempty"` // the hosts of a network that spans some
	// Berth is what Docker has no words for, where it is asked for.
	Berth any `json:",omitempty"`
}

// DockerIPAM is where a network's addresses come from.
type DockerIPAM struct {
	Driver  string
	Options map[string]string
	Config  []DockerSubnet
}

// DockerSubnet is one of its subnets.
type DockerSubnet struct {
	Subnet             string
	IPRange            string                `json:",omitempty"`
	Gateway            string                `json:",omitempty"`
	AuxiliaryAddresses map[string]netip.Addr `json:",omitempty"`
}

// DockerContainer is a container on the network.
type DockerContainer struct {
	Name        string
	EndpointID  string
	MacAddress  string
	IPv4Address string
	IPv6Address string
}

// DockerPeer is a host on the network.
type DockerPeer struct {
	Name string
	IP   string
}

// networkID is what tells a network from all others, also from one that had the name before:
// 64 hexadecimal digits, as Docker's.
func networkID(words ...string) string {
	h := sha256.New()
	for _, w := range words {
		fmt.Fprintf(h, "%s\x00", w)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Docker describes the network in Docker's words.
func (v *View) Docker() *Docker {
	d := newDocker(v.Name, v.id, v.Driver, v.Scope, v.Created, v.Subnets, v.Labels, v.Containers)
	d.Internal = v.Internal
	for i := range v.Ranges {
		d.IPAM.Config[i] = v.Ranges[i].docker()
	}
	if v.sticky != "" {
		d.IPAM.Options["sticky"] = v.sticky
	}
	option := func(key, value string, given bool) {
		if given {
			d.Options[key] = value
		}
	}
	bridge := v.Driver == conflist.Bridge
	option("com.docker.network.bridge.name", v.Link, bridge && v.Link != "")
	option("com.docker.network.bridge.enable_icc", "false", bridge && v.NoICC)
	for _, m := range []struct {
		family string
		mode   firewall.GatewayMode
	}{{"ipv4", v.GatewayModeIPv4}, {"ipv6", v.GatewayModeIPv6}} {
		option("com.docker.network.bridge.gateway_mode_"+m.family, string(m.mode), m.mode != "" && m.mode != firewall.NAT)
	}
	option("com.docker.network.driver.mtu", fmt.Sprint(v.MTU), v.MTU != 0)
	option("parent", v.Link, conflist.OnParent(v.Driver) && v.Link != "")
	option(v.Driver+"_mode", v.mode, conflist.OnParent(v.Driver) && v.mode != "")
	option("ipvlan_flag", v.flag, v.flag != "")
	return d
}

// Docker describes the network in Docker's words.
func (v *OverlayView) Docker() *Docker {
	d := newDocker(v.Name, networkID(v.Name, v.Network.ID), v.Driver, v.Scope, v.Created, v.Subnets, v.Labels, v.Containers)
	d.Internal = v.Internal
	if d.Options["com.docker.network.driver.overlay.vxlanid_list"] = fmt.Sprint(v.VNI); v.Encrypted {
		d.Options["encrypted"] = ""
	}
	if v.Sticky != "" {
		d.IPAM.Options["sticky"] = v.Sticky
	}
	if v.MTU != 0 {
		d.Options["com.docker.network.driver.mtu"] = fmt.Sprint(v.MTU)
	}
	for _, n := range v.Nodes {
		d.Peers = append(d.Peers, DockerPeer{n.Name, n.Address.String()})
	}
	return d
}

// newDocker is what both kinds of network have.
func newDocker(name, id, driver, scope string, created time.Time, subnets []netip.Prefix, labels map[string]string, on []inspect.Attachment) *Docker {
	d := &Docker{Name: name, ID: id, Created: created, Scope: scope, Driver: driver, Options: map[string]string{}, Labels: map[string]string{},
		IPAM: DockerIPAM{Driver: "default", Options: map[string]string{}, Config: []DockerSubnet{}}, Containers: map[string]DockerContainer{}}
	for key, text := range labels {
		d.Labels[key] = text
	}
	for _, s := range subnets {
		d.EnableIPv4, d.EnableIPv6 = d.EnableIPv4 || s.Addr().Is4(), d.EnableIPv6 || s.Addr().Is6()
		d.IPAM.Config = append(d.IPAM.Config, DockerSubnet{Subnet: s.String()})
	}
	for _, a := range on {
		if _, twice := d.Containers[a.Container]; twice {
			continue
		}
		c := DockerContainer{Name: a.Name, EndpointID: networkID(a.Network, a.Container, a.Interface), MacAddress: a.MAC}
		for _, addr := range a.Addresses {
			to := &c.IPv4Address
			if addr.Is6() {
				to = &c.IPv6Address
			}
			if *to == "" {
				*to = within(addr, subnets).String()
			}
		}
		d.Containers[a.Container] = c
	}
	return d
}

// within is an address with the length of the subnet that it is in.
func within(a netip.Addr, subnets []netip.Prefix) netip.Prefix {
	for _, s := range subnets {
		if s.Contains(a) {
			return netip.PrefixFrom(a, s.Bits())
		}
	}
	return netip.PrefixFrom(a, a.BitLen())
}

func (r Range) docker() DockerSubnet {
	d := DockerSubnet{Subnet: r.Subnet.String(), AuxiliaryAddresses: r.Aux}
	if r.Gateway.IsValid() {
		d.Gateway = r.Gateway.String()
	}
	if r.Start.IsValid() && r.End.IsValid() {
		if part, exactly := (conflist.Range{Subnet: r.Subnet, Start: r.Start, End: r.End}).Part(); exactly {
			d.IPRange = part.String()
		} else {
			d.IPRange = fmt.Sprintf("%s-%s", r.Start, r.End)
		}
	}
	return d
}
