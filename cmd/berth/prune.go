package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/spf13/cobra"
)

func (p *program) nodePruneCommand() *cobra.Command {
	var dry, yes bool
	var away time.Duration
	c := &cobra.Command{
		Use:   "prune --away DURATION [flags]",
		Short: "Remove the nodes that have been away for long",
		Long: `Remove the nodes that are not alive, and have not been seen for longer than --away
(to within six hours where no other host saw it go). Nothing else ever takes blocks from a host. It shows them and
asks first; without a terminal it wants --yes.

` + exitCodes,
		Example: "  berth node prune --away 720h --dry-run\n  berth node prune --away 720h --yes",
		Args:    arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if away == 0 {
				return usageError{errors.New("--away: want how long a node must have been away, such as 720h")}
			}
			return p.prune(c.Context(), away, dry, yes)
		},
	}
	addFlag(c.Flags(), duration(&away, 0, overlay.SeenEvery), "away", "how long it must have been away, six hours or more")
	addFlag(c.Flags(), onOff(&dry), "dry-run", "only say what would be removed")
	addFlag(c.Flags(), onOff(&yes), "yes", "do not ask")
	p.settings.storeFlags(c.Flags())
	return c
}

// prune removes the nodes that have been away for longer than that.
func (p *program) prune(ctx context.Context, away time.Duration, dry, yes bool) error {
	var names []string
	err := p.withState(ctx, func(s *overlay.State) error {
		for _, v := range nodeViews(s) {
			since := p.now().Sub(v.Since)
			if !v.Alive && !v.Since.IsZero() && since > away {
				names = append(names, v.Name)
				fmt.Fprintf(p.err, "%s (%s) was last seen %s ago, at %s; it owns %d blocks\n", v.Name, v.Address, host.Age(since), stamp(v.Since), len(v.Blocks))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(names) == 0 {
		fmt.Fprintf(p.err, "No node has been away for more than %s.\n", short(away))
		return nil
	}
	if dry {
		fmt.Fprintln(p.out, strings.Join(names, "\n"))
		return nil
	}
	if !yes && !p.confirm(fmt.Sprintf("Give the blocks of these %d nodes back?", len(names))) {
		return errors.New("nothing was removed: say --yes, or y at a terminal")
	}
	return p.removeAll(ctx, names, p.removeNode(false))
}
