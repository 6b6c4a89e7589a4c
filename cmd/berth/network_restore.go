package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/replica"
	"github.com/spf13/cobra"
)

func (p *program) networkRestoreCommand() *cobra.Command {
	var dry bool
	c := &cobra.Command{
		Use:   "restore [flags] [NAME...]",
		Short: "Give a store that lost them the networks that this host remembers",
		Long: `Give the store what it has lost (it came back empty, or from an old backup) of what this
host remembers: networks that span hosts, as they were, with the nodes and blocks on
them; all, or those that are named. Nothing that the store has is changed, and nothing
that somebody removed comes back. It may be called on any host, and again.

Agents do the same by themselves, once all that live miss the same; the right data put
back is always better. Each line says what the store gets.

` + exitCodes,
		Example: "  berth network restore --dry-run\n  berth network restore blue",
		RunE: func(c *cobra.Command, args []string) error {
			return p.restoreNetworks(c.Context(), args, dry)
		},
	}
	f := c.Flags()
	f.SortFlags = false
	addFlag(f, onOff(&dry), "dry-run", "only say what the store would get")
	p.settings.storeFlags(f)
	return c
}

func (p *program) restoreNetworks(ctx context.Context, names []string, dry bool) error {
	dir := cmp.Or(p.settings.dataDir, overlay.DataDir())
	from, err := replica.Remembered(dir)
	if from == nil {
		return err
	}
	if err != nil {
		p.warn(err)
	}
	if len(names) > 0 {
		if from, err = from.Only(names); err != nil {
			return err
		}
	}
	if len(from.Networks)+len(from.Removed) == 0 {
		return fmt.Errorf("this host remembers no network that spans hosts: there is none in %s", dir)
	}
	return p.withStore(func(s overlay.Store) error {
		var r *overlay.Restoration
		err := p.ask(ctx, func(ctx context.Context) (err error) {
			r, err = s.Restore(ctx, from, dry)
			return err
		})
		if err != nil {
			return err
		}
		for _, x := range r.Removed {
			fmt.Fprintln(p.out, "removal of", x.What())
		}
		for _, n := range r.Nodes {
			fmt.Fprintln(p.out, "node", n.Name)
		}
		for _, b := range r.Blocks {
			fmt.Fprintln(p.out, "block", b.Network, b.Prefix, "of", b.Node)
		}
		for _, n := range r.Networks {
			fmt.Fprintln(p.out, "network", n.Name)
		}
		if r.Empty() && len(r.Refused) == 0 {
			fmt.Fprintln(p.err, "The store has all that this host remembers.")
		}
		return errors.Join(r.Refused...)
	})
}
