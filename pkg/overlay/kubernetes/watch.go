package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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
	queue   []overlay.Update // for fn, which may take its time
	busy    bool             // it has one
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

	// What its goroutines hand it, and whether they are at work.
	messages   chan message
	updates    chan overlay.Update // to fn
	done       chan struct{}       // fn has done with one
	proofs     chan error
	leasesRead chan sweep
	proving    bool
	sweeping   bool
	dues       *time.Timer // something is to be told

	rounds   *time.Timer     // of the neighbours
	looks    chan look       // what was found
	looking  map[string]bool // nodes
	found    map[string]bool // neighbours whose leases have run out
	heard    []string        // of which others say so, to be looked at
	doubting bool            // one of those is
	// vitals are news of nodes for who follows names, by node whether it has died; under the
	// store's lock.
	vitals map[string]bool
	vital  chan struct{} // there are some
}

func (s *Store) collector(fn func(overlay.Update), sources []*source) *collector {
	for _, of := range sources {
		of.held, of.wake = map[string]held{}, make(chan struct{}, 1)
	}
	return &collector{s: s, fn: fn, sources: sources, lives: map[string]*nodeState{},
		pending: map[pendingKey]message{}, removed: map[overlay.RemovalKey]bool{},
		messages: make(chan message, 256), proofs: make(chan error, 1), leasesRead: make(chan sweep, 1),
		looks: make(chan look, 16), looking: map[string]bool{}, found: map[string]bool{}, vitals: map[string]bool{}, vital: make(chan struct{}, 1)}
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
	c.start(&work)
	defer close(c.updates)
	if c.own {
		if err := c.identify(ctx); err != nil {
			return err
		}
	}
	c.breaks = c.s.breaks.Load()
	for _, of := range c.sources {
		work.Go(func() { c.s.follow(ctx, of, c.messages) })
	}
	c.sweeps, c.rounds, c.dues = time.NewTimer(time.Hour), time.NewTimer(c.s.o.TTL), time.NewTimer(time.Hour)
	if !c.own {
		defer c.s.followVitals(c)()
	}
	for {
		if c.unproven && !c.proving && c.stand() {
			c.proving = true
			prove := c.proof()
			work.Go(func() { c.proofs <- prove(ctx) })
		}
		c.dues.Stop()
		if wait, ok := c.due(); ok {
			c.dues.Reset(wait)
		}
		c.tellNext()
		if err := c.step(ctx, work.Go); err != nil {
			return err
		}
	}
}

// step waits for whatever happens next.
func (c *collector) step(ctx context.Context, work func(func())) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-c.done:
		c.busy = false
	case m := <-c.messages:
		return c.take(m)
	case err := <-c.proofs:
		c.proving = false
		if errors.Is(err, errBroken) {
			return err
		}
		c.unproven, c.missing = err != nil, c.missing && err != nil
	case <-c.dues.C:
		c.flush()
		c.hear(ctx, work)
	case <-c.sweeps.C:
		if !c.sweeping {
			c.sweeping = true
			work(func() { c.leasesRead <- c.s.sweep(ctx) })
		}
	case all := <-c.leasesRead:
		c.sweeping = false
		c.judgeAll(all)
	case <-c.rounds.C:
		c.watchNeighbours(ctx, work)
	case k := <-c.looks:
		c.judge(ctx, work, k)
	case <-c.vital:
		c.takeVitals()
	}
	return nil
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
			c.tellNext()
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

// proof is what proves that the history goes on from what has been told.
func (c *collector) proof() func(context.Context) error {
	version, missing, breaks := c.version(), c.missing, c.breaks
	return func(ctx context.Context) error {
		err := c.s.prove(ctx, version, breaks)
		if err == nil && missing {
			err = c.same(ctx)
		}
		return err
	}
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
		c.say(overlay.Update{Err: err})
	}
}
