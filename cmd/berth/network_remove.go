package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/spf13/cobra"
)

func (p *program) networkRemoveCommand() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:     "rm [flags] NAME...",
		Aliases: []string{"remove"},
		Short:   "Remove networks",
		Long: `Remove networks. Of one of this host goes its conflist, its bridge, what the firewall
has of it, and what the host remembers. It is refused while containers are attached,
and where somebody else wrote the conflist, unless --force is given. A bridge that was
there before the network stays.

Of a network that spans hosts the blocks go that hosts own of it. One that a host has
containers on is refused. With --force it goes all the same: its containers lose their
connections to other hosts.

One that cannot be removed does not keep the others.

` + exitCodes,
		Example: "  berth network rm my-bridge\n  berth network rm --force blue green",
		Args:    arguments(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			var errs []error
			var others []string
			for _, name := range args {
				switch here, err := p.networks().Remove(c.Context(), name, force); {
				case err != nil:
					errs = append(errs, err)
				case here:
					fmt.Fprintln(p.out, name)
				default:
					others = append(others, name)
				}
			}
			return errors.Join(append(errs, p.removeElsewhere(c.Context(), others, force))...)
		},
	}
	f := c.Flags()
	f.SortFlags = false
	addFlag(f, onOff(&force), "force", "a conflist that somebody else wrote; a network that hosts use")
	p.settings.storeFlags(f)
	return c
}

// removeElsewhere removes networks that are not of this host.
func (p *program) removeElsewhere(ctx context.Context, names []string, force bool) error {
	if len(names) == 0 {
		return nil
	}
	if p.settings.named {
		return p.removeAll(ctx, names, func(ctx context.Context, s overlay.Store, name string) error {
			return s.RemoveNetwork(ctx, name, force)
		})
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, p.noNetwork(name))
	}
	return errors.Join(errs...)
}

// removeAll removes one after the other, and prints what is gone. One that cannot be
// removed does not keep the others.
func (p *program) removeAll(ctx context.Context, names []string, remove func(context.Context, overlay.Store, string) error) error {
	return p.withStore(func(s overlay.Store) error {
		var errs []error
		for _, name := range names {
			if err := p.ask(ctx, func(ctx context.Context) error { return remove(ctx, s, name) }); err != nil {
				errs = append(errs, err)
				continue
			}
			fmt.Fprintln(p.out, name)
		}
		return errors.Join(errs...)
	})
}
