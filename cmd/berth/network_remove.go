package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/replica"
	"github.com/spf13/cobra"
)

func (p *program) networkRemoveCommand() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:     "rm [flags] NETWORK...",
		Aliases: []string{"remove"},
		Short:   "Remove networks",
		Long: `Remove networks. Of one of this host goes its conflist, its bridge, what the firewall
has of it, and what the host remembers. It is refused while containers are attached,
and where somebody else wrote the conflist, unless --force is given. A bridge that was
there before the network stays.

Of a network that spans hosts the blocks go that hosts own of it. One that a host has
containers on is refused; where the store did not know of them yet, it goes on for them
until the last has left. With --force it goes all the same: its containers lose their
connections to other hosts. The order stays in the store, with who gave it and when: that
a store does not have a network any more removes none. One that the store has lost, and
that this host remembers, can be removed, too.

One that cannot be removed does not keep the others.

` + exitCodes,
		Example: "  berth network rm my-bridge\n  berth network rm --force blue green",
		Args:    arguments(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			names, err := networkNames(c.Context(), p.networks().All, args)
			if err != nil {
				return err
			}
			var errs []error
			var others []string
			for _, name := range names {
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
	addShort(f, onOff(&force), "force", "f", "a conflist that somebody else wrote; a network that hosts use; no error when there is none")
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
			err := s.RemoveNetwork(ctx, name, force)
			err = p.buryLost(ctx, s, err, func(from *overlay.State) (r overlay.Removal, ok bool) {
				n, ok := from.Networks[name]
				return overlay.Removal{Network: name, ID: n.ID, Forced: force}, ok
			})
			if force && errors.Is(err, overlay.ErrNotFound) {
				return absentError{err}
			}
			return err
		})
	}
	var errs []error
	for _, name := range names {
		err := p.noNetwork(name)
		if errors.As(err, new(absentError)) && force {
			p.warn(err)
			continue
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// absentError: what is to be removed is not there, which is no error to one who forces it.
type absentError struct{ error }

// buryLost has hosts forget what the store has lost: it is not found there, but this host
// remembers it.
func (p *program) buryLost(ctx context.Context, s overlay.Store, err error, of func(*overlay.State) (overlay.Removal, bool)) error {
	if !errors.Is(err, overlay.ErrNotFound) {
		return err
	}
	from, _ := replica.Remembered(cmp.Or(p.settings.dataDir, overlay.DataDir()))
	if from == nil {
		return err
	}
	r, ok := of(from)
	if _, removed := from.Removed[r.Key()]; !ok || removed {
		return err
	}
	r.By, r.At = who(), p.now().UTC().Truncate(time.Second)
	order := overlay.NewState()
	order.Apply(overlay.Update{Removed: []overlay.Removal{r}})
	_, err = s.Restore(ctx, order, false)
	return err
}

// removeAll removes one after the other, and prints what is gone. One that cannot be
// removed does not keep the others.
func (p *program) removeAll(ctx context.Context, names []string, remove func(context.Context, overlay.Store, string) error) error {
	return p.withStore(func(s overlay.Store) error {
		var errs []error
		for _, name := range names {
			err := p.ask(ctx, func(ctx context.Context) error { return remove(ctx, s, name) })
			if errors.As(err, new(absentError)) {
				p.warn(err)
				continue
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
			fmt.Fprintln(p.out, name)
		}
		return errors.Join(errs...)
	})
}
