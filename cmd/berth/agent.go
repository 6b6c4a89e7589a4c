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
	"runtime/debug"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/overlay/agent"
	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
)

func (p *program) agentCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "agent [flags]",
		Short: "Keep this host's part of the overlay networks",
		Long: `The agent claims this host's blocks of addresses, keeps the VXLAN devices,
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

func (p *program) runAgent(ctx context.Context) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	s := &p.settings
	log := newLog(p.err, s.logLevel, s.logFormat)
	store, err := p.open(s, log)
	if err != nil {
		return usageError{err}
	}
	defer store.Close()
	underlay := s.underlay
	if underlay == underlayAuto {
		underlay = ""
	}
	a, err := agent.New(agent.Config{
		Store: store, Node: s.node, Underlay: underlay, DataDir: s.dataDir, StateDir: s.stateDir, ConfDir: s.confDir,
		FirewallBackend: s.firewall, Resync: s.resync, Probe: !s.noProbe, Log: log, Records: attach.New(s.stateDir, cni.Decode),
	})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", s.listen)
	if err != nil {
		return fmt.Errorf("%w: does another agent run, or should --listen be another?", err)
	}
	log.Info("berth agent", "version", cni.Version, "node", s.node, "store", s.store, "listen", l.Addr().String())
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	server := serve(l, a, stop)
	tell(log, daemon.SdNotifyReady)
	err = a.Run(running)
	tell(log, daemon.SdNotifyStopping)
	if err == nil && ctx.Err() == nil {
		err = context.Cause(running)
	}
	return errors.Join(err, server.Close())
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
