package overlaytest

import (
	"fmt"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
)

// removals: who removes a network says so, of that one alone.
func removals(t *testing.T, b Backend) {
	s, ctx := b.Open(t), limited(t)
	f := Follow(t, b.Open(t), true)
	blue, err := s.CreateNetwork(ctx, Net("blue", "10.42.0.0/16"))
	check(t, err)
	check(t, s.RemoveNetwork(ctx, "blue", true))
	again, err := s.CreateNetwork(ctx, Net("blue", "10.42.0.0/16"))
	check(t, err)
	f.WaitSame(t, s)
	f.State(func(st *overlay.State) {
		r, ok := st.NetworkRemoved(blue.ID)
		if !ok || r.Network != "blue" || !r.Forced || time.Since(r.At) > time.Minute {
			t.Errorf("removal of the first one: %+v, %v", r, ok)
		}
		if _, ok := st.NetworkRemoved(again.ID); ok {
			t.Error("the second one is removed, too")
		}
	})
}

// restore: a host gives an empty store all that it remembers; again, and there is
// nothing to do. What was removed does not come again.
func restore(t *testing.T, b Backend) {
	s, ctx := b.Open(t), limited(t)
	f := Follow(t, b.Open(t), true)
	memory := overlay.NewState()
	a := Node("a", 0)
	blue, red := Net("blue", "10.42.0.0/16"), Net("red", "10.43.0.0/16")
	for i, n := range []*overlay.Network{&blue, &red} {
		n.ID, n.VNI, n.Created = n.Name, overlay.FirstVNI+i, time.Unix(1, 0).UTC()
		n.SetDefaults()
	}
	u := overlay.Update{Networks: []overlay.Network{blue, red}, Nodes: []overlay.Node{a, Node("b", 1)},
		Removed: []overlay.Removal{{Network: "red", ID: "red", By: "x", At: time.Unix(2, 0).UTC()}, {Node: "b", ID: Node("b", 1).Token, At: time.Unix(2, 0).UTC()}}}
	for i := range 150 { // more than one transaction takes
		u.Blocks = append(u.Blocks, BlockOf("blue", fmt.Sprintf("10.42.%d.0/24", i), a))
	}
	u.Blocks = append(u.Blocks, BlockOf("red", "10.43.1.0/24", a), BlockOf("blue", "10.42.200.0/24", Node("b", 1)))
	memory.Apply(u)

	r, err := s.Restore(ctx, memory, true)
	check(t, err)
	if len(r.Networks) != 1 || len(r.Nodes) != 1 || len(r.Blocks) != 150 || len(r.Removed) != 2 || len(r.Refused) != 1 {
		t.Errorf("would give back %d networks, %d nodes, %d blocks, %d removals; refuses %v", len(r.Networks), len(r.Nodes), len(r.Blocks), len(r.Removed), r.Refused)
	}
	if state, err := s.State(ctx); err != nil || len(state.Networks)+len(state.Nodes)+len(state.Blocks)+len(state.Removed) != 0 {
		t.Errorf("a dry run has written: %s, %v", Print(state), err)
	}
	for range 2 {
		_, err = s.Restore(ctx, memory, false)
		check(t, err)
	}
	f.Wait(t, "all that was not removed", func(st *overlay.State) bool {
		n := st.Networks["blue"]
		return n.Same(&blue) && len(st.Networks) == 1 && st.Nodes["a"] == a && len(st.Nodes) == 1 && len(st.BlocksOf("blue", "a")) == 150 && len(st.Blocks) == 150 && len(st.Removed) == 2
	})
	r, err = s.Restore(ctx, memory, true)
	check(t, err)
	if !r.Empty() {
		t.Errorf("there is more to give back: %+v", r)
	}
	// What is there stays as it is.
	other := Net("blue", "10.42.0.0/16")
	other.ID, other.VNI, other.Created = "other", overlay.FirstVNI+7, time.Unix(3, 0).UTC()
	other.SetDefaults()
	memory.Apply(overlay.Update{Networks: []overlay.Network{other}})
	r, err = s.Restore(ctx, memory, false)
	check(t, err)
	if len(r.Networks) != 0 || len(r.Refused) != 2 {
		t.Errorf("over one of the name: %+v", r)
	}
	f.WaitSame(t, s)
}

// miss: what a node says of itself goes with its life.
func miss(t *testing.T, b Backend) {
	s, ctx := b.Open(t), limited(t)
	f := Follow(t, b.Open(t), true)
	a := Node("a", 0)
	m := overlay.Missed{Node: "a", Token: a.Token, Networks: []string{"1", "2"}}
	wantErr(t, s.Miss(ctx, m), overlay.ErrNotRegistered)
	check(t, s.Register(ctx, a, "boot", false, NotLost(t)))
	check(t, s.Miss(ctx, m))
	f.Wait(t, "what it misses", func(st *overlay.State) bool { return len(st.Missed["a"].Networks) == 2 })
	f.WaitSame(t, s)
	check(t, s.Miss(ctx, overlay.Missed{Node: "a"}))
	f.Wait(t, "nothing missed", func(st *overlay.State) bool { return len(st.Missed) == 0 })
	check(t, s.Miss(ctx, m))
	check(t, s.Close())
	f.WaitFor(t, 3*b.TTL, "gone with its life", func(st *overlay.State) bool { return len(st.Missed) == 0 })
}

// left: the store knows when a node went, in good order or not, until it is back.
func left(t *testing.T, b Backend) {
	witness, s, ctx := b.Open(t), b.Open(t), limited(t)
	f := Follow(t, witness, true)
	check(t, witness.Register(ctx, Node("w", 7), "boot", false, NotLost(t)))
	a := Node("a", 0)
	a.Seen = time.Now().Add(-time.Hour)
	away := func(since time.Time) func(*overlay.State) bool {
		return func(st *overlay.State) bool {
			_, alive := st.Alive["a"]
			return !alive && !st.Left["a"].At.Before(since.Truncate(time.Second)) && st.LastSeen("a") == st.Left["a"].At
		}
	}
	check(t, s.Register(ctx, a, "boot", false, NotLost(t)))
	start := time.Now()
	check(t, s.Withdraw(ctx))
	f.Wait(t, "when it went", away(start))
	time.Sleep(1100 * time.Millisecond)
	check(t, s.Register(ctx, a, "boot", true, NotLost(t)))
	f.Wait(t, "alive", func(st *overlay.State) bool { return len(st.Alive) == 2 })
	start = time.Now()
	check(t, s.Close())
	f.WaitFor(t, 5*b.TTL, "when it went, as another saw it", away(start))
	f.WaitSame(t, witness)
	check(t, witness.RemoveNode(ctx, "a", false))
	f.Wait(t, "gone with the node", func(st *overlay.State) bool { return len(st.Left) == 0 })
}
