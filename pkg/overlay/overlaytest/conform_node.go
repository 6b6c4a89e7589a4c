package overlaytest

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
)

func register(t *testing.T, b Backend) {
	s, ctx := b.Open(t), limited(t)
	f := Follow(t, b.Open(t), true)
	a := Node("a", 0)
	check(t, s.Register(ctx, a, "boot1", false, NotLost(t)))
	f.Wait(t, "the node, alive", func(st *overlay.State) bool {
		return st.Alive["a"].Instance == "boot1" && st.Nodes["a"].Token == a.Token
	})
	var first overlay.Node
	f.State(func(st *overlay.State) { first = st.Nodes["a"] })
	if first.Since.IsZero() || time.Since(first.Seen) > time.Minute {
		t.Errorf("since %s, seen %s", first.Since, first.Seen)
	}
	a.Address, a.MTU = netip.MustParseAddr("192.0.2.99"), 9000
	check(t, s.Register(ctx, a, "boot1", true, NotLost(t)))
	f.Wait(t, "the new address", func(st *overlay.State) bool {
		return st.Nodes["a"].Address == a.Address && st.Nodes["a"].MTU == 9000 && st.Alive["a"].Address == a.Address
	})
	f.State(func(st *overlay.State) {
		if now := st.Nodes["a"]; !now.Since.Equal(first.Since) {
			t.Errorf("since %s, was %s", now.Since, first.Since)
		}
	})
	time.Sleep(b.TTL * 3 / 2)
	f.Wait(t, "still alive", func(st *overlay.State) bool { return len(st.Alive) == 1 })
	check(t, s.Withdraw(ctx))
	f.Wait(t, "not alive, but there", func(st *overlay.State) bool { return len(st.Alive) == 0 && len(st.Nodes) == 1 })
	check(t, s.Withdraw(ctx))
	bad := a
	bad.Name = "../a"
	if err := s.Register(ctx, bad, "boot1", false, NotLost(t)); err == nil {
		t.Error("a name with a path: no error")
	}
	f.WaitSame(t, s)
}

func sameName(t *testing.T, b Backend) {
	s, other, ctx := b.Open(t), b.Open(t), limited(t)
	check(t, s.Register(ctx, Node("a", 0), "boot1", false, NotLost(t)))
	before, err := s.State(ctx)
	check(t, err)
	for _, known := range []bool{false, true} {
		c := wantAs[*overlay.ConflictError](t, other.Register(ctx, Node("a", 1), "boot2", known, NotLost(t)))
		if c.Cloned || c.Node != "a" || c.Address != Node("a", 0).Address {
			t.Errorf("conflict %+v", c)
		}
	}
	// Also when the first one is away: the name stays its own.
	check(t, s.Withdraw(ctx))
	wantAs[*overlay.ConflictError](t, other.Register(ctx, Node("a", 1), "boot2", false, NotLost(t)))
	after, err := s.State(ctx)
	check(t, err)
	if after.Nodes["a"] != before.Nodes["a"] || len(after.Alive) != 0 {
		t.Errorf("the loser has written: %+v, alive %v", after.Nodes["a"], after.Alive)
	}
}

// removed: a node that was removed comes again under another token alone; one that the
// store has merely lost comes as it was.
func removed(t *testing.T, b Backend) {
	s, ctx := b.Open(t), limited(t)
	a := Node("a", 0)
	check(t, s.Register(ctx, a, "boot1", true, NotLost(t))) // which a new store does not know
	state, err := s.State(ctx)
	check(t, err)
	if state.Nodes["a"].Token != a.Token {
		t.Errorf("the node has come as another: %s", Print(state))
	}
	check(t, s.Withdraw(ctx))
	check(t, s.RemoveNode(ctx, "a", false))
	for _, known := range []bool{true, false} {
		wantErr(t, s.Register(ctx, a, "boot1", known, NotLost(t)), overlay.ErrRemoved)
	}
	state, err = s.State(ctx)
	check(t, err)
	if r, ok := state.NodeRemoved("a", a.Token); !ok || r.Forced || time.Since(r.At) > time.Minute || len(state.Nodes) != 0 {
		t.Errorf("removal %+v, %s", r, Print(state))
	}
	check(t, s.Register(ctx, Node("a", 1), "boot1", false, NotLost(t)))
}

func restart(t *testing.T, b Backend) {
	first, second, ctx := b.Open(t), b.Open(t), limited(t)
	f := Follow(t, b.Open(t), true)
	check(t, first.Register(ctx, Node("a", 0), "boot1", false, NotLost(t)))
	check(t, first.Close()) // without Withdraw
	start := time.Now()
	check(t, second.Register(ctx, Node("a", 0), "boot1", true, NotLost(t)))
	if took := time.Since(start); took > b.TTL*3/4 {
		t.Errorf("the same boot took over after %s", took)
	}
	time.Sleep(b.TTL * 3 / 2)
	f.Wait(t, "alive", func(st *overlay.State) bool { return len(st.Alive) == 1 })
	for _, u := range f.Updates() {
		if len(u.GoneAlive) > 0 {
			t.Error("it was not alive in between")
		}
	}
}

func reboot(t *testing.T, b Backend) {
	first, second, ctx := b.Open(t), b.Open(t), limited(t)
	check(t, first.Register(ctx, Node("a", 0), "boot1", false, NotLost(t)))
	check(t, first.Close())
	check(t, second.Register(ctx, Node("a", 0), "boot2", true, NotLost(t)))
}

