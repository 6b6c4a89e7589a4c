package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/spf13/cobra"
)

func (p *program) networkConflistCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "conflist [flags] NAME",
		Short: "Print a network's conflist for a CNI runtime",
		Long: `Print what a runtime needs to attach containers to a network. That is the file in
--net-dir, where there is one. Of a network that spans hosts it is the same on every host,
and the store is only asked for one that this host does not know yet; 'berth network
install' writes it to --net-dir, and so does an agent with --conf-dir.

` + exitCodes,
		Example: "  berth network conflist blue > /etc/cni/net.d/20-blue.conflist",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			files, _ := p.netDir().List() // what cannot be read is not of this name
			if f := conflist.Find(files, args[0]); f != nil {
				_, err := p.out.Write(f.Data)
				return err
			}
			n, err := p.overlayNetwork(c.Context(), args[0])
			if err == nil {
				_, err = p.out.Write(n.Conflist(overlay.Plugin, ""))
			}
			return err
		},
	}
	p.settings.storeFlags(c.Flags())
	return c
}

func (p *program) networkInstallCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "install [flags] NAME...",
		Short: "Have this host's runtimes know networks that span hosts",
		Long: `Write the conflist of networks that span hosts to --net-dir, where every runtime of this
host finds it, and print its path. One that is there already stays. It goes with the network
once the last container of this host has left it, unless somebody has changed it.

One that cannot be written does not keep the others.

` + exitCodes,
		Example: "  berth network install blue green",
		Args:    arguments(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			var errs []error
			for _, name := range args {
				n, err := p.overlayNetwork(c.Context(), name)
				var path string
				if err == nil {
					path, err = p.networks().Install(c.Context(), n)
				}
				if err != nil {
					errs = append(errs, fmt.Errorf("install network %s: %w", name, err))
					continue
				}
				p.awaitNetwork(c.Context(), name)
				fmt.Fprintln(p.out, path)
			}
			return errors.Join(errs...)
		},
	}
	p.settings.storeFlags(c.Flags())
	return c
}

// agentPatience is how long an agent may take to learn of a network and to claim its blocks.
const agentPatience = 10 * time.Second

// awaitNetwork waits until this host's agent is ready for containers of a network that
// spans hosts, or warns that it is not.
func (p *program) awaitNetwork(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, agentPatience)
	defer cancel()
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		local, err := overlay.ReadLocal(p.networks().DataDir, name)
		if err == nil {
			err = local.Ready(p.hostStore().Dir())
		}
		if err == nil {
			return
		}
		if runs, _ := overlay.AgentRuns(p.hostStore().Dir()); !runs {
			p.warn(fmt.Errorf("network %s: containers can be attached once 'berth agent' runs on this host", name))
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			p.warn(fmt.Errorf("network %s: this host's agent is not ready for it ('berth doctor' says more): %w", name, err))
			return
		}
	}
}

// overlayNetwork is a network that spans hosts: as this host knows it from its agent, else
// as the store has it.
func (p *program) overlayNetwork(ctx context.Context, name string) (*overlay.Network, error) {
	if err := overlay.ValidName(name); err != nil {
		return nil, usageError{fmt.Errorf("network %q: %w", name, err)}
	}
	local, err := overlay.ReadLocal(p.networks().DataDir, name)
	if err == nil && local.Refused == "" {
		return &local.Network, nil
	}
	state, err := p.readState(ctx)
	if err != nil {
		return nil, err
	}
	n, ok := state.Networks[name]
	if !ok {
		return nil, fmt.Errorf("network %s: %w", name, overlay.ErrNotFound)
	}
	return &n, nil
}
