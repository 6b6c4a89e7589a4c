package overlay

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	model "github.com/berth-cni/berth/pkg/overlay"
)

// BenchmarkSpeed measures containers of two hosts through Berth's overlay beside one that
// is built by hand on two more hosts of the same underlay, and the bare underlay, in
// turn. An operation is a round of all, in runs of 0.3 s.
func BenchmarkSpeed(b *testing.B) {
	bed := newBed(b, 2, options{})
	a, z := bed.container(bed.Hosts[0], "a"), bed.container(bed.Hosts[1], "z")
	n := model.Network{Name: "by-hand", VNI: 77, Port: model.DefaultPort}
	var peers []cluster.Peer
	for i, name := range []string{"c", "d"} {
		h, err := bed.Host(name, 3+i)
		must(b, err)
		peers = append(peers, cluster.Peer{Name: name, Address: h.Addr4, MTU: 1450, Blocks: []netip.Prefix{
			netip.MustParsePrefix(fmt.Sprintf("10.77.%d.0/24", i)), netip.MustParsePrefix(fmt.Sprintf("fd00:77:0:%d::/64", i))}})
	}
	var hand []*place
	for i, h := range bed.Hosts[2:] {
		must(b, h.ByHand(n, peers[i], peers))
		c, addrs, err := h.ContainerByHand(n, peers[i], "hand-"+h.Name, 1)
		must(b, err)
		hand = append(hand, &place{c, h, addrs})
	}
	bed.eventually(5*time.Second, func() error { return reach(hand[0], hand[1]) })
	bed.reaches(a, z)
	b.ResetTimer()
	speeds, err := cluster.Measure([]cluster.Path{
		{Name: "underlay", From: bed.Hosts[0], To: bed.Hosts[1], Address: bed.Hosts[1].Addr4},
		{Name: "by hand, IPv4", From: hand[0], To: hand[1], Address: hand[1].addrs[0]},
		{Name: "Berth, IPv4", From: a, To: z, Address: z.addrs[0]},
		{Name: "Berth, IPv6", From: a, To: z, Address: z.addrs[1]},
		{Name: "by hand, IPv6", From: hand[0], To: hand[1], Address: hand[1].addrs[1]},
	}, b.N, 300*time.Millisecond)
	must(b, err)
	if b.N > 1 { // Go has run it once before, to see how long it takes
		b.Logf("\n%s%s", cluster.Table(speeds[:3], "by hand, IPv4"), cluster.Table(speeds[3:], "by hand, IPv6"))
	}
}
