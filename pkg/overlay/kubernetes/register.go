package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
)

// registration is what a Register holds.
type registration struct {
	s        *Store
	node     overlay.Node
	instance string
	since    time.Time  // since when this host lives
	object   nodeObject // as it was last read; under the store's lock
	lease    lease      // as it was last written
	lost     func(error)
	other    otherLife // of the node, as it was last seen
	had      bool      // the name has been ours

	gone   atomic.Bool   // the name was lost
	poked  chan struct{} // look whether all is as it was
	roused chan struct{} // the server answers: try again what has failed
	cancel context.CancelFunc
	done   chan struct{} // closed when nothing is kept up any more
}

// Register is of [overlay.Control]. While the server is away it waits, and so it does
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
	r := &registration{s: s, node: node, instance: instance, since: time.Now().UTC().Truncate(time.Second), lost: lost,
		poked: make(chan struct{}, 1), roused: make(chan struct{}, 1), done: make(chan struct{})}
	if old := s.take(); old != nil && old.node.Name == node.Name && old.instance == instance {
		r.since, r.had = old.since, true
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

func (s *Store) lockRegistration(ctx context.Context) (unlock func(), err error) {
	if s.ctx.Err() != nil {
		return nil, errClosed
	}
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
	s.current, s.mark = nil, mark{}
	s.mu.Unlock()
	if r != nil {
		r.cancel()
		<-r.done
	}
	return r
}

// registered is the node that the store serves; nil for none.
func (s *Store) registered() *registration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil || s.current.gone.Load() {
		return nil
	}
	return s.current
}

// poke has the registration look at its objects: somebody else may have written them.
func (s *Store) poke() {
	if r := s.registered(); r != nil {
		nudge(r.poked)
	}
}

// rouse has the registration try again what has failed: the server answers.
func (s *Store) rouse() {
	if r := s.registered(); r != nil {
		nudge(r.roused)
	}
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it will anyway
	}
}

