package graph

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/link/macvlan"
	"github.com/berth-cni/berth/pkg/link/netns"
	"github.com/berth-cni/berth/pkg/link/parent"
	"github.com/berth-cni/berth/pkg/names"
)

// fixed is a kernel that has what a test says.
type fixed struct {
	devices map[string]Device
	uplink  string
	gone    map[string]string // container: what is wrong with its namespace
	ports   map[string][]Device
}

func (f *fixed) Device(name string) (Device, bool) {
	d, ok := f.devices[name]
	return d, ok
}
func (f *fixed) Uplink() (Device, bool)            { return f.Device(f.uplink) }
func (f *fixed) Ports(bridge string) []Device      { return f.ports[bridge] }
func (f *fixed) Netns(a *attach.Attachment) string { return f.gone[a.Container] }

// model is a host in the making.
type model struct {
	Input
	kernel *fixed
}

func newModel() *model {
	k := &fixed{map[string]Device{}, "eth0", map[string]string{}, map[string][]Device{}}
	m := &model{Input{Host: "host-a", Kernel: k, Called: called}, k}
	m.device("eth0", "192.0.2.1/24")
	d := k.devices["eth0"]
	d.Gateways = []netip.Addr{netip.MustParseAddr("192.0.2.254")}
	k.devices["eth0"] = d
	return m
}

func called(a *attach.Attachment) (string, []string) {
	if r := step[*names.Register](a); r != nil {
		return r.Names[0], r.Names[1:]
	}
	return filepath.Base(a.Netns), nil // as if a runtime had told the name
}

func (m *model) device(name string, prefixes ...string) {
	d := Device{Name: name, Up: true, MTU: 1500}
	for _, p := range prefixes {
		d.Addresses = append(d.Addresses, netip.MustParsePrefix(p))
	}
	m.kernel.devices[name] = d
}

// id is a container's, the same for a name.
func id(name string) string { return fmt.Sprintf("%x", attach.Digest([]byte(name))) }

func (m *model) record(network, name, plugin string, steps []attach.Step, addresses ...string) *attach.Attachment {
	a := &attach.Attachment{Key: attach.Key{Network: network, Container: id(name), IfName: "eth0"}, Plugin: plugin, Netns: "/run/netns/" + name, Steps: steps}
	for _, p := range addresses {
		a.Addresses = append(a.Addresses, attach.Address{Prefix: netip.MustParsePrefix(p)})
	}
	m.Records = append(m.Records, a)
	return a
}

// bridged adds a container on a bridge.
func (m *model) bridged(network, bridge string, called []string, addresses ...string) *attach.Attachment {
	a := m.record(network, called[0], "bridge", []attach.Step{&link.Bridge{Name: bridge}, &link.Veth{Bridge: bridge}, &firewall.Rules{Bridge: bridge},
		&names.Register{Names: called}}, addresses...)
	m.device(a.HostIfName())
	return a
}

func published(host, container uint16) attach.Port {
	return attach.Port{HostPort: host, ContainerPort: container, Protocol: "tcp"}
}

// single is one network with one container.
func single() *model {
	m := newModel()
	m.device("br-blue", "10.88.0.1/24")
	m.bridged("blue", "br-blue", []string{"web", "api"}, "10.88.0.2/24").Ports = []attach.Port{published(8080, 80)}
	return m
}

