package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/berth-cni/berth/pkg/overlay"
)

// registration is what a Register holds.
type registration struct {
	s        *Store
	node     overlay.Node
	instance string
	since    time.Time // since when this host lives
	lease    clientv3.LeaseID
	beaten   time.Time // when the lease was last known to live
	lost     func(error)
	other    otherLife // of the node, as it was last seen
	had      bool      // the name has been ours

	poked  chan struct{} // look whether all is as it was
	cancel context.CancelFunc
	done   chan struct{} // closed when nothing is kept up any more
}

// Register is of [overlay.Control]. While the store is away it waits, and so it does
// for as long as the node's own life before a reboot counts as alive; that another
// host lives with the same token shows after one and a half times the TTL.
func (s *Store) Register(ctx context.Context, node overlay.Node, instance string, _ bool, lost func(error)) error {
	if err := node.Validate(); err != nil {
		return fmt.Errorf("register node %q: %w", node.Name, err)
	}
	a := overlay.Alive{Node: node.Name, Instance: instance, Address: node.Address}
	if err := a.Validate(); err != nil {
		return fmt.Errorf("register node %q: %w", node.Name, err)
	}
	unlock, err := s.lockRegistration(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	r := &registration{s: s, node: node, instance: instance, since: time.Now().UTC().Truncate(time.Millisecond), lost: lost,
		poked: make(chan struct{}, 1), done: make(chan struct{})}
	if old := s.take(); old != nil && old.node.Name == node.Name && old.instance == instance {
		r.lease, r.since, r.had = old.lease, old.since, true
	}
	if err := r.insist(ctx); err != nil {
		return fmt.Errorf("register node %q: %w", node.Name, err)
	}
	ctx, r.cancel = context.WithCancel(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		r.cancel()
		return errClosed
	}
	s.current = r
	s.work.Go(func() { r.keep(ctx) })
	return nil
}

// Withdraw is of [overlay.Control]. The store's word for it is worth waiting for: it
// returns the error when the store does not answer in time.
func (s *Store) Withdraw(ctx context.Context) error {
	unlock, err := s.lockRegistration(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	r := s.take()
	if r == nil || r.lease == clientv3.NoLease {
		return nil
	}
	// The lease is left to run out, and with it the names: its containers live on, and
	// an agent that starts again takes the names over before anybody misses them.
	key := s.aliveKey(r.node.Name)
	left := overlay.Left{Node: r.node.Name, At: time.Now().UTC().Truncate(time.Second)}
	ours := clientv3.Compare(clientv3.LeaseValue(key), "=", r.lease)
	if _, err := s.txn(ctx, []clientv3.Cmp{ours}, []clientv3.Op{clientv3.OpDelete(key), put(s.leftKey(left.Node), left)}, nil); err != nil {
		return fmt.Errorf("withdraw node %q: %w", r.node.Name, err)
	}
	return nil
}

func (s *Store) lockRegistration(ctx context.Context) (unlock func(), err error) {
	select {
	case s.registering <- struct{}{}:
		return func() { <-s.registering }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.ctx.Done():
		return nil, errClosed
	}
}

// take ends what keeps the registration up, and returns it; nil when there is none.
func (s *Store) take() *registration {
	s.mu.Lock()
	r := s.current
	s.current, s.life = nil, life{}
	s.mu.Unlock()
	if r != nil {
		r.cancel()
		<-r.done
	}
	return r
}

// poke has the registration look at its keys: somebody else may have written them.
func (s *Store) poke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		select {
		case s.current.poked <- struct{}{}:
		default:
		}
	}
}

// mine tells whether a key is one of the registration's.
func (s *Store) mine(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.current
	return r != nil && (key == s.nodeKey(r.node.Name) || key == s.aliveKey(r.node.Name))
}

// otherError: another instance holds the alive key.
type otherError struct {
	alive overlay.Alive
	lease clientv3.LeaseID
}

func (e *otherError) Error() string {
	return fmt.Sprintf("instance %q is alive since %s", clip(e.alive.Instance), e.alive.Since.Format(time.RFC3339))
}

