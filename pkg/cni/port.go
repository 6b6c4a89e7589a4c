package cni

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall/publish"
	"github.com/berth-cni/berth/pkg/ipam"
)

// PortMapping is an entry of the capability portMappings (CONVENTIONS.md). Runtimes
// expand ranges before they call.
type PortMapping struct {
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP"`
	Range         int    `json:"range"`
}

// Ports is the step that claims the ports to publish to addresses of the IPAM; nil when
// none are asked for. gateways says that the host has those of the addresses, or will
// have. A chained plugin publishes to those of the plugin before it.
func (r *Request) Ports(conf *ipam.Config, gateways bool) attach.Step {
	r.served.ports = true
	n := len(r.Conf.Runtime.PortMappings)
	if n == 0 {
		return nil
	}
	v4, v6 := true, true // of a delegated IPAM nobody knows
	switch {
	case r.Chained():
		v4, v6 = families(r.prev.prefixes())
	case conf.BuiltIn():
		v4, v6 = families(conf.Subnets())
	case conf.Empty():
		r.Refuse("runtimeConfig.portMappings", n, "want an ipam section, since a port is published to an address")
		return nil
	}
	return &publish.Ports{Ports: r.ports(v4, v6), Gateways: gateways}
}

// IgnorePorts says why ports that are asked for are not published.
func (r *Request) IgnorePorts(why string) {
	r.served.ports = true
	if len(r.Conf.Runtime.PortMappings) > 0 {
		r.Warn("runtimeConfig.portMappings", len(r.Conf.Runtime.PortMappings), "published ports are ignored: %s", why)
	}
}

// RefusePorts refuses ports that are asked for.
func (r *Request) RefusePorts(why string) {
	r.served.ports = true
	if n := len(r.Conf.Runtime.PortMappings); n > 0 {
		r.Refuse("runtimeConfig.portMappings", n, "%s", why)
	}
}

// families tells which address families a network's containers have.
func families(subnets []netip.Prefix) (v4, v6 bool) {
	for _, s := range subnets {
		v4 = v4 || s.Addr().Is4()
		v6 = v6 || s.Addr().Is6()
	}
	return v4, v6
}

// ports returns the ports to publish for a container that has addresses of the
// families.
func (r *Request) ports(v4, v6 bool) []attach.Port {
	var ports []attach.Port
	loopback6 := false
	for i, m := range r.Conf.Runtime.PortMappings {
		key := fmt.Sprintf("runtimeConfig.portMappings[%d]", i)
		p, ok := r.port(key, m, v4, v6)
		if !ok || slices.Contains(ports, p) {
			continue
		}
		if p.HostIP == netip.IPv6Loopback() && !loopback6 {
			loopback6 = true // said once
			r.Warn(key+".hostIP", m.HostIP, "the kernel drops the answers to a client of the address ::1: "+
				"let it take another address of this host for its own, or go to 127.0.0.1")
		}
		if j := slices.IndexFunc(ports, p.Overlaps); j >= 0 {
			r.Refuse(key, p.String(), "%s goes to container port %d already", ports[j], ports[j].ContainerPort)
			continue
		}
		ports = append(ports, p)
	}
	return ports
}

func (r *Request) port(key string, m PortMapping, v4, v6 bool) (attach.Port, bool) {
	before := len(r.problems)
	if m.HostPort < 1 || m.HostPort > 65535 {
		r.Refuse(key+".hostPort", m.HostPort, "want 1 to 65535")
	}
	if m.ContainerPort < 1 || m.ContainerPort > 65535 {
		r.Refuse(key+".containerPort", m.ContainerPort, "want 1 to 65535")
	}
	if m.Range > 1 {
		r.Refuse(key+".range", m.Range, "want one mapping for each port")
	}
	protocol := strings.ToLower(m.Protocol)
	switch protocol {
	case "":
		protocol = "tcp"
	case "tcp", "udp", "sctp":
	default:
		r.Refuse(key+".protocol", m.Protocol, "want tcp, udp or sctp")
	}
	ip, ok := r.hostIP(key+".hostIP", m.HostIP, v4, v6)
	p := attach.Port{HostIP: ip, HostPort: uint16(m.HostPort), ContainerPort: uint16(m.ContainerPort), Protocol: protocol}
	return p, ok && len(r.problems) == before
}

// hostIP reads the host's address. None stands for all, of the families that the
// container has. All of a family that it does not have is nothing to publish: not ok,
// and no problem, since runtimes ask for both.
func (r *Request) hostIP(key, s string, v4, v6 bool) (ip netip.Addr, ok bool) {
	if s == "" {
		switch {
		case v4 && !v6:
			return netip.IPv4Unspecified(), true
		case v6 && !v4:
			return netip.IPv6Unspecified(), true
		}
		return netip.Addr{}, true
	}
	ip, err := netip.ParseAddr(s)
	ip = ip.Unmap()
	switch {
	case err != nil || ip.Zone() != "":
		r.Refuse(key, s, "want an address of this host")
	case ip.IsMulticast():
		r.Refuse(key, s, "want a unicast address of this host")
	case ip.Is4() && !v4 || ip.Is6() && !v6: // as the reference's portmap, which says nothing
		r.Warn(key, s, "is not published, since the container has no address of that family")
		return netip.Addr{}, false
	}
	return ip, true
}
