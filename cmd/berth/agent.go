package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/names/server"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/agent"
	"github.com/berth-cni/berth/pkg/overlay/roster"
	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
)

func (p *program) agentCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "agent [flags]",
		Short: "Answer for containers by name, and keep the overlay networks",
		Long: `The agent has two parts. One answers DNS for the containers of networks with names;
a plugin starts an agent for it when none runs, which ends with the last such
container. The other keeps this host's part of the overlay networks, when a store is
named by a flag or in the configuration file.

For the overlay the agent claims this host's blocks of addresses, keeps the VXLAN devices,
neighbours and routes as the store says, repairs what somebody else changed, and
finds black holes on the way to other hosts. There is one on a host.

Containers are added without it, and without the store, as long as this host has
blocks. When the agent stops, all traffic goes on.

Each flag can be a key of the configuration file, in YAML; a flag that is given on
the command line wins. Of the environment, BERTH_STATE_DIR and BERTH_DATA_DIR are
the defaults of --state-dir and --data-dir, nothing else is read.

On SIGTERM and SIGINT it says good-bye to the store and ends; a second one ends it
at once. On --listen it serves:

  /healthz   200 while it runs
  /readyz    200 when this host can use its networks, else 503 and the reason
  /status    what it knows, as JSON
  /metrics   for Prometheus

` + exitCodes,
		Example: `  berth agent --etcd-endpoints https://10.0.0.1:2379,https://10.0.0.2:2379 \
      --etcd-ca /etc/berth/ca.pem --etcd-cert /etc/berth/host.pem --etcd-key /etc/berth/host.key
  berth agent --store static --peers-file /etc/berth/peers.yaml --underlay eth1
  berth agent --config ./agent.yaml --log-level debug`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return p.runAgent(c.Context()) },
	}
	p.settings.agentFlags(c.Flags())
	return c
}

// gcPercent keeps the heap at 1.5 times of what lives on it: the agent has much
// memory and few changes. The environment's GOGC wins.
const gcPercent = 50

// overlayPart is the agent's part in overlay networks.
type overlayPart interface {
	statuser
	Run(context.Context) error
}

func (p *program) runAgent(ctx context.Context) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(server.Processors())
	}
	s := &p.settings
	log := newLog(p.err, s.logLevel, s.logFormat)
	onDemand := s.onDemand && !s.named
	records := attach.New(s.stateDir, cni.Decode)
	names := server.New(server.Config{StateDir: s.stateDir, Records: records, OnDemand: onDemand, Log: log})
	part, end, err := p.overlayPart(records, names, log)
	if err != nil {
		return err
	}
	defer end()
	var l net.Listener
	if !onDemand { // one that comes and goes has nothing to say
		if l, err = net.Listen("tcp", s.listen); err != nil {
			return fmt.Errorf("%w: does another agent run, or should --listen be another?", err)
		}
		defer l.Close()
	}
	// The last thing that may fail: one that was started on demand ends for it.
	unlock, err := lockNames(ctx, s.stateDir, onDemand)
	if errors.Is(err, errServed) && onDemand {
		return nil // as was demanded
	}
	if err != nil {
		return err
	}
	defer unlock()
	log.Info("berth agent", "version", cni.Version, "node", s.node, "store", s.storeName(), "on-demand", onDemand)
	return p.runParts(ctx, names, part, l, log)
}

// overlayPart opens the store, if somebody has said that there is one.
func (p *program) overlayPart(records *attach.Store, names *server.Server, log *slog.Logger) (part overlayPart, end func(), err error) {
	s := &p.settings
	if !s.named {
		return alone{s.node, s.dataDir, s.firewall, records, log}, func() {}, nil
	}
	store, err := p.open(s, log)
	if err != nil {
		return nil, nil, usageError{err}
	}
	underlay := s.underlay
	if underlay == underlayAuto {
		underlay = ""
	}
	var shared *roster.Roster
	heard := store
	if told, ok := store.(overlay.Roster); ok {
		shared = roster.New(roster.Config{Node: s.node, Names: told, Directory: names.Directory(), Ready: names.Ready(), Log: log})
		heard = shared.Store(store)
	}
	a, err := agent.New(agent.Config{
		Store: heard, Node: s.node, Underlay: underlay, DataDir: s.dataDir, StateDir: s.stateDir, ConfDir: s.confDir,
		FirewallBackend: s.firewall, Resync: s.resync, Probe: !s.noProbe, Log: log, Records: records,
	})
	if err != nil {
		store.Close()
		return nil, nil, err
	}
	return sharing{a, shared}, func() { store.Close() }, nil
}

// sharing is a part in overlay networks that shares names with the other hosts, if the
// store can do that.
type sharing struct {
	*agent.Agent
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
func (p *program) runParts(ctx context.Context, names *server.Server, part overlayPart, l net.Listener, log *slog.Logger) error {
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if l != nil {
		log.Info("status and metrics", "listen", l.Addr().String())
		defer serve(l, part, stop).Close()
	}
	var parts sync.WaitGroup
	for _, run := range []func(context.Context) error{names.Run, part.Run} {
		parts.Go(func() { stop(run(running)) })
	}
	select {
	case <-names.Ready():
		tell(log, daemon.SdNotifyReady)
	case <-running.Done():
	}
	<-running.Done()
	tell(log, daemon.SdNotifyStopping)
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

// serve answers on a listener. What ends it is given to failed.
func serve(l net.Listener, a statuser, failed func(error)) *http.Server {
	server := &http.Server{
		Handler:           handler(a),
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			failed(fmt.Errorf("serve on %s: %w", l.Addr(), err))
		}
	}()
	return server
}

func newLog(w io.Writer, level, format string) *slog.Logger {
	var least slog.Level
	_ = least.UnmarshalText([]byte(level)) // one of the flag's words
	o := &slog.HandlerOptions{Level: least}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