// conflict is about a life that is another host's.
func (e *otherError) conflict() error {
	return &overlay.ConflictError{Node: e.alive.Node, Address: e.alive.Address, Since: e.alive.Since, Cloned: true}
}

// otherLife is a life of the node that another instance leads: this host's own before it
// booted, whose lease runs out, or that of a host with a copy of this one's disk.
type otherLife struct {
	seen *otherError // nil: none
	ends time.Time   // its lease does, not sooner; zero where that is not known
}

// left tells whether it was ended before its time. Only a host that lives does that, as its
// agent stops, so the name is not ours for that.
func (o otherLife) left() bool { return o.seen != nil && time.Now().Before(o.ends) }

// insist claims the name until it is had, or cannot be had.
func (r *registration) insist(ctx context.Context) error {
	var deadline time.Time // for another instance
	r.other = otherLife{}
	for failures := 0; ; failures++ {
		err := r.claim(ctx)
		var other *otherError
		wait := pause(failures)
		switch {
		case err == nil:
			r.had = true
			r.s.live(life{r.node.Name, r.lease})
			return nil
		case final(err) || ctx.Err() != nil:
			return err
		case r.s.ctx.Err() != nil:
			return errClosed
		case errors.As(err, &other):
			lives, ends := r.s.leaseTime(ctx, other.lease)
			r.other = otherLife{other, ends}
			if deadline.IsZero() {
				deadline = time.Now().Add(lives*3/2 + time.Second)
				r.s.o.Log.Info("waiting for the node's other life to end", "node", r.node.Name, "other", err)
			}
			if time.Now().After(deadline) {
				return other.conflict()
			}
			failures, wait = -1, pause(1)
		case errors.Is(err, errRaced) || errors.Is(err, rpctypes.ErrLeaseNotFound): // the store answers
			failures, wait = -1, pause(1)
		case failures == 1:
			r.s.o.Log.Warn("etcd is away: trying again", "node", r.node.Name, "error", err)
		}
		if err := r.sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// final tells whether trying again is of no use.
func final(err error) bool {
	var conflict *overlay.ConflictError
	var bad overlay.BadKey
	return errors.Is(err, overlay.ErrRemoved) || errors.As(err, &conflict) || errors.As(err, &bad)
}

// leaseTime is how long a lease lives without its owner: the time it was granted
// with, within reason, or ours when nobody knows; and when it ends at the earliest.
func (s *Store) leaseTime(ctx context.Context, id clientv3.LeaseID) (lives time.Duration, ends time.Time) {
	asked := time.Now()
	ctx, cancel := s.bound(ctx, s.o.RequestTimeout)
	defer cancel()
	client, err := s.connect(ctx)
	if err != nil {
		return s.o.TTL, ends
	}
	resp, err := client.TimeToLive(ctx, id)
	if err != nil {
		return s.o.TTL, ends
	}
	if resp.TTL > 0 { // whole seconds, rounded down
		ends = asked.Add(time.Duration(resp.TTL) * time.Second)
	}
	return min(max(time.Duration(resp.GrantedTTL)*time.Second, s.o.TTL), 2*time.Minute), ends
}

// claim makes both keys say what they shall, in one transaction; nothing is written
// when they do.
func (r *registration) claim(ctx context.Context) error {
	s, nodeKey, aliveKey := r.s, r.s.nodeKey(r.node.Name), r.s.aliveKey(r.node.Name)
	removedKey := s.removedKey(overlay.RemovalKey{Node: r.node.Name, ID: r.node.Token})
	got, err := s.txn(ctx, nil, []clientv3.Op{clientv3.OpGet(nodeKey), clientv3.OpGet(aliveKey), clientv3.OpGet(removedKey)}, nil)
	if err != nil {
		return err
	}
	if first(got, 2) != nil {
		return overlay.ErrRemoved
	}
	node, writeNode, err := r.wanted(first(got, 0))
	if errors.As(err, new(*overlay.ConflictError)) {
		// A copy of the store from before may have a node that was removed since.
		if removed, asked := s.isRemoved(ctx, node); asked != nil {
			return asked
		} else if removed {
			node, writeNode, err = r.wanted(nil)
		}
	}
	if err != nil {
		return err
	}
	ours, err := r.isOurs(first(got, 1))
	if err != nil {
		return err
	}
	if !r.had && first(got, 1) == nil && r.other.left() {
		return r.other.seen.conflict()
	}
	if !writeNode && ours {
		return nil
	}
	if r.lease == clientv3.NoLease {
		if err := r.grant(ctx); err != nil {
			return err
		}
	}
	cmps := []clientv3.Cmp{unchanged(nodeKey, first(got, 0)), unchanged(aliveKey, first(got, 1))}
	var ops []clientv3.Op
	if writeNode {
		ops = append(ops, put(nodeKey, node))
	}
	if !ours {
		a := overlay.Alive{Node: r.node.Name, Instance: r.instance, Address: r.node.Address, Since: r.since}
		ops = append(ops, put(aliveKey, a, clientv3.WithLease(r.lease)))
	}
	resp, err := s.txn(ctx, cmps, ops, nil)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) { // of an earlier Register
		r.lease = clientv3.NoLease
	}
	if err != nil {
		return err
	}
	if !resp.Succeeded {
		return errRaced
	}
	return nil
}

// errRaced: somebody else wrote between our look and our transaction.
var errRaced = errors.New("somebody else writes the same keys")

// wanted returns what the node's key shall hold, and whether it has to be written.
func (r *registration) wanted(kv *mvccpb.KeyValue) (overlay.Node, bool, error) {
	now := time.Now().UTC().Truncate(time.Second)
	if kv == nil {
		n := r.node
		if n.Since.IsZero() {
			n.Since = now
		}
		n.Seen = now
		return n, true, nil
	}
	old, err := unmarshal(kv.Value, r.node.Name, func(n *overlay.Node) string { return n.Name })
	if err != nil {
		return old, false, badKey(string(kv.Key), err)
	}
	if old.Token != r.node.Token {
		return old, false, &overlay.ConflictError{Node: old.Name, Address: old.Address, Since: old.Since}
	}
	same := old.Address == r.node.Address && old.MTU == r.node.MTU && old.PublicKey == r.node.PublicKey && old.NextKey == r.node.NextKey && now.Sub(old.Seen) < overlay.SeenEvery*3/4 && !old.Seen.After(now.Add(overlay.SeenEvery))
	old.Address, old.MTU, old.PublicKey, old.NextKey, old.Seen = r.node.Address, r.node.MTU, r.node.PublicKey, r.node.NextKey, now
	return old, !same, nil
}

// isOurs tells whether the alive key is this registration's, as it shall be. What has
// no lease, or cannot be read, proves no life.
func (r *registration) isOurs(kv *mvccpb.KeyValue) (bool, error) {
	if kv == nil || kv.Lease == 0 {
		return false, nil
	}
	a, err := unmarshal(kv.Value, r.node.Name, func(a *overlay.Alive) string { return a.Node })
	if err != nil {
		return false, nil
	}
	if a.Instance != r.instance {
		return false, &otherError{a, clientv3.LeaseID(kv.Lease)}
	}
	return kv.Lease == int64(r.lease) && a.Address == r.node.Address, nil
}

// first is the key that the i-th operation, a get, has found; nil for none.
func first(resp *clientv3.TxnResponse, i int) *mvccpb.KeyValue {
	if kvs := resp.Responses[i].GetResponseRange().Kvs; len(kvs) > 0 {
		return kvs[0]
	}
	return nil
}

// unchanged holds when a key is what it was when it was read; nil: not there.
func unchanged(key string, kv *mvccpb.KeyValue) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(key), "=", kv.GetModRevision())
}

func put(key string, v any, opts ...clientv3.OpOption) clientv3.Op {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // the model's types are strings, numbers, addresses and times
	}
	return clientv3.OpPut(key, string(data), opts...)
}
