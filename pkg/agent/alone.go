package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/overlay"
	overlayagent "github.com/berth-cni/berth/pkg/overlay/agent"
)

// alone is the name of a host that takes no part in overlay networks.
type alone string

func (a alone) Status() overlayagent.Status {
	return overlayagent.Status{Node: string(a), Ready: true}
}

func (alone) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// restoreRules puts back the containers' part of the firewall. On a host that has
// overlay networks it leaves that to an agent that knows their peers.
func (c *Config) restoreRules(ctx context.Context) error {
	backend, err := firewall.Choose(c.Firewall)
	if err != nil {
		return err
	}
	if locals, err := overlay.ListLocal(c.DataDir); err != nil || len(locals) > 0 {
		return errors.Join(err, fmt.Errorf("%s knows of overlay networks, whose peers only an agent with their store knows", c.DataDir))
	}
	return firewall.SyncTunnels(ctx, backend, nil, func(ctx context.Context) ([]*attach.Attachment, error) {
		list, err := c.Records.List(ctx, "")
		if errors.Is(err, attach.ErrUnreadable) {
			err = nil // one that cannot be read does not keep the others' from being restored
		}
		return list, err
	})
}
