package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
)

const (
	// A burst of changes is one update, once there was nothing new for settle, or
	// after settleMost, or at burst objects. The first change after a rest of settleMost is
	// told at once.
	settle     = 10 * time.Millisecond
	settleMost = 100 * time.Millisecond
	burst      = 4096
	// A node that has to read everything anew waits by chance up to spread for each
	// node there is, spreadMost at most: they all have to at the same time, and each
	// reads of all of them.
	spread     = 20 * time.Millisecond
	spreadMost = 5 * time.Minute
)

// spread is the wait before everything is read anew.
func (s *Store) spread() time.Duration {
	return rand.N(min(time.Duration(s.size.Load()+1)*spread, spreadMost))
}

// Watch is of [overlay.Control]. It follows networks, nodes, blocks and removals, each by a
// watch of its own, and puts them together: what was read at first is one full update, what
// is behind the others by some milliseconds follows. When a connection is lost, it goes on
// from where it was; what the server does not have the changes of any more is read anew
// and compared. An update without Err ends the time that the server was away; it may be
// empty.
func (s *Store) Watch(ctx context.Context, fn func(overlay.Update)) error {
	var why error
	for {
		c := s.collector(fn, s.sources())
		c.why, c.own = why, true
		err := c.run(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case s.ctx.Err() != nil:
			return errClosed
		}
		s.o.Log.Info("reading everything anew", "because", err)
		if why = err; sleep(ctx, pause(0)+s.spread()) != nil {
			return ctx.Err()
		}
	}
}

// collector puts what the sources say together. All but the followers is one goroutine's.
type collector struct {
	s       *Store
	fn      func(overlay.Update)
	sources []*source
	why     error // what was told before is of another history
	own     bool  // it is the overlay, of which the registration is a part; not names

	incarnation string
	base        string // version at the start
	breaks      int64  // of the store, at the start
	told        bool   // the full update
	away        bool   // fn has been told
	back        bool   // it is to be told that this is over
	unproven    bool   // the watches were interrupted
	missing     bool   // the server did not know a resource any more
	pending     map[pendingKey]message
	since, last time.Time // the first of pending; when changes were last told

	lives   map[string]*nodeState // by node
	leases  map[string]lease      // of the last sweep
	sweeps  *time.Timer
	swept   bool
	grace   time.Time // leases count from then on: their holders could not renew them
	removed map[overlay.RemovalKey]bool
}

func (s *Store) collector(fn func(overlay.Update), sources []*source) *collector {
	for _, of := range sources {
		of.held, of.wake = map[string]held{}, make(chan struct{}, 1)
	}
	return &collector{s: s, fn: fn, sources: sources, lives: map[string]*nodeState{},
		pending: map[pendingKey]message{}, removed: map[overlay.RemovalKey]bool{}}
}

type pendingKey struct {
	of   *source
	name string
}

// errBroken: the history is another one.
var errBroken = errors.New("its history is another one")

