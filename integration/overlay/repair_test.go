package overlay

import (
	"fmt"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/integration/sandbox"
)

// TestRepair has somebody change what the agent made. It is put right by itself.
func TestRepair(t *testing.T) {
	t.Parallel()
	b := newBed(t, 2, options{})
	one, two := b.container(b.Hosts[0], "one"), b.container(b.Hosts[1], "two")
	h := b.Hosts[0]
	n := b.definition(h, "blue")
	dev := n.Device()
	far, err := b.Hosts[1].Peer("blue", false)
	must(t, err)
	hop := far.Blocks[0].Addr().String()
	for _, damage := range []string{
		"ip link del " + dev,
		"ip link set " + dev + " down",
		"ip link set " + dev + " mtu 1200",
		"ip link set " + dev + " address 02:00:00:00:00:01",
		"ip addr flush dev " + dev,
		"ip route flush proto 98",
		"ip -6 route flush proto 98",
		"ip route replace " + far.Blocks[0].String() + " via " + hop + " dev " + dev + " onlink proto 98 mtu 1000",
		"ip neigh flush nud permanent dev " + dev,
		"ip neigh replace " + hop + " lladdr 02:00:00:00:00:01 dev " + dev + " nud permanent",
		"bridge fdb flush dev " + dev,
		"bridge fdb append 02:00:00:00:00:01 dev " + dev + " dst 192.168.77.99 self permanent",
		"sysctl -qw net.ipv4.conf." + dev + ".rp_filter=1",
		"nft flush ruleset",
		fmt.Sprintf("nft delete element inet berth vteps4 { %s . 4789 . %d }", far.Address, cluster.VNIWord(n)),
	} {
		if _, err := h.Output("sh", "-c", damage); err != nil {
			t.Errorf("%s: %v", damage, err)
			continue
		}
		took := b.settledWithin(40 * time.Second) // what the kernel does not tell of waits for the next comparison
		b.eventually(time.Second, func() error { return reach(one, two) })
		b.reaches(one, two)
		t.Logf("%-60s put right after %v", damage, took.Round(time.Millisecond))
	}
}

// TestDeletedWhileAway starts an agent on a host that lost everything meanwhile.
func TestDeletedWhileAway(t *testing.T) {
	b := newBed(t, 2, options{})
	one, two := b.container(b.Hosts[0], "one"), b.container(b.Hosts[1], "two")
	h := b.Hosts[0]
	a := b.agents[h]
	must(t, a.Stop())
	n := b.definition(h, "blue")
	must(t, h.Script("ip link del "+n.Device()))
	if err := b.network(h, "blue").Check(one.Container); err == nil {
		t.Error("CHECK passes without the device")
	} else if sandbox.Code(err) == 0 {
		t.Errorf("CHECK: %v", err)
	}
	must(t, a.Start())
	b.settled()
	b.reaches(one, two)
	must(t, b.network(h, "blue").Check(one.Container))
}