// insist claims the name until it is had, or cannot be had.
func (r *registration) insist(ctx context.Context) error {
	ctx, cancel := r.s.bound(ctx)
	defer cancel()
	var deadline time.Time // for another instance
	r.other = otherLife{}
	for failures := 0; ; failures++ {
		err := r.claim(ctx)
		var other *otherError
		wait := asked(err, pause(failures))
		switch {
		case err == nil:
			r.had = true
			return nil
		case r.s.ctx.Err() != nil:
			return errClosed
		case final(err) || ctx.Err() != nil:
			return err
		case errors.As(err, &other):
			r.other.seen = other
			if deadline.IsZero() {
				deadline = time.Now().Add(max(other.lease.duration(), r.s.o.TTL)*3/2 + time.Second)
				r.s.o.Log.Info("waiting for the node's other life to end", "node", r.node.Name, "other", err)
			}
			if time.Now().After(deadline) {
				return other.conflict()
			}
			failures, wait = -1, pause(1)
		case errors.Is(err, errRaced):
			failures, wait = -1, pause(0)
		case failures == 1:
			r.s.o.Log.Warn("the API server does not register this host: trying again", "node", r.node.Name, "error", err)
		}
		if err := r.sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// final tells whether trying again is of no use.
func final(err error) bool {
	var conflict *overlay.ConflictError
	return errors.Is(err, overlay.ErrRemoved) || errors.As(err, &conflict) || client.IsInvalid(err)
}

// claim has the node's object and its lease say what they shall; nothing is written when
// they do. The name comes first, so that who loses it writes nothing.
func (r *registration) claim(ctx context.Context) error {
	var there lease
	err := r.s.c.Get(ctx, r.s.leases.Path(r.node.Name), &there)
	if err != nil && !client.IsNotFound(err) {
		return err
	}
	if err := r.name(ctx, &there); err != nil {
		return err
	}
	if err := r.live(ctx, there); err != nil {
		return err
	}
	return r.announce(ctx)
}

// free tells whether a lease may be taken: it is not there, is ours already, or has run out,
// by the holder's times or since it was not renewed for as long by ours.
func (r *registration) free(l *lease) bool {
	holder := l.Spec.Holder
	return holder == "" || holder == r.instance || r.s.c.Now().After(l.ends()) || r.other.still(l) > l.duration()
}

// name has the node's object be ours; l is its lease.
func (r *registration) name(ctx context.Context, l *lease) error {
	s := r.s
	switch removed, err := s.isRemoved(ctx, r.node.Name, r.node.Token); {
	case err != nil:
		return err
	case removed:
		return overlay.ErrRemoved
	}
	var o nodeObject
	err := s.c.Get(ctx, s.nodes.Path(r.node.Name), &o)
	switch {
	case client.IsNotFound(err):
		return r.create(ctx, r.free(l))
	case err != nil:
		return err
	case o.Metadata.Deleted != nil: // a finalizer of somebody's holds it
		return fmt.Errorf("%w: BerthNode %s is being deleted", errRaced, r.node.Name)
	case o.Spec.Token == r.node.Token:
		r.have(o)
		return nil
	}
	// A copy of the cluster's data from before may have a node that was removed since.
	switch removed, err := s.isRemoved(ctx, r.node.Name, o.Spec.Token); {
	case err != nil:
		return err
	case removed:
		err := s.c.Delete(ctx, s.nodes.Path(r.node.Name), o.Metadata.UID, "")
		if err == nil || client.IsNotFound(err) {
			return errRaced // decided anew
		}
		return raced(err)
	}
	return &overlay.ConflictError{Node: r.node.Name, Address: o.Spec.Address, Since: when(o.Status.Since)}
}

// create makes the node's object. One that lives says so from the start: all others are told
// of each time that it is written.
func (r *registration) create(ctx context.Context, lives bool) error {
	owners, err := r.owners(ctx)
	if err != nil {
		return err
	}
	n := r.node
	if n.Seen = time.Now(); n.Since.IsZero() {
		n.Since = n.Seen
	}
	o := r.s.nodeObject(&n)
	o.Metadata.Owners = owners
	if lives {
		o.Status.Agent = &agentLife{r.instance, moment(r.since)}
	}
	if err := r.s.c.Create(ctx, r.s.nodes.Path(), o, &o); err != nil {
		return raced(err)
	}
	r.have(o)
	return nil
}

func (r *registration) have(o nodeObject) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.object = o
}

func (r *registration) owner() *nodeObject {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	o := r.object
	return &o
}

// owners is the Node of the name, with which the node's object goes. An agent in a pod is
// on a Node: without one the cluster has just removed it, and nothing of it is to come
// again. A host that is none of the cluster's may take part, too.
func (r *registration) owners(ctx context.Context) ([]client.Owner, error) {
	var node client.Object
	err := r.s.c.Get(ctx, client.Nodes.Path(r.node.Name), &node)
	switch {
	case client.IsNotFound(err) && !r.s.c.InPod():
		return nil, nil
	case client.IsNotFound(err):
		return nil, fmt.Errorf("the cluster has no Node %q", r.node.Name)
	case err != nil:
		return nil, err
	}
	return []client.Owner{{APIVersion: "v1", Kind: "Node", Name: node.Metadata.Name, UID: node.Metadata.UID}}, nil
}

// live takes the node's lease, which was there as it was read, or not.
func (r *registration) live(ctx context.Context, there lease) error {
	s, holder := r.s, there.Spec.Holder
	l := s.lease(r.node.Name, r.instance)
	if there.Metadata.Version != "" {
		s.older(r.mark(), &there)
	}
	if !r.free(&there) {
		return &otherError{lease: there, node: r.object}
	}
	at := s.c.Now()
	if there.Metadata.Version != "" {
		at = there.Spec.Renewed.Time // who ends in good order writes when
	}
	if holder == "" && !r.had && r.other.left(at) {
		return r.other.seen.conflict()
	}
	if there.Metadata.Version != "" {
		l.Metadata.UID, l.Metadata.Version = there.Metadata.UID, there.Metadata.Version
		if holder == r.instance {
			l.Spec.Acquired = there.Spec.Acquired
		}
	}
	l.Metadata.Owners = s.owned(&r.object)
	return r.write(ctx, l)
}

func (r *registration) mark() mark {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.s.mark
}

// write writes the lease, and notes that it was ours to write.
func (r *registration) write(ctx context.Context, l lease) error {
	if err := r.s.putLease(ctx, &l); err != nil {
		return raced(err)
	}
	r.lease = l
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.s.mark = mark{node: r.node.Name, instance: r.instance, uid: l.Metadata.UID, version: l.Metadata.Version}
	return nil
}

// announce has the node's object say what everybody is to know.
func (r *registration) announce(ctx context.Context) error {
	o := r.object
	want := nodeSpec{r.node.Token, r.node.Address, r.node.MTU, r.node.PublicKey, r.node.NextKey}
	a := o.Status.Agent
	if o.Spec == want && a != nil && a.Instance == r.instance && when(a.Since).Equal(r.since) && o.Status.Left == nil {
		return nil
	}
	text := func(s string) any {
		if s == "" {
			return nil // takes the key away
		}
		return s
	}
	err := r.s.c.Patch(ctx, r.s.nodes.Path(r.node.Name), client.Merge, map[string]any{
		"metadata": map[string]any{"uid": o.Metadata.UID, "resourceVersion": o.Metadata.Version, "managedFields": client.Unmanaged},
		"spec":     map[string]any{"address": want.Address, "mtu": want.MTU, "publicKey": text(want.PublicKey), "nextPublicKey": text(want.NextKey)},
		"status":   map[string]any{"agent": agentLife{r.instance, moment(r.since)}, "left": nil, "seen": moment(time.Now())},
	}, &o)
	if client.IsNotFound(err) {
		return errRaced
	}
	if err == nil {
		r.have(o)
	}
	return raced(err)
}
