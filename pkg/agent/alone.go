package agent

import (
	"context"
	"errors"
	"log/slog"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/overlay"
	overlayagent "github.com/berth-cni/berth/pkg/overlay/agent"
)

// alone is an agent that takes no part in an overlay.
type alone struct {
	node, dataDir, backend string
	records                *attach.Store
	log                    *slog.Logger
}

func (a alone) Status() overlayagent.Status { return overlayagent.Status{Node: a.node, Ready: true} }

// Run puts the containers' part of the firewall back as soon as somebody flushed it,
// until the context ends.
func (a alone) Run(ctx context.Context) error {
	backend, err := firewall.Choose(a.backend)
	var changes <-chan struct{}
	if err == nil {
		changes, err = firewall.Watch(ctx)
	}
	if err != nil {
		a.log.Warn("watch the firewall; the next ADD, or berth reload, puts back what is flushed", "error", err)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-changes:
			if !ok {
				changes = nil
				continue
			}
		}
		if locals, err := overlay.ListLocal(a.dataDir); err != nil || len(locals) > 0 {
			continue // the overlay's agent does that, and knows the peers
		}
		all := func(ctx context.Context) ([]*attach.Attachment, error) {
			list, err := a.records.List(ctx, "")
			if errors.Is(err, attach.ErrUnreadable) {
				err = nil // one that cannot be read does not keep the others' from being restored
			}
			return list, err
		}
		if err := firewall.SyncTunnels(ctx, backend, nil, all); err != nil && ctx.Err() == nil {
			a.log.Error("put back the firewall", "error", err)
			continue
		}
		a.log.Info("the firewall was changed by somebody else: put back what was missing")
	}
}