// modes is a host with containers of all modes, and things that are wrong.
func modes() *model {
	m := single()
	db := m.bridged("blue", "br-blue", []string{"db"}, "10.88.0.3/24")
	m.kernel.ports["br-blue"] = []Device{{Name: db.HostIfName(), Up: true}, {Name: "tap7", Up: true}}
	m.device("br-back", "172.20.0.1/16", "fd00:20::1/64")
	again := m.bridged("back", "br-back", []string{"db", "database"}, "172.20.0.2/16", "fd00:20::2/64")
	again.IfName = "eth1"
	m.device(again.HostIfName())
	again.Steps[2].(*firewall.Rules).Internal = true
	delete(m.kernel.devices, m.bridged("back", "br-back", []string{"worker"}, "172.20.0.3/16", "fd00:20::3/64").HostIfName())
	m.kernel.gone[id("worker")] = "its namespace is gone"
	side := m.record("share", "sidecar", "container-share", []attach.Step{&netns.Rebind{From: "/run/netns/db", Owner: db.Key}})
	side.IfName = "eth0"
	m.record("share", "stray", "container-share", []attach.Step{&netns.Rebind{From: "/run/netns/x", Owner: attach.Key{Network: "blue", Container: "gone"}}})
	m.record("lan", "printer", "macvlan", []attach.Step{&macvlan.Interface{Master: "eth0", Mode: "bridge"}}, "192.0.2.77/24")
	m.device("eth1", "198.51.100.1/24")
	m.device("eth1.10")
	m.record("vlan10", "camera", "macvlan", []attach.Step{&parent.Subinterface{Parent: "eth1", VLAN: 10}, &macvlan.Interface{Master: "eth1.10", Mode: "private"}}, "198.51.100.9/24")
	m.record("host", "proxy", "host", []attach.Step{&netns.Rebind{}}, "192.0.2.1/24")
	m.record("none", "batch", "none", []attach.Step{&link.Loopback{}}, "127.0.0.1/8")
	m.Networks = []attach.Network{{Name: "empty", Plugin: "bridge", Link: "br-empty", Subnets: []netip.Prefix{netip.MustParsePrefix("10.99.0.0/24")},
		Settings: []string{"internal", "isolate", "nftables", "names", "ipv4=isolated"}}}
	return m
}

// spanning is a host of a dual-stack overlay.
func spanning() *model {
	m := newModel()
	p := netip.MustParsePrefix
	m.device("overlay4097", "10.42.3.1/24", "fd00:42:0:3::1/64")
	m.device("vxlan4097", "10.42.3.0/32")
	m.device("br-local", "10.88.0.1/24")
	for i, name := range []string{"web", "cache"} {
		a := m.bridged("blue", "overlay4097", []string{name}, fmt.Sprintf("10.42.3.%d/24", i+2), fmt.Sprintf("fd00:42:0:3::%d/64", i+2))
		a.Plugin = "vxlan-overlay"
	}
	m.Records[0].Ports = []attach.Port{published(80, 8080), {HostIP: netip.MustParseAddr("192.0.2.1"), HostPort: 443, ContainerPort: 8443, Protocol: "tcp"}}
	m.bridged("local", "br-local", []string{"tool"}, "10.88.0.2/24")
	remote := func(name, addr string, n int) Remote {
		return Remote{Name: name, Address: netip.MustParseAddr(addr), Reach: "reached",
			Blocks: []netip.Prefix{p(fmt.Sprintf("10.42.%d.0/24", n)), p(fmt.Sprintf("fd00:42:0:%x::/64", n))}}
	}
	lost := remote("host-c", "192.0.2.3", 77)
	lost.Reach, lost.Bad = "no answer", true
	m.Overlays = []Overlay{
		{Name: "blue", VNI: 4097, Port: 4789, Device: "vxlan4097", Bridge: "overlay4097", Underlay: "eth0",
			Blocks: []netip.Prefix{p("10.42.3.0/24"), p("fd00:42:0:3::/64")}, Peers: []Remote{remote("host-b", "192.0.2.2", 9), lost}},
		{Name: "green", VNI: 4098, Port: 4789, Device: "vxlan4098", Bridge: "overlay4098", Underlay: "eth0", Internal: true,
			Problem: "no block yet", Peers: []Remote{{Name: "host-b", Address: netip.MustParseAddr("192.0.2.2"), Blocks: []netip.Prefix{p("10.44.0.0/24")}}}},
	}
	return m
}

// crowded is a host with so many containers on one network, some of them also on
// another.
func crowded(n int) *model {
	m := newModel()
	m.device("br-blue", "10.88.0.1/16")
	m.device("br-my-bridge", "172.20.0.1/16", "fd00:20::1/64")
	for i := range n {
		name := fmt.Sprintf("web-%02d", i+1)
		if i%10 == 4 {
			name = fmt.Sprintf("a-container-with-a-name-as-long-as-they-get-%s-%02d", strings.Repeat("x", 15), i)
		}
		a := m.bridged("blue", "br-blue", []string{name}, fmt.Sprintf("10.88.0.%d/16", i+2))
		if i%5 == 0 {
			a.Ports = []attach.Port{published(uint16(8000+i), 80), published(uint16(9000+i), 443)}
		}
		if i%7 == 0 {
			b := m.bridged("my-bridge", "br-my-bridge", []string{name, "backend"}, fmt.Sprintf("172.20.0.%d/16", i+2), fmt.Sprintf("fd00:20::%d/64", i+2))
			b.IfName = "eth1"
			m.device(b.HostIfName())
		}
	}
	return m
}
