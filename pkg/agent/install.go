package agent

import (
	"context"

	"github.com/berth-cni/berth/pkg/install"
	"github.com/berth-cni/berth/pkg/overlay"
	overlayagent "github.com/berth-cni/berth/pkg/overlay/agent"
)

// runtimes is what the overlay's part tells this host's runtimes: of plugins by the name
// that the agent installs them by, and not before it has.
func (c *Config) runtimes() overlayagent.Runtimes {
	r := overlayagent.Runtimes{ConfDir: c.ConfDir, Default: c.DefaultNetwork, Mode: c.Mode}
	if c.Plugins != nil {
		r.Plugin, r.Installed = install.Name(overlay.Plugin), c.Plugins.Ready
	}
	return r
}

// install keeps the plugins installed, if that is the agent's work.
func (c *Config) install(ctx context.Context) error {
	if c.Plugins == nil {
		<-ctx.Done()
		return nil
	}
	c.Plugins.Run(ctx)
	return nil
}
