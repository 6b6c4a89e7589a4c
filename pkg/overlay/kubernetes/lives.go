package kubernetes

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
)

// nodeLife is what a node says of its own life, or what hangs on it.
type nodeLife struct {
	overlay.Alive // without an instance no agent runs
	left          time.Time
	missing       []string
	expired       []string // nodes whose leases it has seen to have run out
	token         string
	names         []overlay.Name
}

// nodeState is what is known of a node's life, and what has been told of it.
type nodeState struct {
	nodeLife
	changed time.Time // by our clock, when the node last said something
	dead    bool      // its lease has run out
	renewed time.Time // the lease was, at last; where it has run out

	alive  overlay.Alive
	missed []string
	went   time.Time
	told   map[overlay.NameKey]overlay.Name
}

// sweep is a look at all leases.
type sweep struct {
	started time.Time
	leases  map[string]lease
	err     error
}

// sweep lists the leases. No watch of them: each changes every few seconds, and would be
// told to every node.
func (s *Store) sweep(ctx context.Context) sweep {
	w := sweep{started: time.Now(), leases: map[string]lease{}}
	_, w.err = s.c.List(ctx, s.leases, client.Selection{}, func(raw json.RawMessage) error {
		if l, err := decode[lease](raw); err == nil {
			l.Metadata.Owners = nil
			w.leases[l.Metadata.Name] = l
		}
		return nil
	})
	return w
}

const (
	// sweepCost is what a lease in a list is, in bytes, and sweepRate what all nodes
	// together may ask for in a second.
	sweepCost = 600
	sweepRate = 1 << 20
	// manyNodes are those from which on nobody waits for their leases at first.
	manyNodes = 1000
)

// sweepEvery is how often leases are looked at: every node does it, for all nodes, so the
// time grows with the square of their number. It is 6 s for 100, 2 minutes for 500, and
// 4 hours for 5,000, where neighbours tell of deaths (neighbours.go).
func (c *collector) sweepEvery() time.Duration {
	n := time.Duration(max(int64(len(c.lives)), c.s.size.Load()))
	return max(c.s.beat(), n*n*sweepCost*time.Second/sweepRate)
}

// sweepFirst is the look before anything is told.
func (c *collector) sweepFirst() {
	n := 0
	for k := range c.pending {
		if k.of.Resource != c.s.blocks {
			n++
		}
	}
	if n > manyNodes {
		c.swept = true
		c.sweeps.Reset(rand.N(c.sweepEvery() + time.Second))
		return
	}
	c.sweeps.Reset(0)
}

// expired tells whether a node's lease has run out, and when it was last renewed.
func (c *collector) expired(node string) (bool, time.Time) {
	l, ok := c.leases[node]
	switch {
	case c.leases == nil:
		return false, time.Time{}
	case !ok:
		return true, time.Time{}
	}
	return c.s.c.Now().After(l.ends()), l.missed()
}

// missed is when the renewal that did not come was due: a beat after the last one.
func (l *lease) missed() time.Time {
	return l.Spec.Renewed.Add(l.duration() / 3).UTC().Truncate(time.Second)
}

// judgeAll takes a look at all leases.
func (c *collector) judgeAll(all sweep) {
	c.swept = true
	c.sweeps.Reset(jitter(c.sweepEvery()))
	if all.err != nil {
		c.s.o.Log.Debug("look which nodes live", "error", all.err)
		return
	}
	if time.Now().Before(c.grace) || c.away {
		return
	}
	c.leases = all.leases
	if !c.told {
		return // by the first update
	}
	var u overlay.Update
	for name, n := range c.lives {
		_, has := c.leases[name]
		if n.changed.After(all.started) || !has && time.Since(n.changed) < c.s.o.TTL { // it comes behind the object
			continue
		}
		n.dead, n.renewed = c.expired(name)
		c.tell(&u, name, n)
	}
	if len(u.Alive)+len(u.GoneAlive)+len(u.Missed)+len(u.GoneMissed)+len(u.Left)+len(u.Names)+len(u.GoneNames) > 0 {
		c.say(u)
	}
}

// lead takes what a node says of its life. Who says something lives, but for what was said
// before we looked.
func (c *collector) lead(u *overlay.Update, node string, life nodeLife) {
	n := c.lives[node]
	if n == nil {
		n = &nodeState{}
		c.lives[node] = n
	}
	if c.own && life.Instance != "" && (n.dead || life.Alive != n.Alive) {
		c.s.tellVital(node, false)
	}
	for _, node := range life.expired {
		if len(c.heard) < maxHeard && !slices.Contains(c.heard, node) {
			c.heard = append(c.heard, node)
		}
	}
	n.nodeLife, n.changed, n.dead = life, time.Now(), false
	if u.Full {
		n.dead, n.renewed = c.expired(node)
	}
	c.tell(u, node, n)
}

// end is the end of what is known of a node.
func (c *collector) end(u *overlay.Update, node string) {
	n := c.lives[node]
	if n == nil {
		return
	}
	n.nodeLife = nodeLife{}
	c.tell(u, node, n)
	if !n.went.IsZero() {
		u.GoneLeft = append(u.GoneLeft, node)
	}
	delete(c.lives, node)
}

// tell puts what is new of a node's life into an update.
func (c *collector) tell(u *overlay.Update, node string, n *nodeState) {
	var alive overlay.Alive
	var missed []string
	if n.Instance != "" && !n.dead {
		alive, missed = n.Alive, n.missing
	}
	if alive != n.alive {
		if n.alive = alive; alive.Instance != "" {
			u.Alive = append(u.Alive, alive)
		} else {
			u.GoneAlive = append(u.GoneAlive, node)
		}
	}
	if !slices.Equal(missed, n.missed) {
		if n.missed = missed; len(missed) > 0 {
			u.Missed = append(u.Missed, overlay.Missed{Node: node, Token: n.token, Networks: missed})
		} else {
			u.GoneMissed = append(u.GoneMissed, node)
		}
	}
	went := n.left
	if n.Instance != "" && n.dead {
		went = n.renewed
	}
	if !went.IsZero() && !went.Equal(n.went) {
		n.went = went
		u.Left = append(u.Left, overlay.Left{Node: node, At: went})
	}
	c.tellNames(u, n)
}

// tellNames does so for names, which live as long as the lease, whoever holds it.
func (c *collector) tellNames(u *overlay.Update, n *nodeState) {
	if len(n.names) == 0 && len(n.told) == 0 {
		return
	}
	now := map[overlay.NameKey]overlay.Name{}
	if !n.dead {
		for _, name := range n.names {
			now[name.NameKey] = name
		}
	}
	for k, name := range now {
		if old, ok := n.told[k]; !ok || !old.Same(&name) {
			u.Names = append(u.Names, name)
		}
	}
	for k := range n.told {
		if _, ok := now[k]; !ok {
			u.GoneNames = append(u.GoneNames, k)
		}
	}
	n.told = now
}

// lives tells whether a node's agent runs.
func (o *nodeObject) lives(l *lease, now time.Time) bool {
	return o.Status.Agent != nil && l.Spec.Holder != "" && !now.After(l.ends())
}
