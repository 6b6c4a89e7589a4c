package overlaytest

import (
	"fmt"
	"sync"
	"testing"

	"github.com/berth-cni/berth/pkg/overlay"
)

func networks(t *testing.T, b Backend) {
	s, ctx := b.Open(t), limited(t)
	f := Follow(t, b.Open(t), true)
	blue, err := s.CreateNetwork(ctx, Net("blue", "10.42.0.0/16"))
	check(t, err)
	if blue.VNI != overlay.FirstVNI || blue.ID == "" || blue.Port != overlay.DefaultPort || blue.NodePrefix[0] != 24 || blue.Created.IsZero() {
		t.Errorf("the defaults are not filled in: %+v", blue)
	}
	given := Net("green", "fd00:43::/48")
	given.VNI = overlay.FirstVNI + 1
	_, err = s.CreateNetwork(ctx, given)
	check(t, err)
	red, err := s.CreateNetwork(ctx, Net("red", "10.44.0.0/16"))
	check(t, err)
	if red.VNI != overlay.FirstVNI+2 {
		t.Errorf("VNI %d, want the lowest free one, %d", red.VNI, overlay.FirstVNI+2)
	}
	for i, name := range []string{"secret", "hidden"} { // each with a port of its own
		n := Net(name, fmt.Sprintf("10.%d.0.0/16", 70+i))
		n.Encrypted = true
		made, err := s.CreateNetwork(ctx, n)
		check(t, err)
		if !made.Encrypted || made.Port != 0 || made.ListenPort != overlay.FirstListen+i {
			t.Errorf("encrypted: %+v", made)
		}
	}
	samePort := Net("gray", "10.50.0.0/16")
	samePort.Encrypted, samePort.ListenPort = true, overlay.FirstListen
	if _, err := s.CreateNetwork(ctx, samePort); err == nil {
		t.Error("an encrypted network with the port of another")
	}
	sameVNI := Net("gray", "10.50.0.0/16")
	sameVNI.VNI = red.VNI
	for what, n := range map[string]overlay.Network{
		"same name":      Net("blue", "10.60.0.0/16"),
		"same VNI":       sameVNI,
		"overlap":        Net("gray", "10.42.7.0/24"),
		"not valid":      Net("gray", "10.42.7.1/24"),
		"no valid name":  Net("../gray", "10.61.0.0/16"),
		"a slash inside": Net("gr/ay", "10.61.0.0/16"),
	} {
		if _, err := s.CreateNetwork(ctx, n); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	f.WaitSame(t, s)
	wantErr(t, s.RemoveNetwork(ctx, "gray", false), overlay.ErrNotFound)
	check(t, s.RemoveNetwork(ctx, "blue", false))
	again, err := s.CreateNetwork(ctx, Net("blue", "10.42.0.0/16"))
	check(t, err)
	if again.ID == blue.ID || again.VNI != blue.VNI {
		t.Errorf("made again: %+v, was %+v: want another ID, and the VNI that is free again", again, blue)
	}
	f.WaitSame(t, s)
}

func networksAtOnce(t *testing.T, b Backend) {
	const n = 6
	ctx := limited(t)
	var wg sync.WaitGroup
	made, errs := make([]overlay.Network, 2*n), make([]error, 2*n)
	for i := range 2 * n {
		s := b.Open(t)
		subnet := fmt.Sprintf("10.%d.0.0/16", 100+i)
		if i >= n {
			subnet = fmt.Sprintf("10.42.0.0/%d", 16+i%3) // these overlap
		}
		wg.Go(func() { made[i], errs[i] = s.CreateNetwork(ctx, Net(fmt.Sprint("net", i), subnet)) })
	}
	wg.Wait()
	won, vnis := 0, map[int]bool{}
	for i := range made {
		switch {
		case i < n && errs[i] != nil:
			t.Errorf("network %d: %v", i, errs[i])
		case errs[i] == nil:
			if vnis[made[i].VNI] {
				t.Errorf("VNI %d twice", made[i].VNI)
			}
			vnis[made[i].VNI] = true
		}
		if i >= n && errs[i] == nil {
			won++
		}
	}
	if won != 1 {
		t.Errorf("%d of the networks that overlap were made, want 1: %v", won, errs[n:])
	}
	state, err := b.Open(t).State(ctx)
	check(t, err)
	if bad := state.Conflicts(); len(bad) > 0 || len(state.Bad) > 0 {
		t.Errorf("conflicts %v, bad %v", bad, state.Bad)
	}
}

func removeNetwork(t *testing.T, b Backend) {
	s, ctx := b.Open(t), limited(t)
	f := Follow(t, b.Open(t), true)
	_, err := s.CreateNetwork(ctx, Net("blue", "10.42.0.0/16"))
	check(t, err)
	_, err = s.CreateNetwork(ctx, Net("blue2", "10.43.0.0/16"))
	check(t, err)
	a := Node("a", 0)
	check(t, s.Register(t.Context(), a, "boot", false, NotLost(t)))
	claimMany(t, s, a, 300) // more than one transaction takes
	ctx = limited(t)
	check(t, s.Claim(ctx, BlockOf("blue2", "10.43.0.0/24", a)))
	used := BlockOf("blue", "10.42.7.0/24", a)
	used.Used = true
	check(t, s.Claim(ctx, used))
	f.WaitSame(t, s)
	inUse := wantAs[*overlay.InUseError](t, s.RemoveNetwork(ctx, "blue", false))
	if len(inUse.By) != 1 || inUse.By[0] != "a" {
		t.Errorf("in use by %v, want a", inUse.By)
	}
	check(t, s.RemoveNetwork(limited(t), "blue", true))
	f.Wait(t, "the other network's block alone", func(st *overlay.State) bool { return len(st.Networks) == 1 && len(st.Blocks) == 1 })
	check(t, s.RemoveNetwork(limited(t), "blue2", false)) // not used: a block alone is no reason
	f.Wait(t, "nothing", func(st *overlay.State) bool { return len(st.Networks) == 0 && len(st.Blocks) == 0 })
	wantErr(t, s.Claim(limited(t), used), overlay.ErrNotFound)
	f.WaitSame(t, s)
}

// claimMany claims blocks of blue, n of them or all that there are, some at a time.
func claimMany(t *testing.T, s overlay.Store, a overlay.Node, n int) {
	t.Helper()
	var wg sync.WaitGroup
	numbers := make(chan int)
	for range 4 {
		wg.Go(func() {
			for i := range numbers {
				if err := s.Claim(limited(t), BlockOf("blue", fmt.Sprintf("10.42.%d.0/24", i%256), a)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range n {
		numbers <- i
	}
	close(numbers)
	wg.Wait()
}