// run goes on until the context ends or the server's history breaks.
func (c *collector) run(ctx context.Context) error {
	ctx, cancel := c.s.bound(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	if c.own {
		if err := c.identify(ctx); err != nil {
			return err
		}
	}
	c.breaks = c.s.breaks.Load()
	messages := make(chan message, 256)
	for _, of := range c.sources {
		work.Go(func() { c.s.follow(ctx, of, messages) })
	}
	proofs, sweeps := make(chan error, 1), make(chan sweep, 1)
	proving, sweeping := false, false
	c.sweeps = time.NewTimer(time.Hour)
	due := time.NewTimer(time.Hour)
	for {
		if c.unproven && !proving && c.stand() {
			proving = true
			version, missing := c.version(), c.missing
			work.Go(func() {
				err := c.s.prove(ctx, version, c.breaks)
				if err == nil && missing {
					err = c.same(ctx)
				}
				proofs <- err
			})
		}
		due.Stop()
		if wait, ok := c.due(); ok {
			due.Reset(wait)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m := <-messages:
			if err := c.take(m); err != nil {
				return err
			}
		case err := <-proofs:
			proving = false
			if errors.Is(err, errBroken) {
				return err
			}
			c.unproven, c.missing = err != nil, c.missing && err != nil
		case <-due.C:
			c.flush()
		case <-c.sweeps.C:
			if !sweeping {
				sweeping = true
				work.Go(func() { sweeps <- c.s.sweep(ctx) })
			}
		case all := <-sweeps:
			sweeping = false
			c.judgeAll(all)
		}
	}
}

// identify learns of which incarnation the store is: the UID of the definition of networks,
// with which everything comes and goes.
func (c *collector) identify(ctx context.Context) error {
	for failures := 0; ; failures++ {
		uid, _, err := c.s.definition(ctx)
		if err == nil {
			// What comes from the server's cache may be of a moment before.
			_, c.base, err = c.s.readLease(ctx, lockName)
		}
		if err == nil || client.IsForbidden(err) { // a person's rights may be for the objects alone
			c.incarnation = uid
			return nil
		}
		if failures == 1 {
			c.fail(err)
		}
		if err := sleep(ctx, asked(err, pause(failures))); err != nil {
			return err
		}
	}
}

// same returns nil when the incarnation is what it was.
func (c *collector) same(ctx context.Context) error {
	uid, _, err := c.s.definition(ctx)
	switch {
	case client.IsForbidden(err):
		return nil
	case err == nil && uid != c.incarnation:
		return fmt.Errorf("%w: the definition of networks was made anew", errBroken)
	}
	return err
}

// definition is the UID of the definition of networks, and whether it is being deleted.
func (s *Store) definition(ctx context.Context) (uid string, going bool, err error) {
	var o client.Object
	err = s.c.Get(ctx, client.Definitions.Path(s.networks.Plural+"."+s.networks.Group), &o)
	return o.Metadata.UID, o.Metadata.Deleted != nil, err
}

// stand tells whether all watches do.
func (c *collector) stand() bool {
	for _, of := range c.sources {
		if !of.runs {
			return false
		}
	}
	return true
}

// complete tells whether all objects have come once.
func (c *collector) complete() bool {
	for _, of := range c.sources {
		if !of.synced {
			return false
		}
	}
	return true
}

// version is the latest one of all sources.
func (c *collector) version() string {
	v := c.base
	for _, of := range c.sources {
		v = later(v, of.version)
	}
	return v
}

// take takes a message of a source.
func (c *collector) take(m message) error {
	of := m.of
	switch m.kind {
	case begin:
		of.seen = map[string]bool{}
	case put, gone:
		if of.seen != nil {
			of.seen[m.name] = m.kind == put
		}
		c.pend(m)
		if of.synced {
			of.version = later(of.version, m.version)
		}
	case synced:
		if client.Later(of.version, m.version) {
			return fmt.Errorf("%w: it is at version %s, and was at %s", errBroken, m.version, of.version)
		}
		for name := range of.held {
			if !of.seen[name] {
				c.pend(message{of: of, kind: gone, name: name})
			}
		}
		of.synced, of.seen, of.version = true, nil, m.version
		if !c.told && c.complete() {
			c.sweepFirst()
		}
	case upTo:
		of.version = later(of.version, m.version)
	case stands:
		of.runs, of.failures = true, 0
		c.wake()
		if c.away && c.healthy() {
			c.away, c.back, c.grace = false, true, time.Now().Add(c.s.o.TTL)
		}
		if c.own && c.unproven {
			c.s.rouse()
		}
	case ended:
		of.runs, c.unproven = false, c.unproven || c.told && c.own
		if errors.Is(m.err, client.ErrEnded) || client.IsGone(m.err) {
			return nil
		}
		c.missing = c.missing || client.IsNotFound(m.err)
		c.s.o.Log.Debug("the watch has failed", "resource", of.Plural, "error", m.err, "failures", of.failures)
		if of.failures++; of.failures == 2 {
			c.fail(m.err)
		}
	}
	return nil
}

// wake has the sources try again that failed while the server was away.
func (c *collector) wake() {
	for _, of := range c.sources {
		if of.failures > 0 {
			select {
			case of.wake <- struct{}{}:
			default:
			}
		}
	}
}

// pend puts a change to those that wait; of each object the last one counts.
func (c *collector) pend(m message) {
	if m.kind == put && m.version != "" && m.of.held[m.name].version == m.version {
		return
	}
	if len(c.pending) == 0 {
		c.since = time.Now()
	}
	c.pending[pendingKey{m.of, m.name}] = m
}

// healthy tells whether no source fails.
func (c *collector) healthy() bool {
	for _, of := range c.sources {
		if of.failures > 0 || !of.runs {
			return false
		}
	}
	return true
}

// fail tells of a server that is away, once.
func (c *collector) fail(err error) {
	if !c.away {
		c.away, c.back = true, false
		c.fn(overlay.Update{Err: err})
	}
}

// due is when something is to be told.
func (c *collector) due() (time.Duration, bool) {
	switch {
	case !c.told:
		return 0, c.complete() && c.swept && !c.away
	case c.unproven || c.away:
		return 0, false
	case c.back || len(c.pending) >= burst:
		return 0, true
	case len(c.pending) == 0:
		return 0, false
	case c.since.Sub(c.last) > settleMost: // after a rest the first change is told at once
		return 0, true
	}
	return max(0, min(settle, settleMost-time.Since(c.since))), true
}

// flush tells what has changed.
func (c *collector) flush() {
	u := overlay.Update{Full: !c.told}
	for k, m := range c.pending {
		was, had := k.of.held[k.name]
		if m.kind == gone {
			if delete(k.of.held, k.name); had {
				c.drop(&u, k, was)
			}
			continue
		}
		k.of.held[k.name] = held{m.version, m.key, m.err != nil}
		key := printable(k.of.Plural + "/" + k.name)
		switch {
		case m.err != nil:
			u.Bad = append(u.Bad, badKey(k.of.Plural+"/"+k.name, m.err))
			if had && !was.bad {
				c.forget(&u, k.name, was.key)
			}
			continue
		case was.bad:
			u.GoneBad = append(u.GoneBad, key)
		case had && was.key != m.key: // it is another one by now
			c.deleted(k.name, was.key)
		}
		c.put(&u, k.name, m.value)
	}
	if c.told {
		clear(c.pending)
	} else { // it will not be as large again
		c.pending = map[pendingKey]message{}
	}
	if c.own {
		u.History.Revision, _ = strconv.ParseInt(c.version(), 10, 64)
	}
	if u.Full {
		u.History.Incarnation, u.Broken, c.why = c.incarnation, c.why, nil
		if c.incarnation == "" {
			u.History = overlay.History{}
		}
		c.told = true
	}
	c.back, c.last = false, time.Now()
	if c.own {
		c.s.size.Store(int64(len(c.lives)))
	}
	c.fn(u)
	if r := c.s.registered(); u.Full && c.own && r != nil && c.lives[r.node.Name] == nil {
		c.s.poke() // what it was is not there; what is not as it was, has been looked after
	}
}
