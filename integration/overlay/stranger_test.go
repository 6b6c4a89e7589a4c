package overlay

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	model "github.com/berth-cni/berth/pkg/overlay"
)

// TestStranger has a machine of the underlay that is no node send packets of the
// network, with the address of another host's container as their source. They are
// dropped, until the firewall is told that it is a peer.
func TestStranger(t *testing.T) {
	b := newBed(t, 2, options{})
	one, two := b.container(b.Hosts[0], "one"), b.container(b.Hosts[1], "two")
	n := b.definition(b.Hosts[0], "blue")
	target, err := b.Hosts[0].Peer("blue", false)
	must(t, err)
	posed, err := b.Hosts[1].Peer("blue", false)
	must(t, err)
	x, err := b.Host("x", 66)
	must(t, err)
	posed.Address = x.Addr4
	must(t, x.ByHand(n, posed, []cluster.Peer{target}))
	c, _, err := x.ContainerByHand(n, posed, "stranger", 1)
	must(t, err)
	for i, a := range two.addrs { // which ContainerByHand need not have chosen
		_, _ = x.Output("ip", "-n", "stranger", "addr", "add", fmt.Sprintf("%s/%d", a, posed.Blocks[i].Bits()), "dev", "eth0", "nodad")
	}
	arrive := func() cluster.FlowReport {
		f, err := cluster.StartFlow(c, one, one.addrs[0], 10*time.Millisecond)
		must(t, err)
		time.Sleep(time.Second)
		return f.Stop()
	}
	if r := arrive(); r.Received != 0 || r.Sent < 50 {
		t.Errorf("packets of a stranger: %v", r)
	}
	block := posed.Blocks[slices.IndexFunc(posed.Blocks, func(p netip.Prefix) bool { return p.Addr().Is4() })]
	must(t, b.Hosts[0].Script(fmt.Sprintf("nft add element inet berth inner44 { %s . %#x-%#x }",
		x.Addr4, block.Addr().AsSlice(), model.Last(block).AsSlice())))
	if r := arrive(); r.Received != 0 || r.Sent < 50 {
		t.Errorf("packets of a stranger from a peer's block: %v", r)
	}
	must(t, b.Hosts[0].Script(fmt.Sprintf("nft add element inet berth vteps4 { %s . %d . %d }", x.Addr4, n.Port, cluster.VNIWord(n))))
	if r := arrive(); r.Received == 0 {
		t.Errorf("packets of the same machine as a peer: %v", r)
	}
	b.reaches(one, two)
}
