package overlaytest

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/berth-cni/berth/pkg/overlay"
)

// race has nodes claim the same blocks at the same time: each block has one owner,
// and each node that was told so owns it.
func race(t *testing.T, b Backend) {
	const hosts, each = 5, 10 // goroutines
	ctx := limited(t)
	network, err := b.Open(t).CreateNetwork(ctx, Net("blue", "10.42.0.0/18")) // 64 blocks
	check(t, err)
	var mu sync.Mutex
	owned := map[netip.Prefix]string{}
	var wg sync.WaitGroup
	for h := range hosts {
		s, n := b.Open(t), Node(fmt.Sprint("host", h), h)
		check(t, s.Register(ctx, n, fmt.Sprint("boot", h), false, NotLost(t)))
		for i := range each {
			wg.Go(func() {
				taken := map[netip.Prefix]bool{}
				for {
					// All search from the same place.
					p, err := network.ChooseBlock(0, fmt.Sprint("place", i%2), func(p netip.Prefix) bool { return taken[p] })
					if err != nil {
						t.Errorf("%s: %v", n.Name, err)
						return
					}
					taken[p] = true
					block := BlockOf("blue", p.String(), n)
					if err := s.Claim(ctx, block); errors.Is(err, overlay.ErrTaken) {
						continue
					} else if err != nil {
						t.Errorf("%s: %v", n.Name, err)
						return
					}
					mu.Lock()
					old, again := owned[p]
					owned[p] = n.Name
					mu.Unlock()
					if again && old != n.Name {
						t.Errorf("block %s was given to %s and to %s", p, old, n.Name)
					}
					if !again {
						return
					} // else another goroutine of this host has it
				}
			})
		}
	}
	wg.Wait()
	state, err := b.Open(t).State(ctx)
	check(t, err)
	if len(state.Blocks) != hosts*each {
		t.Errorf("%d blocks are owned, want %d", len(state.Blocks), hosts*each)
	}
	for k, block := range state.Blocks {
		if owned[k.Prefix] != block.Node {
			t.Errorf("block %s is %s's, but %s was told that it has it", k.Prefix, block.Node, owned[k.Prefix])
		}
	}
}
