package kubernetes

import (
	"context"
	"fmt"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
)

// report is what the node's object was last told of its network.
type report struct{ uid, why string }

// Report has the registered node's object say in its condition Ready whether containers can
// be attached on it: why is the reason that they cannot, or empty. It is written when it has
// changed.
func (s *Store) Report(ctx context.Context, why string) error {
	r := s.registered()
	if r == nil {
		return overlay.ErrNotRegistered
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	now := report{r.owner().Metadata.UID, why}
	s.mu.Lock()
	was := s.reported
	s.mu.Unlock()
	if was == now {
		return nil
	}
	status, reason, message := "True", "ContainersCanBeAttached", ""
	if why != "" {
		status, reason, message = "False", "ContainersCannotBeAttached", clip(why)
	}
	err := s.c.Patch(ctx, s.nodes.Path(r.node.Name), client.Merge, map[string]any{
		"metadata": map[string]any{"uid": now.uid},
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
