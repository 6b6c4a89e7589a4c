package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/network"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/spf13/cobra"
)

func (p *program) nodeResetCommand() *cobra.Command {
	var r network.Reset
	var definitions bool
	c := &cobra.Command{
		Use:   "reset [flags]",
		Short: "Remove all that Berth has on this host",
		Long: `Have this host be as if Berth had never been there, and say what is removed: the
conflists that Berth wrote, devices, bridges and routes, its tables and chains of the
firewall, what other firewalls were told to let through, the plugins that an agent has
installed (berth-bridge and so on) and the folders of its state. Where a store is named,
the host's blocks are given back, and its name.

It refuses while an agent runs, which would make all that again, and while containers are
attached, unless --force cuts them off. A second run removes what an error has left.

Left are conflists that somebody else wrote, what 'make install' has installed, and the
forwarding of packets, which something else may need. On Kubernetes deploy/reset.yaml runs
it on a node, without the right to --definitions, which takes an administrator's --kubeconfig.

` + exitCodes,
		Example: `  berth node reset --dry-run
  berth node reset --force
  berth node reset --store kubernetes --kubeconfig admin.conf --definitions`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return p.reset(c.Context(), r, definitions) },
	}
	c.Flags().SortFlags = false
	addFlag(c.Flags(), onOff(&r.DryRun), "dry-run", "only say what would be removed")
	addFlag(c.Flags(), onOff(&r.Force), "force", "cut off the containers that are attached")
	addFlag(c.Flags(), onOff(&definitions), "definitions", "once no node has Berth, delete its resource definitions from Kubernetes' API, and every network with them")
	addFlag(c.Flags(), text(&r.BinDir, "folder", "/opt/cni/bin", nil), "install-bin", "where the agent has installed plugins")
	addFlag(c.Flags(), text(&p.settings.netDir, "folder", netDirOf(c), nil), "net-dir", "the CNI configurations of this host")
	p.settings.hostFlags(c.Flags())
	p.settings.storeFlags(c.Flags())
	return c
}

func (p *program) reset(ctx context.Context, r network.Reset, definitions bool) error {
	r.Report = func(e host.Event) { fmt.Fprintln(p.out, e) }
	if definitions && p.settings.store != "kubernetes" {
		return usageError{errors.New("--definitions: Kubernetes' API alone has some: want --store kubernetes")}
	}
	id, err := overlay.ReadIdentity(cmp.Or(p.settings.dataDir, overlay.DataDir()))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.warn(fmt.Errorf("which node this host is: %w", err))
	}
	if err := p.networks().Reset(ctx, r); err != nil || !p.settings.named {
		return err
	}
	if err := p.leaveStore(ctx, id.Node, r); err != nil || !definitions {
		return err
	}
	return p.removeDefinitions(ctx, r)
}

// leaveStore gives the node and its blocks back.
func (p *program) leaveStore(ctx context.Context, node string, r network.Reset) error {
	if node == "" {
		return nil
	}
	action := host.Surplus
	if !r.DryRun {
		action = host.Removed
		err := p.withStore(func(s overlay.Store) error {
			return p.ask(ctx, func(ctx context.Context) error { return s.RemoveNode(ctx, node, true) })
		})
		if errors.Is(err, overlay.ErrNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("give node %s and its blocks back ('berth node rm %s' does): %w", node, node, err)
		}
	}
	r.Report(host.Event{Action: action, What: "node " + node + " with its blocks, from " + p.settings.storeName()})
	return nil
}

// removeDefinitions deletes what Berth has defined in Kubernetes' API.
func (p *program) removeDefinitions(ctx context.Context, r network.Reset) error {
	action := host.Surplus
	if !r.DryRun {
		action = host.Removed
		err := p.withStore(func(s overlay.Store) error {
			d, ok := s.(interface{ RemoveDefinitions(context.Context) error })
			if !ok {
				return fmt.Errorf("%s has no definitions", p.settings.storeName())
			}
			return p.ask(ctx, d.RemoveDefinitions)
		})
		if err != nil {
			return fmt.Errorf("delete Berth's definitions from %s: %w", p.settings.storeName(), err)
		}
	}
	r.Report(host.Event{Action: action, What: "Berth's definitions with every network, from " + p.settings.storeName()})
	return nil
}
