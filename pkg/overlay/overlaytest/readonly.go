package overlaytest

import (
	"context"
	"testing"

	"github.com/berth-cni/berth/pkg/overlay"
)

// ReadOnly is what a store that cannot be written is known to hold.
type ReadOnly struct {
	Node              overlay.Node // that may register
	Mine, Taken, Free overlay.BlockKey
}

// ConformReadOnly runs the tests of a store that is written by hand. It closes the
// store.
func ConformReadOnly(t *testing.T, s overlay.Store, want ReadOnly) {
	ctx := limited(t)
	f := Follow(t, s, true)
	f.WaitSame(t, s)
	block := func(k overlay.BlockKey) overlay.Block {
		return overlay.Block{Network: k.Network, Prefix: k.Prefix, Node: want.Node.Name, Token: want.Node.Token}
	}
	stranger := Node("stranger", 5)
	wantErr(t, s.Register(ctx, stranger, "boot", false, NotLost(t)), overlay.ErrNotFound)
	wantErr(t, s.Register(ctx, stranger, "boot", true, NotLost(t)), overlay.ErrRemoved)
	elsewhere := want.Node
	elsewhere.Address = stranger.Address
	if err := s.Register(ctx, elsewhere, "boot", false, NotLost(t)); err == nil {
		t.Error("register with another address: no error")
	}
	for range 2 {
		check(t, s.Register(ctx, want.Node, "boot", true, NotLost(t)))
	}
	f.Wait(t, "the node under its own token", func(st *overlay.State) bool {
		return st.Nodes[want.Node.Name].Token == want.Node.Token && st.Blocks[want.Mine].Token == want.Node.Token &&
			len(st.BlocksOf(want.Mine.Network, want.Node.Name)) > 0
	})
	f.WaitSame(t, s)
	check(t, s.Claim(ctx, block(want.Mine)))
	wantErr(t, s.Claim(ctx, block(want.Taken)), overlay.ErrTaken)
	wantErr(t, s.Claim(ctx, block(want.Free)), overlay.ErrReadOnly)
	_, err := s.CreateNetwork(ctx, Net("green", "10.99.0.0/16"))
	wantErr(t, err, overlay.ErrReadOnly)
	wantErr(t, s.RemoveNetwork(ctx, want.Mine.Network, true), overlay.ErrReadOnly)
	wantErr(t, s.RemoveNode(ctx, want.Node.Name, true), overlay.ErrReadOnly)
	check(t, s.Withdraw(ctx))
	check(t, s.Withdraw(ctx))
	ended, cancel := context.WithCancel(ctx)
	cancel()
	wantErr(t, s.Watch(ended, func(overlay.Update) {}), context.Canceled)
	wantErr(t, s.Register(ended, want.Node, "boot", true, NotLost(t)), context.Canceled)
	check(t, s.Close())
	f.Stop()
	if f.Err() == nil {
		t.Error("the Watch has ended without an error")
	}
}
