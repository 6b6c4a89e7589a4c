package doctor

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/internal/proc"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/agent"
)

// facts are what the checks look at: gathered once, so that a check is a function of
// them.
type facts struct {
	Now time.Time

	Listen    string
	AgentRuns bool // by its lock
	AgentErr  error
	Status    *agent.Status // nil when it does not answer
	StatusErr error

	Store    string         // what the store is
	State    *overlay.State // nil when the store does not answer
	StoreErr error

	DataDir  string
	Identity *overlay.Identity // nil: this host is no node yet
	Locals   []*overlay.Local
	LocalErr error // what of it could not be read

	Devices   host.Links // by name; absent: there is none
	Routes    []link.HostRoute
	RoutesErr error
	Forwards  map[bool]string // of IPv4 (true) and IPv6: what the kernel's file says

	Host     hostFacts
	Networks networkFacts
}

// gather looks at everything once.
func (c *Config) gather(ctx context.Context) *facts {
	f := &facts{Now: c.Now(), Listen: c.Listen, DataDir: c.DataDir, Store: c.StoreName}
	f.AgentRuns, f.AgentErr = overlay.AgentRuns(c.Records.Dir())
	f.Status, f.StatusErr = agent.Ask(ctx, c.Listen)
	f.Locals, f.LocalErr = overlay.ListLocal(c.DataDir)
	if id, err := overlay.ReadIdentity(c.DataDir); err == nil {
		if !c.Tokens {
			id.Token = ""
		}
		f.Identity = &id
	} else if !errors.Is(err, fs.ErrNotExist) {
		f.LocalErr = errors.Join(f.LocalErr, err)
	}
	if c.State != nil && (c.Named || !f.unused()) { // else nobody has said that there is one
		f.State, f.StoreErr = c.State(ctx)
	}
	f.Host = *c.gatherHost(ctx)
	f.Networks = c.gatherNetworks(f.Host.Records, f.Host.living())
	f.Devices = f.Host.Links
	own := f.Host.ownDevices()
	for _, l := range f.Locals {
		own = append(own, l.Network.Device(), l.Network.Bridge())
	}
	f.Routes, f.RoutesErr = link.HostRoutes(own...)
	f.Forwards = map[bool]string{true: proc.NetSetting("ipv4", "ip_forward"), false: proc.NetSetting("ipv6", "conf", "all", "forwarding")}
	return f
}
