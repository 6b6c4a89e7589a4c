package main

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/berth-cni/berth/pkg/agent"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/install"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes"
	"github.com/spf13/cobra"
)

func (p *program) agentCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "agent [flags]",
		Short: "Answer for containers by name, and keep the host and the overlay networks",
		Long: `The agent has three parts. One answers DNS for the containers of networks with names;
a plugin starts an agent for it when none runs, which ends with the last such
container. One keeps what containers share as it has to be: bridges, forwarding, the way
through other firewalls, our own rules; it removes what is left of a network whose
configuration went. The third keeps this host's part of the overlay networks, when a
store is named by a flag or in the configuration file.

With --install-bin it also keeps the plugins where this host's runtimes look for them, as
an agent does that comes as an image.

For the overlay the agent claims this host's blocks of addresses, keeps the VXLAN devices,
neighbours and routes as the store says, repairs what somebody else changed, and
finds black holes on the way to other hosts. There is one on a host.

Containers are added without it, and without the store, as long as this host has
blocks. When the agent stops, all traffic goes on.

Each flag can be a key of the configuration file, in YAML; a flag that is given on
the command line wins. Of the environment, BERTH_STATE_DIR and BERTH_DATA_DIR are
the defaults of --state-dir and --data-dir, and NETCONFPATH says where this host's
configurations are; nothing else is read.

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

func (p *program) runAgent(ctx context.Context) error {
	s := &p.settings
	c := agent.Config{
		Node: s.node, Underlay: s.underlay, StateDir: s.stateDir, DataDir: s.dataDir, ConfDir: s.confDir, DefaultNetwork: s.defaultNetwork, Mode: strings.TrimPrefix(s.mode, "bridge"), NetDir: cmp.Or(os.Getenv(conflist.Env), conflist.Default), Listen: s.listen,
		Records: p.hostStore(), Firewall: s.firewall, BridgeNetfilter: s.bridgeNF, Resync: s.resync, Probe: !s.noProbe,
		OnDemand: s.onDemand && !s.named, Log: newLog(p.err, s.logLevel, s.logFormat),
	}
	if s.hostNames != "" {
		var err error
		if c.HostNames, err = parseHostNames(s.hostNames); err != nil {
			return usageError{err}
		}
	}
	if self, err := os.Executable(); err == nil {
		c.WireGuard = []string{self, wireguardName}
	}
	if s.installBin != "" {
		var err error
		if c.Plugins, err = install.Open(s.installFrom, s.installBin, c.Log); err != nil {
			return err
		}
	}
	if c.Underlay == underlayAuto {
		c.Underlay = ""
	}
	if s.named {
		store, err := p.open(s, c.Log)
		if err != nil {
			return usageError{err}
		}
		defer store.Close()
		c.Store, c.StoreName = store, s.storeName()
		if k, ok := store.(*kubernetes.Store); ok {
			c.Kubernetes = k.Client()
		}
	}
	return agent.Run(ctx, c)
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
