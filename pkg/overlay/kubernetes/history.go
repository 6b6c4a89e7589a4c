package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
)

// mark is the last write of the node's lease, which nobody else writes. That the server has
// it, as it was, is the proof that it was not put back to a time before that: then it would
// have an earlier one, or go on from there with others.
type mark struct{ node, instance, uid, version string }

// older tells whether a lease that was read is the mark's, from before that was written, and
// notes it: whoever renews the lease then takes the proof away.
func (s *Store) older(m mark, l *lease) bool {
	is := l != nil && l.Metadata.UID == m.uid && client.Later(m.version, l.Metadata.Version)
	if is {
		s.breaks.Add(1)
	}
	return is
}

// prove returns nil when the server goes on from what was told, up to a version, and while
// breaks were seen. The error is one of errBroken where it does not. It costs a list of one
// object.
func (s *Store) prove(ctx context.Context, version string, breaks int64) error {
	for range tries {
		s.mu.Lock()
		before := s.mark
		s.mu.Unlock()
		name := before.node
		if name == "" {
			name = lockName // any: what counts is the version of the list
		}
		there, at, err := s.readLease(ctx, name)
		if err != nil {
			if sleep(ctx, asked(err, pause(0))) != nil {
				return ctx.Err()
			}
			return fmt.Errorf("look whether the history is the same: %w", err)
		}
		if client.Later(version, at) {
			return fmt.Errorf("%w: it is at version %s, and was at %s", errBroken, at, version)
		}
		if s.older(before, there) || s.breaks.Load() != breaks {
			return fmt.Errorf("%w: it has the lease of node %s as it was before the last renewal", errBroken, name)
		}
		s.mu.Lock()
		after := s.mark
		s.mu.Unlock()
		if before == after {
			return nil // a lease that somebody has deleted, or taken, says nothing
		}
	}
	return nil
}

// readLease returns a lease, nil where there is none, and the server's version.
func (s *Store) readLease(ctx context.Context, name string) (there *lease, version string, err error) {
	version, err = s.c.List(ctx, s.leases, client.Selection{Fields: "metadata.name=" + name}, func(raw json.RawMessage) error {
		l, err := decode[lease](raw)
		there = &l
		return err
	})
	return there, version, err
}

// witness has it written down that somebody deleted a network or a node at the API, with
// kubectl or because the Node went: that is an order. The agents that see it wait by
// chance, and most of them read of it meanwhile. It is none if the object is there again, as
// that of a node whose agent runs is, or if the definition is being deleted, and everything
// with it: who takes Berth away, or a part of it by mistake, does not mean the networks of
// the pods that run.
func (s *Store) witness(r overlay.Removal) {
	me := s.registered()
	s.mu.Lock()
	defer s.mu.Unlock()
	if me == nil || s.ctx.Err() != nil || s.orders[r.Key()] != nil {
		return
	}
	ctx, cancel := context.WithCancel(s.ctx)
	s.orders[r.Key()] = cancel
	r.At, r.By = time.Now(), "a client of Kubernetes' API, as node "+me.node.Name+" saw"
	s.work.Go(func() {
		defer s.calm(r.Key())
		if sleep(ctx, witnessLeast+rand.N(witnessLeast+time.Duration(s.size.Load())*2*time.Millisecond)) != nil {
			return
		}
		if err := s.testify(ctx, r); err != nil && ctx.Err() == nil {
			s.o.Log.Warn("that it was deleted is not written down: hosts that are away will miss it", "what", r.What(), "error", err)
		}
	})
}

// witnessLeast is the time in which a node whose agent runs is there again.
const witnessLeast = time.Second

// calm ends what was to be written of a removal.
func (s *Store) calm(k overlay.RemovalKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel := s.orders[k]; cancel != nil {
		cancel()
		delete(s.orders, k)
	}
}

func (s *Store) testify(ctx context.Context, r overlay.Removal) error {
	_, going, err := s.definition(ctx)
	if err != nil || going {
		return err
	}
	if r.Node != "" {
		var o nodeObject
		err = s.c.Get(ctx, s.nodes.Path(r.Node), &o)
		if err == nil && o.Spec.Token == r.ID {
			return nil
		}
	} else {
		var o networkObject
		err = s.c.Get(ctx, s.networks.Path(r.Network), &o)
		if n, _ := o.network(); err == nil && n.ID == r.ID {
			return nil
		}
	}
	if err != nil && !client.IsNotFound(err) || client.IsNoResource(err) {
		return err
	}
	return s.order(ctx, r)
}
