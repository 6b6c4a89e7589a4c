package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/link"
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
				switch here, err := p.removeHere(c.Context(), name, force); {
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

// removeHere removes a network of this host. False when there is none of that name.
func (p *program) removeHere(ctx context.Context, name string, force bool) (here bool, err error) {
	files, _ := p.netDir().List() // what cannot be read is not of this name
	if f := conflist.Find(files, name); f == nil || f.Driver() == driverOverlay {
		if conflist.Predefined(name) {
			return false, fmt.Errorf("remove network %s: is predefined", name)
		}
		return false, nil
	}
	unlock, err := p.netDir().Lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	n, err := p.hostNetworks(ctx)
	if err != nil {
		return false, err
	}
	f := conflist.Find(n.files, name)
	if f == nil {
		return false, nil // gone since
	}
	if f.Mark == nil && !force {
		return false, fmt.Errorf("remove network %s: somebody else wrote %s: --force removes it all the same", name, f.Path)
	}
	if err := inUse(name, n.on(name)); err != nil {
		return false, err
	}
	return true, p.removeFile(ctx, n, f)
}

func inUse(name string, on []*attach.Attachment) error {
	if len(on) == 0 {
		return nil
	}
	return fmt.Errorf("remove network %s: is used by %s", name, strings.Join(containersOf(on), ", "))
}

// removeFile removes the conflist first, so that no runtime attaches anything more,
// then what is left of the network on this host.
func (p *program) removeFile(ctx context.Context, n *networks, f *conflist.File) error {
	if err := p.netDir().Remove(f); err != nil {
		return err
	}
	on, err := p.hostStore().List(ctx, f.Name) // again: a runtime may have been faster
	if err == nil || errors.Is(err, attach.ErrUnreadable) {
		err = errors.Join(err, inUse(f.Name, on))
	}
	if err != nil {
		return errors.Join(err, p.netDir().Restore(f))
	}
	var errs []error
	if f.Driver() == driverBridge && !n.shares(f) {
		errs = append(errs, removeBridge(ctx, f))
	}
	errs = append(errs, p.hostStore().Update(ctx, func(tx *attach.Tx) error { return tx.ForgetNetwork(f.Name) }))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("network %s is removed, but something is left of it: %w", f.Name, err)
	}
	return nil
}

// shares tells whether another network is on the bridge of this one.
func (n *networks) shares(f *conflist.File) bool {
	return slices.ContainsFunc(n.files, func(o *conflist.File) bool { return o.Name != f.Name && o.Link() == f.Link() }) ||
		slices.ContainsFunc(n.known, func(o attach.Network) bool { return o.Name != f.Name && o.Link == f.Link() })
}

// removeBridge removes a network's bridge, and what the host's firewalls have of it.
func removeBridge(ctx context.Context, f *conflist.File) error {
	c, bridge := &f.Plugins[0].Conf, f.Link()
	inside := bridge // by which containers come in
	if c.VLAN != 0 && (c.IsGateway || c.IsDefaultGateway) {
		inside = fmt.Sprintf("%s.%d", bridge, c.VLAN)
	}
	backend, err := firewall.Choose(cmp.Or(c.FirewallBackend, c.IPMasqBackend))
	if err == nil {
		err = firewall.RemoveNetwork(ctx, backend, inside)
	}
	errs := []error{err, (&firewall.Forward{Bridge: bridge}).Remove(ctx)}
	if f.Mark == nil || f.Mark.KeepLink {
		return errors.Join(errs...)
	}
	return errors.Join(append(errs, deleteBridge(bridge))...)
}

// deleteBridge deletes a bridge that nothing is on: one with ports is not ours alone.
func deleteBridge(name string) error {
	all, err := host.ListLinks()
	if err != nil {
		return err
	}
	bridge, there := all[name]
	if !there || bridge.Kind != "bridge" {
		return nil
	}
	for _, l := range all {
		if l.Master == bridge.Index {
			return fmt.Errorf("bridge %s stays: %s is on it, which is no container's", name, l.Name)
		}
	}
	return link.Delete(name)
}
