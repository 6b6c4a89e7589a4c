package overlaytest

import (
	"net/netip"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
)

// Example is what a store holds with two networks and three nodes, at that time.
func Example(noon time.Time) *overlay.State {
	p := netip.MustParsePrefix
	s := overlay.NewState()
	node := func(name, addr string, seen time.Duration) overlay.Node {
		return overlay.Node{Name: name, Token: "secret-" + name, Address: netip.MustParseAddr(addr), MTU: 1500,
			Since: noon.Add(-30 * 24 * time.Hour), Seen: noon.Add(-seen)}
	}
	block := func(network, prefix, node string, used bool) overlay.Block {
		return overlay.Block{Network: network, Prefix: p(prefix), Node: node, Token: "secret-" + node, Used: used}
	}
	s.Apply(overlay.Update{
		Networks: []overlay.Network{
			{Name: "blue", ID: "id-blue", Subnets: []netip.Prefix{p("10.42.0.0/16")}, NodePrefix: []int{24}, VNI: 4097, Port: 4789, Created: noon},
			{Name: "green", ID: "id-green", Subnets: []netip.Prefix{p("10.44.0.0/16"), p("fd00:44::/48")}, NodePrefix: []int{25, 64}, VNI: 77, Port: 8472,
				MTU: 1400, Isolate: true, Internal: true, Labels: map[string]string{"team": "web"}, Created: noon},
		},
		Nodes: []overlay.Node{node("host-a", "192.0.2.1", time.Minute), node("host-b", "192.0.2.2", 5*time.Minute), node("host-c", "192.0.2.3", 40*24*time.Hour)},
		Blocks: []overlay.Block{block("blue", "10.42.3.0/24", "host-a", true), block("blue", "10.42.9.0/24", "host-b", false),
			block("green", "10.44.0.128/25", "host-a", false), block("green", "fd00:44:0:7::/64", "host-a", false), block("blue", "10.42.77.0/24", "host-c", true)},
		Alive: []overlay.Alive{
			{Node: "host-a", Instance: "1", Address: netip.MustParseAddr("192.0.2.1"), Since: noon.Add(-3 * time.Hour)},
			{Node: "host-b", Instance: "2", Address: netip.MustParseAddr("192.0.2.2"), Since: noon.Add(-40 * time.Second)},
		},
	})
	return s
}
