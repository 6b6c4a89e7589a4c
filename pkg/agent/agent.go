// Package agent is the agent of a host: it answers for containers by name, and keeps
// this host's part of the overlay networks, where there is a store of them.
//
// There is one on a host. One that a plugin started on demand gives way to one that
// was started as a service.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/install"
	"github.com/berth-cni/berth/pkg/names/server"
	"github.com/berth-cni/berth/pkg/overlay"
	overlayagent "github.com/berth-cni/berth/pkg/overlay/agent"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
	"github.com/berth-cni/berth/pkg/overlay/roster"
	"github.com/coreos/go-systemd/v22/daemon"
)

// overlayPart is the agent's part in overlay networks.
type overlayPart interface {
	overlayagent.Statuser
	Run(context.Context) error
}

// Config is what an agent is told.
type Config struct {
	Node     string // this host's name
	StateDir string // what a reboot takes away: where the lock is
	DataDir  string // what outlives it
	ConfDir  string // for conflists of overlay networks; empty: none are written
	NetDir   string // the CNI configurations of this host; what is left of one that goes is removed
	Listen   string // where it answers, address:port
	Records  *attach.Store
	// BridgeNetfilter has frames between ports of bridges pass the firewall.
	BridgeNetfilter bool
	// Plugins are those that the agent keeps installed; nil: somebody else does.
	Plugins *install.Plugins
	// OnDemand has it end when no container needs its name any more, and give way to an
	// agent without this. It then answers nobody on Listen.
	OnDemand bool
	// HostNames is where it answers the host's own programs for names; invalid: nowhere.
	HostNames netip.AddrPort
	Log       *slog.Logger

	// Store is the store of the overlay networks; nil: this host takes part in none.
	// The rest is about these.
	Store     overlay.Store
	StoreName string // for people
	// Kubernetes is a client of the API in which this host's Node is told of its network; nil:
	// there is none.
	Kubernetes *client.Client
	// DefaultNetwork is the one whose conflist comes first in ConfDir; empty: none is.
	DefaultNetwork string
	Mode           string // of the plugin, in conflists in ConfDir; empty: its own default
	Underlay       string // an address, or a device; empty: that of the default route
	Firewall       string // the backend; auto: nftables where the kernel has it
	Resync         time.Duration
	Probe          bool     // look for black holes on the way to other hosts
	WireGuard      []string // the command that has a WireGuard device in user space
}

// Run is the agent, until the context ends. One that is on demand ends at once when
// another one answers for the host's containers.
func Run(ctx context.Context, c Config) error {
	if os.Getenv("GOGC") == "" {
		defer tuneGC()()
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(server.Processors())
	}
	if c.Plugins != nil { // or the conflists would wait for them
		c.Plugins.Install()
	}
	keeper := &host.Keeper{Records: c.Records, ConfDir: c.NetDir, DataDir: c.DataDir, Log: c.Log}
	names := server.New(server.Config{StateDir: c.StateDir, Records: c.Records, OnDemand: c.OnDemand, HostNames: c.HostNames, Redirect: firewall.MoveNames, Log: c.Log})
	keeper.Names = names
	part, err := c.overlayPart(names)
	if err != nil {
		return err
	}
	if c.Store == nil { // else the overlay's part does, which knows the peers
		keeper.Rules = c.restoreRules
	}
	var l net.Listener
	if !c.OnDemand { // one that comes and goes has nothing to say
		if l, err = net.Listen("tcp", c.Listen); err != nil {
			return fmt.Errorf("%w: does another agent run, or should --listen be another?", err)
		}
		defer l.Close()
	}
	// The last thing that may fail: one that was started on demand ends for it.
	unlock, err := lockNames(ctx, c.StateDir, c.OnDemand)
	if errors.Is(err, errServed) && c.OnDemand {
		return nil // as was demanded
	}
	if err != nil {
		return err
	}
	defer unlock()
	c.Log.Info("berth agent", "version", cni.Version, "node", c.Node, "store", c.StoreName, "on-demand", c.OnDemand)
	return c.runParts(ctx, names, part, keeper, l)
}

// overlayPart is the agent's part in overlay networks, if this host takes part.
func (c *Config) overlayPart(names *server.Server) (overlayPart, error) {
	if c.Store == nil {
		return alone(c.Node), nil
	}
	var shared *roster.Roster
	var follow func(overlay.Update)
	if told, ok := c.Store.(overlay.Roster); ok {
		shared = roster.New(roster.Config{Node: c.Node, Names: told, Directory: names.Directory(), Ready: names.Ready(), Log: c.Log})
		follow = shared.Learn
	}
	a, err := overlayagent.New(overlayagent.Config{
		Store: c.Store, Follow: follow, Node: c.Node, Underlay: c.Underlay, DataDir: c.DataDir, StateDir: c.StateDir, Runtimes: c.runtimes(), NetDir: c.NetDir,
		FirewallBackend: c.Firewall, Resync: c.Resync, Probe: c.Probe, WireGuard: c.WireGuard, Log: c.Log, Records: c.Records,
	})
	if err != nil {
		return nil, err
	}
	return sharing{a, shared}, nil
}

// sharing is a part in overlay networks that shares names with the other hosts, if the
// store can do that.
type sharing struct {
	*overlayagent.Agent
	names *roster.Roster // nil: it cannot
}

func (s sharing) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var names sync.WaitGroup
	if s.names != nil {
		names.Go(func() { s.names.Run(ctx) })
	}
	defer names.Wait()
	defer cancel()
	return s.Agent.Run(ctx)
}

// runParts runs the agent's parts, until all are told to end or one has. Without a
// listener nothing is told about them.
func (c *Config) runParts(ctx context.Context, names *server.Server, part overlayPart, keeper *host.Keeper, l net.Listener) error {
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if l != nil {
		c.Log.Info("status and metrics", "listen", l.Addr().String())
		defer overlayagent.Serve(l, part, cni.Version, stop, &hostMetrics{records: c.Records}).Close()
	}
	var parts sync.WaitGroup
	for _, run := range []func(context.Context) error{names.Run, part.Run, keeper.Run, c.install, c.filterBridged, func(ctx context.Context) error { return c.tellNode(ctx, part) }} {
		parts.Go(func() { stop(run(running)) })
	}
	select {
	case <-names.Ready():
		tell(c.Log, daemon.SdNotifyReady)
	case <-running.Done():
	}
	<-running.Done()
	tell(c.Log, daemon.SdNotifyStopping)
	parts.Wait()
	if cause := context.Cause(running); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// tell tells systemd, where it has started the agent (sd_notify(3)).
func tell(log *slog.Logger, what string) {
	if _, err := daemon.SdNotify(false, what); err != nil {
		log.Warn("tell systemd", "state", what, "error", err)
	}
}
