package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/replica"
)

// giving is how far the host is with giving back to the store what it has lost.
type giving struct {
	lost  *replica.Lost // at the last look
	sum   string        // what all hosts say that they miss
	since time.Time     // that they say so
	never string        // of sums, the one with which the store did not let this host write
	busy  bool
}

// tellBroken tells people of a store that is not what it was.
func (a *Agent) tellBroken(u overlay.Update) {
	if b := a.replica.Broken; u.Full && b != nil {
		a.giving.lost = a.replica.Lost()
		a.Log.Warn("the store is not the one it was; what it has lost goes on", "because", b.Why, "lost", describeLost(a.giving.lost),
			"mend", "put the right data back, or: berth network restore")
	}
}

// describeLost is "networks [blue], 3 nodes, 12 blocks".
func describeLost(l *replica.Lost) string {
	var names []string
	for _, n := range l.Networks {
		names = append(names, n.Name)
	}
	return fmt.Sprintf("networks %v, %d nodes, %d blocks", names, len(l.Nodes), l.Blocks)
}

// giveBack gives the store what it has lost in a break of its history, when all hosts
// that live say the same for a while: the first of them, and the next ones if it does
// not. What somebody deleted in a history that goes on is not given back: a program of
// before may have meant it.
func (a *Agent) giveBack() {
	g := &a.giving
	if !a.fresh || a.away.err != nil || !a.registered || g.busy {
		return
	}
	g.lost = a.replica.Lost()
	returned := a.replica.Returned()
	var ids []string
	if a.replica.Broken != nil {
		if g.lost.Empty() {
			a.Log.Info("the store has all again that it had", "since", a.replica.Broken.Since)
			a.replica.Broken, a.saved.dirty = nil, true
		}
		for _, n := range g.lost.Networks {
			ids = append(ids, n.ID)
		}
		slices.Sort(ids)
	}
	if !slices.Equal(a.state.Missed[a.id.Node].Networks, ids) {
		a.work("say what the store has lost", func(ctx context.Context) error {
			return a.Store.Miss(ctx, overlay.Missed{Node: a.id.Node, Token: a.id.Token, Networks: ids})
		})
		return
	}
	if len(returned) == 0 && (a.replica.Broken == nil || g.lost.Empty()) {
		g.sum = ""
		return
	}
	alive := slices.Sorted(maps.Keys(a.state.Alive))
	agreed, sum := true, fmt.Sprint(ids, len(returned))
	for _, node := range alive {
		m, ok := a.state.Missed[node]
		agreed = agreed && (!ok || slices.Equal(m.Networks, ids))
		sum += fmt.Sprint(" ", node, m.Networks)
	}
	if sum != g.sum {
		g.sum, g.since = sum, time.Now()
	}
	rank := max(0, slices.Index(alive, a.id.Node))
	if time.Since(g.since) < time.Duration(2+rank)*a.Resync || g.never == g.sum {
		return
	}
	from := overlay.NewState()
	from.Apply(overlay.Update{Removed: returned})
	if agreed && a.replica.Broken != nil {
		from = a.remembered()
	}
	a.work("give back to the store what it has lost", func(ctx context.Context) error {
		r, err := a.Store.Restore(ctx, from, false)
		if errors.Is(err, overlay.ErrNotAllowed) {
			a.Log.Warn("the store has lost what is not this host's to give back", "mend", "berth network restore, by somebody who may", "because", err)
			a.do(ctx, func() { g.never = sum })
			return nil
		}
		if err == nil && r.Empty() {
			a.Log.Info("the store takes nothing of what it has lost", "refused", errors.Join(r.Refused...))
		} else if err == nil {
			a.Log.Warn("the store was given back what it had lost", "networks", len(r.Networks), "nodes", len(r.Nodes), "blocks", len(r.Blocks),
				"removals", len(r.Removed), "refused", errors.Join(r.Refused...))
		}
		return err
	})
}

// work asks something of the store, beside the loop.
func (a *Agent) work(what string, ask func(context.Context) error) {
	a.giving.busy = true
	a.workers.Go(func() {
		ctx, cancel := context.WithTimeout(a.ctx, 2*claimTimeout)
		defer cancel()
		err := ask(ctx)
		if err != nil && a.ctx.Err() == nil {
			a.Log.Warn(what, "error", err)
			sleep(a.ctx, jitter(time.Second))
		}
		a.do(a.ctx, func() { a.giving.busy, a.giving.since = false, time.Now() })
	})
}

// remembered is all that the host remembers, to be read beside the loop.
func (a *Agent) remembered() *overlay.State {
	u := overlay.Update{
		Networks: slices.Collect(maps.Values(a.state.Networks)), Nodes: slices.Collect(maps.Values(a.state.Nodes)),
		Blocks: slices.Collect(maps.Values(a.state.Blocks)), Removed: slices.Collect(maps.Values(a.state.Removed)),
	}
	for name, n := range a.nets {
		for _, b := range n.local.Blocks {
			u.Blocks = append(u.Blocks, overlay.Block{Network: name, Prefix: b, Node: a.id.Node, Token: a.id.Token, Used: n.used[b] > 0})
		}
	}
	s := overlay.NewState()
	s.Apply(u)
	return s
}

// lost says what the store has lost.
func (s *StoreStatus) lost(a *Agent) {
	if b := a.replica.Broken; b != nil {
		s.Broken, s.BrokenSince = b.Why, b.Since
	}
	if l := a.giving.lost; l != nil {
		for _, n := range l.Networks {
			s.LostNetworks = append(s.LostNetworks, n.Name)
		}
		s.LostNodes, s.LostBlocks = l.Nodes, l.Blocks
		s.Nodes -= len(l.Nodes)
	}
}
