package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/spf13/cobra"
)

func (p *program) networkPruneCommand() *cobra.Command {
	var yes, force, dry bool
	var filter pruneFilter
	c := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Remove the networks of this host that nobody uses",
		Long: `Remove the networks of this host that this program made, and that no container is
attached to. Networks that somebody else wrote, predefined ones, and those that span
hosts stay. It asks first; without a terminal it wants --force.

Filters must all fit:
  until=24h, until=2026-01-02T15:04:05Z  made longer ago, or before
  label=KEY, label=KEY=VALUE             with this label
  label!=KEY, label!=KEY=VALUE           without it

` + exitCodes,
		Example: "  berth network prune\n  berth network prune --force --filter until=24h --filter label!=keep",
		Args:    arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return p.pruneNetworks(c.Context(), &filter, dry, yes || force)
		},
	}
	f := c.Flags()
	f.SortFlags = false
	addFlag(f, filter.value(func() time.Time { return p.now() }), "filter", "only those that fit: until=, label=, label!=")
	addFlag(f, onOff(&dry), "dry-run", "only say what would be removed")
	addShort(f, onOff(&force), "force", "f", "do not ask")
	addFlag(f, onOff(&yes), "yes", "the same")
	return c
}

func (p *program) pruneNetworks(ctx context.Context, filter *pruneFilter, dry, yes bool) error {
	names, err := p.networks().Unused(ctx, func(m *conflist.Mark) bool { return filter.fits(m.Created, m.Labels) })
	if err != nil {
		return err
	}
	if len(names) == 0 {
		fmt.Fprintln(p.err, "No network is unused.")
		return nil
	}
	if dry {
		fmt.Fprintln(p.out, strings.Join(names, "\n"))
		return nil
	}
	if !yes && !p.confirm(fmt.Sprintf("Remove %s?", strings.Join(names, ", "))) {
		return fmt.Errorf("nothing was removed of %s: say --force, or y at a terminal", strings.Join(names, ", "))
	}
	var errs []error
	for _, name := range names {
		if _, err := p.networks().Remove(ctx, name, false); err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(p.out, name)
	}
	return errors.Join(errs...)
}
