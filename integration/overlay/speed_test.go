package overlay

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	model "github.com/berth-cni/berth/pkg/overlay"
)

// masquerade is what a host has that hides its containers from the outside, as every
// host of Berth's or Docker's has: with it, the kernel tracks connections.
const masquerade = `add table ip byhand
add chain ip byhand post { type nat hook postrouting priority srcnat; }
add rule ip byhand post ip saddr 10.78.0.0/16 oifname "eth0" masquerade
add chain ip byhand forward { type filter hook forward priority filter; }
add rule ip byhand forward ct state established,related accept
`

// BenchmarkSpeed measures containers of two hosts through Berth's overlay beside one that
// is built by hand on two more hosts of the same underlay, one by hand whose hosts
// masquerade, and the bare underlay, in turn. An operation is a round of all, in runs of
// 0.3 s.
func BenchmarkSpeed(b *testing.B) {
	bed := newBed(b, 2, options{})
	a, z := bed.container(bed.Hosts[0], "a"), bed.container(bed.Hosts[1], "z")
	hand := byHand(bed, model.Network{Name: "by-hand", VNI: 77, Port: model.DefaultPort}, 3)
	nat := byHand(bed, model.Network{Name: "by-hand-nat", VNI: 78, Port: model.DefaultPort}, 5)
	masqueradeOn(b, nat)
	bed.eventually(5*time.Second, func() error { return reach(hand[0], hand[1]) })
	bed.reaches(a, z)
	b.ResetTimer()
	measureSpeed(b, bed, []*place{a, z}, hand, nat)
}

// masqueradeOn has the hosts of containers masquerade, as Berth's do.
func masqueradeOn(b *testing.B, places []*place) {
	b.Helper()
	for _, p := range places {
		must(b, p.host.Do(func() error {
			cmd := exec.Command("nft", "-f", "-")
			cmd.Stdin = strings.NewReader(masquerade)
			return cmd.Run()
		}))
	}
}

// measureSpeed logs how fast Berth's pair of containers is beside pairs whose tunnel is made
// by hand, and beside the underlay.
func measureSpeed(b *testing.B, bed *bed, berth, hand, nat []*place) {
	b.Helper()
	speeds, err := cluster.Measure([]cluster.Path{
		{Name: "underlay", From: bed.Hosts[0], To: bed.Hosts[1], Address: bed.Hosts[1].Addr4},
		{Name: "by hand, IPv4", From: hand[0], To: hand[1], Address: hand[1].addrs[0]},
		{Name: "by hand, NAT", From: nat[0], To: nat[1], Address: nat[1].addrs[0]},
		{Name: "Berth, IPv4", From: berth[0], To: berth[1], Address: berth[1].addrs[0]},
		{Name: "Berth, IPv6", From: berth[0], To: berth[1], Address: berth[1].addrs[1]},
		{Name: "by hand, IPv6", From: hand[0], To: hand[1], Address: hand[1].addrs[1]},
		// Of the last one two runs follow each other, which warms it up: no base of others.
		{Name: "underlay, IPv6", From: bed.Hosts[0], To: bed.Hosts[1], Address: bed.Hosts[1].Addr6},
	}, b.N, 300*time.Millisecond)
	must(b, err)
	if b.N > 1 { // Go has run it once before, to see how long it takes
		b.Logf("\n%s%s", cluster.Table(speeds[:4], "by hand, IPv4"), cluster.Table(speeds[4:6], "by hand, IPv6"))
		b.Logf("beside hosts that masquerade as well:\n%s", cluster.Table(speeds[2:4], "by hand, NAT"))
	}
}

// byHand builds a network by hand on two more hosts, with a container on each.
func byHand(bed *bed, n model.Network, first int) (places []*place) {
	bed.t.Helper()
	var peers []cluster.Peer
	hosts := len(bed.Hosts)
	for i := range 2 {
		h, err := bed.Host(fmt.Sprintf("h%d", first+i), first+i)
		must(bed.t, err)
		peers = append(peers, cluster.Peer{Name: h.Name, Address: h.Addr4, MTU: 1450, Blocks: []netip.Prefix{
			netip.MustParsePrefix(fmt.Sprintf("10.%d.%d.0/24", n.VNI, i)), netip.MustParsePrefix(fmt.Sprintf("fd00:%d:0:%d::/64", n.VNI, i))}})
	}
	for i, h := range bed.Hosts[hosts:] {
		must(bed.t, h.ByHand(n, peers[i], peers))
		c, addrs, err := h.ContainerByHand(n, peers[i], "hand-"+h.Name, 1)
		must(bed.t, err)
		places = append(places, &place{c, h, addrs})
	}
	return places
}
