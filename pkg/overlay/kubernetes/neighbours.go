package kubernetes

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
)

// Where there are so many nodes that nobody looks at all leases in twice the TTL, each agent
// looks after two others': those of the next names. Of one that has run out it says so in its
// own node's object, of which all are told; before they believe it they look at that one lease
// themselves, one after the other and spread over a time. So a death costs each node one
// request, and a node at rest two in each TTL, however many there are.
const (
	neighbours = 2
	// doubtSpread is what a node waits by chance, for each node there is, before it looks at a
	// lease of which all have been told.
	doubtSpread = 2 * time.Millisecond
	// maxExpired is how many nodes one node says it of, as the definition has it.
	maxExpired = 64
)

// look is what was found of a node's lease.
type look struct {
	node      string
	lease     *lease // nil: there is none
	err       error
	neighbour bool
}

// watchNeighbours looks at the neighbours' leases, where that is of use.
func (c *collector) watchNeighbours(ctx context.Context, work func(func())) {
	c.rounds.Reset(jitter(c.s.o.TTL))
	r := c.s.registered()
	if r == nil || !c.own || !c.told || c.away || time.Now().Before(c.grace) || c.sweepEvery() <= 2*c.s.o.TTL {
		return
	}
	c.endLeft()
	for _, node := range c.next(r.node.Name) {
		c.lookAt(ctx, work, node, true)
	}
	c.sayExpired(ctx, work)
}

// next are the nodes that live whose names come next, round to the first one.
func (c *collector) next(own string) []string {
	var all []string
	for name, n := range c.lives {
		if name != own && n.Instance != "" && !n.dead {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	i, _ := slices.BinarySearch(all, own)
	return slices.Concat(all[i:], all[:i])[:min(neighbours, len(all))]
}

// endLeft ends the names of nodes whose agents ended in good order and did not come back: one
// that had would have said so.
func (c *collector) endLeft() {
	for name, n := range c.lives {
		if n.Instance == "" && !n.dead && !n.left.IsZero() && c.s.c.Now().Sub(n.left) > 2*c.s.o.TTL {
			n.dead = true
			c.s.tellVital(name, true)
		}
	}
}

// lookAt reads a node's lease for the collector; one that is no neighbour's after a time.
func (c *collector) lookAt(ctx context.Context, work func(func()), node string, neighbour bool) {
	if c.looking[node] {
		return
	}
	c.looking[node] = true
	wait := rand.N(time.Duration(c.s.size.Load()+1) * doubtSpread)
	if neighbour {
		wait = 0
	}
	work(func() {
		k := look{node: node, neighbour: neighbour}
		var l lease
		if k.err = sleep(ctx, wait); k.err == nil {
			k.err = c.s.c.Get(ctx, c.s.leases.Path(node), &l)
		}
		switch {
		case k.err == nil:
			k.lease = &l
		case client.IsNotFound(k.err):
			k.err = nil
		}
		select {
		case c.looks <- k:
		case <-ctx.Done():
		}
	})
}

// judge takes what was found of a node's lease.
func (c *collector) judge(ctx context.Context, work func(func()), k look) {
	delete(c.looking, k.node)
	if !k.neighbour {
		c.doubting = false
		c.hear(ctx, work)
	}
	n := c.lives[k.node]
	if k.err != nil || n == nil || n.Instance == "" || n.dead || c.away || time.Now().Before(c.grace) {
		return
	}
	switch {
	case k.lease == nil && time.Since(n.changed) < c.s.o.TTL: // it comes behind the object
		return
	case k.lease == nil:
		n.renewed = time.Time{}
	case c.s.c.Now().After(k.lease.ends()):
		n.renewed = k.lease.missed()
	default:
		return
	}
	n.dead = true
	if k.neighbour {
		c.found[k.node] = true
		c.sayExpired(ctx, work)
	}
	c.s.tellVital(k.node, true)
	var u overlay.Update
	c.tell(&u, k.node, n)
	c.say(u)
}

// sayExpired has the own node's object say of which neighbours the lease has run out, when
// that has changed.
func (c *collector) sayExpired(ctx context.Context, work func(func())) {
	r := c.s.registered()
	if r == nil {
		return
	}
	for name := range c.found {
		if n := c.lives[name]; n == nil || !n.dead || n.Instance == "" {
			delete(c.found, name)
		}
	}
	now := slices.Sorted(maps.Keys(c.found))
	now = now[:min(len(now), maxExpired)]
	if own := c.lives[r.node.Name]; own == nil || slices.Equal(own.expired, now) {
		return
	}
	work(func() {
		err := c.s.c.Patch(ctx, c.s.nodes.Path(r.node.Name), client.Merge, map[string]any{
			"metadata": map[string]any{"uid": r.owner().Metadata.UID}, "status": map[string]any{"expired": now}}, nil)
		if err != nil && ctx.Err() == nil {
			c.s.o.Log.Debug("say whose leases have run out", "nodes", now, "error", err)
		}
	})
}

// hear takes what other nodes say of leases: one after the other, so that whoever says
// nonsense does not have all nodes ask the server all the time.
func (c *collector) hear(ctx context.Context, work func(func())) {
	for len(c.heard) > 0 && !c.doubting {
		node := c.heard[0]
		c.heard = c.heard[1:]
		if n := c.lives[node]; n != nil && n.Instance != "" && !n.dead && c.own && c.s.registered() != nil && !c.looking[node] {
			c.doubting = true
			c.lookAt(ctx, work, node, false)
		}
	}
}

// maxHeard bounds what waits to be looked at.
const maxHeard = 1024

// tellVital tells all who follow names that a node has died, or lives.
func (s *Store) tellVital(node string, dead bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.followers {
		c.vitals[node] = dead // the last one counts
		nudge(c.vital)
	}
}

// followVitals has a collector of names told of nodes' lives, until the end.
func (s *Store) followVitals(c *collector) (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.followers[c] = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.followers, c)
	}
}

// takeVitals has nodes' names go with them, and come again.
func (c *collector) takeVitals() {
	if !c.told {
		return
	}
	c.s.mu.Lock()
	all := maps.Clone(c.vitals)
	clear(c.vitals)
	c.s.mu.Unlock()
	var u overlay.Update
	for node, dead := range all {
		if n := c.lives[node]; n != nil && n.dead != dead {
			n.dead = dead
			c.tell(&u, node, n)
		}
	}
	if len(u.Names)+len(u.GoneNames) > 0 {
		c.say(u)
	}
}
