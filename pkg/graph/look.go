package graph

import (
	"context"
	"os"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/inspect"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/berth-cni/berth/pkg/overlay"
)

// Config says where to look for what is drawn.
type Config struct {
	Store   *attach.Store
	DataDir string // where overlay networks are remembered
	Listen  string // where the host's agent answers
	Now     time.Time
	// Warn is told what keeps nobody from seeing the rest.
	Warn func(error)
}

// Look looks at everything on this host that is drawn. It works without the agent.
func Look(ctx context.Context, c Config) (*Input, error) {
	in := &Input{Called: func(a *attach.Attachment) (string, []string) { return names.Called(a), names.Registered(a) }}
	var err error
	if in.Host, err = os.Hostname(); err != nil {
		return nil, err
	}
	if id, err := overlay.ReadIdentity(c.DataDir); err == nil {
		in.Host = id.Node
	}
	if in.Records, err = inspect.Records(ctx, c.Store, c.Warn); err != nil {
		return nil, err
	}
	err = c.Store.View(ctx, func(tx *attach.Tx) (err error) {
		in.Networks, err = tx.Networks()
		return err
	})
	if err != nil {
		return nil, err
	}
	if in.Overlays, err = c.overlays(ctx); err != nil {
		c.Warn(err)
	}
	in.Kernel, err = newHostKernel(c.Now)
	return in, err
}