func clone(t *testing.T, b Backend) {
	s, copied, ctx := b.Open(t), b.Open(t), limited(t)
	check(t, s.Register(ctx, Node("a", 0), "boot1", false, NotLost(t)))
	c := wantAs[*overlay.ConflictError](t, copied.Register(ctx, Node("a", 0), "boot2", true, NotLost(t)))
	if !c.Cloned || c.Address != Node("a", 0).Address || c.Since.IsZero() {
		t.Errorf("conflict %+v, want one with a clone", c)
	}
	short, cancel := context.WithTimeout(ctx, b.TTL/4)
	defer cancel()
	wantErr(t, copied.Register(short, Node("a", 0), "boot2", true, NotLost(t)), context.DeadlineExceeded)
	// The agent of the first one starts again: the copy does not come between.
	refused := make(chan error, 1)
	go func() { refused <- copied.Register(ctx, Node("a", 0), "boot2", true, NotLost(t)) }()
	time.Sleep(b.TTL / 2)
	check(t, s.Withdraw(ctx))
	if c := wantAs[*overlay.ConflictError](t, <-refused); !c.Cloned {
		t.Errorf("conflict %+v, want one with a clone", c)
	}
	check(t, s.Register(ctx, Node("a", 0), "boot1", true, NotLost(t)))
}

func removeNode(t *testing.T, b Backend) {
	admin, s, ctx := b.Open(t), b.Open(t), limited(t)
	f := Follow(t, b.Open(t), true)
	for _, n := range []overlay.Network{Net("blue", "10.42.0.0/16"), Net("red", "10.43.0.0/16")} {
		_, err := admin.CreateNetwork(ctx, n)
		check(t, err)
	}
	a, other := Node("a", 0), Node("b", 1)
	lost := make(chan error, 1)
	check(t, s.Register(t.Context(), a, "boot1", false, func(err error) { lost <- err }))
	otherStore := b.Open(t)
	check(t, otherStore.Register(t.Context(), other, "boot9", false, NotLost(t)))
	check(t, otherStore.Claim(ctx, BlockOf("blue", "10.42.200.0/24", other)))
	claimMany(t, s, a, 130)
	ctx = limited(t)
	check(t, s.Claim(ctx, BlockOf("red", "10.43.0.0/24", a)))
	wantAs[*overlay.InUseError](t, admin.RemoveNode(ctx, "a", false))
	select {
	case err := <-lost:
		t.Fatalf("lost before it was: %v", err)
	default:
	}
	check(t, admin.RemoveNode(limited(t), "a", true))
	select {
	case err := <-lost:
		wantErr(t, err, overlay.ErrRemoved)
	case <-time.After(Patience):
		t.Fatal("the node was not told that it was removed")
	}
	f.Wait(t, "the other node alone", func(st *overlay.State) bool {
		return len(st.Nodes) == 1 && len(st.Alive) == 1 && len(st.Blocks) == 1
	})
	wantErr(t, s.Claim(ctx, BlockOf("blue", "10.42.1.0/24", a)), overlay.ErrRemoved)
	wantErr(t, admin.RemoveNode(ctx, "a", false), overlay.ErrNotFound)
	wantErr(t, s.Register(ctx, a, "boot1", true, NotLost(t)), overlay.ErrRemoved)
	a.Token = "another"
	check(t, s.Register(ctx, a, "boot1", false, NotLost(t))) // as a new one
	check(t, s.Withdraw(ctx))
	check(t, admin.RemoveNode(ctx, "a", false))
	f.WaitSame(t, admin)
}

func claim(t *testing.T, b Backend) {
	s, other, ctx := b.Open(t), b.Open(t), limited(t)
	f := Follow(t, b.Open(t), true)
	_, err := s.CreateNetwork(ctx, Net("blue", "10.42.0.0/16"))
	check(t, err)
	a, c := Node("a", 0), Node("c", 2)
	check(t, s.Register(ctx, a, "boot1", false, NotLost(t)))
	check(t, other.Register(ctx, c, "boot2", false, NotLost(t)))
	mine := BlockOf("blue", "10.42.3.0/24", a)
	check(t, s.Claim(ctx, mine))
	check(t, s.Claim(ctx, mine))
	mine.Used = true
	check(t, s.Claim(ctx, mine))
	f.Wait(t, "the block, used", func(st *overlay.State) bool { return st.Blocks[mine.Key()].Used })
	wantErr(t, other.Claim(ctx, BlockOf("blue", "10.42.3.0/24", c)), overlay.ErrTaken)
	wantErr(t, s.Claim(ctx, BlockOf("none", "10.42.3.0/24", a)), overlay.ErrNotFound)
	wantErr(t, s.Claim(ctx, BlockOf("blue", "10.42.4.0/24", Node("nobody", 3))), overlay.ErrNotRegistered)
	stolen := BlockOf("blue", "10.42.4.0/24", a)
	stolen.Token = "guessed"
	wantAs[*overlay.ConflictError](t, other.Claim(ctx, stolen))
	for _, prefix := range []string{"10.43.0.0/24", "10.42.0.0/25", "10.42.0.0/16", "fd00::/64"} {
		if err := s.Claim(ctx, BlockOf("blue", prefix, a)); err == nil || errors.Is(err, overlay.ErrTaken) {
			t.Errorf("block %s, which is none of the network's: %v", prefix, err)
		}
	}
	check(t, s.Withdraw(ctx))
	wantErr(t, other.Claim(ctx, BlockOf("blue", "10.42.3.0/24", c)), overlay.ErrTaken) // it stays a's
	f.WaitSame(t, s)
	f.State(func(st *overlay.State) {
		if got := st.BlocksOf("blue", "a"); len(got) != 1 || got[0] != mine.Prefix {
			t.Errorf("blocks of a: %v", got)
		}
	})
}
