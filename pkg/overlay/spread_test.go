package overlay

import (
	"fmt"
	"net/netip"
	"testing"
)

// Nodes with names as people give them have different MACs, and seldom choose one
// block at the same time.
func TestSpread(t *testing.T) {
	n := Network{Name: "blue", Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, NodePrefix: []int{24}}
	macs, blocks := map[string]string{}, map[netip.Prefix]int{}
	const nodes = 10_000 // of 65,536 blocks
	for i := range nodes {
		node := fmt.Sprintf("node-%04d.rack%d.example", i, i/40)
		mac := MAC(n.Name, node).String()
		if other, twice := macs[mac]; twice {
			t.Errorf("%s and %s have the MAC %s", node, other, mac)
		}
		macs[mac] = node
		b, err := n.ChooseBlock(0, node, func(netip.Prefix) bool { return false })
		if err != nil {
			t.Fatal(err)
		}
		blocks[b]++
	}
	if twice := nodes - len(blocks); twice > nodes/8 { // by chance one in 14
		t.Errorf("%d of %d nodes choose another one's block", twice, nodes)
	}
}
