package kubernetes

import (
	"context"
	"fmt"
	"time"

	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
)

// Withdraw is of [overlay.Control]. The server's word for it is worth waiting for: it
// returns the error when it does not answer.
func (s *Store) Withdraw(ctx context.Context) error {
	unlock, err := s.lockRegistration(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	r := s.take()
	if r == nil {
		return nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	err = again(ctx, func() error { return r.release(ctx) })
	if err == nil {
		// The UID is a condition.
		err = s.c.Patch(ctx, s.nodes.Path(r.node.Name), client.Merge, map[string]any{
			"metadata": map[string]any{"uid": r.object.Metadata.UID},
			"status":   map[string]any{"agent": nil, "missing": nil, "left": moment(time.Now())},
		}, nil)
	}
	if err != nil && !client.IsConflict(err) && !client.IsNotFound(err) { // another's by now
		return fmt.Errorf("withdraw node %q: %w", r.node.Name, err)
	}
	return nil
}

// release leaves the lease to run out, and with it the names: the node's containers live on,
// and an agent that starts again takes the names over before anybody misses them.
func (r *registration) release(ctx context.Context) error {
	s, l := r.s, r.lease
	l.Spec.Holder, l.Spec.Renewed = "", microTime{s.c.Now()}
	err := s.putLease(ctx, &l)
	if !client.IsConflict(err) {
		return err
	}
	// A renewal whose answer was not waited for.
	var there lease
	if failed := s.c.Get(ctx, s.leases.Path(r.node.Name), &there); failed != nil {
		return failed
	}
	if there.Spec.Holder != r.instance {
		return err
	}
	r.lease = there
	return errRaced
}
