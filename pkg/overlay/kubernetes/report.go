package kubernetes

import (
	"context"
	"fmt"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
)

// report is what the node's object was last told of its network.
type report struct {
	uid, why string
	at       time.Time
}

// sameWhy is for how long another reason of the same condition is not written: all hosts are
// told of it.
const sameWhy = time.Minute

// Report has the registered node's object say in its condition Ready whether containers can
// be attached on it: why is the reason that they cannot, or empty. It is written when that
// has changed, and another reason once a minute.
func (s *Store) Report(ctx context.Context, why string) error {
	r := s.registered()
	if r == nil {
		return overlay.ErrNotRegistered
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	now := report{r.owner().Metadata.UID, why, time.Now()}
	s.mu.Lock()
	was := s.reported
	s.mu.Unlock()
	if was.uid == now.uid && (was.why == why || (was.why == "") == (why == "") && now.at.Sub(was.at) < sameWhy) {
		return nil
	}
	status, reason, message := "True", "ContainersCanBeAttached", ""
	if why != "" {
		status, reason, message = "False", "ContainersCannotBeAttached", clip(why)
	}
	err := s.c.Patch(ctx, s.nodes.Path(r.node.Name), client.Merge, map[string]any{
		"metadata": map[string]any{"uid": now.uid, "managedFields": client.Unmanaged},
		"status":   map[string]any{"conditions": []map[string]any{{"type": "Ready", "status": status, "reason": reason, "message": message, "lastTransitionTime": moment(time.Now())}}},
	}, nil)
	if err != nil {
		return fmt.Errorf("say of node %q whether containers can be attached: %w", r.node.Name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reported = now
	return nil
}
