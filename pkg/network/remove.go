package network

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
	"github.com/berth-cni/berth/pkg/firewall/allow"
	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/link"
)

// Remove removes a network of this host. False when there is none of that name.
func (h *Host) Remove(ctx context.Context, name string, force bool) (here bool, err error) {
	files, _ := h.Dir.List() // what cannot be read is not of this name
	if f := conflist.Find(files, name); f == nil || f.Driver() == conflist.Overlay {
		if conflist.Predefined(name) {
			return false, fmt.Errorf("remove network %s: is predefined", name)
		}
		return false, nil
	}
	unlock, err := h.Dir.Lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	n, err := h.Local(ctx)
	if err != nil {
		return false, err
	}
	f := conflist.Find(n.Files, name)
	if f == nil {
		return false, nil // gone since
	}
	if f.Mark == nil && !force {
		return false, fmt.Errorf("remove network %s: somebody else wrote %s: --force removes it all the same", name, f.Path)
	}
	if err := inUse(name, n.On(name)); err != nil {
		return false, err
	}
	return true, h.removeFile(ctx, n, f)
}

func inUse(name string, on []*attach.Attachment) error {
	if len(on) == 0 {
		return nil
	}
	return fmt.Errorf("remove network %s: is used by %s", name, strings.Join(containersOf(on), ", "))
}

// removeFile removes the conflist first, so that no runtime attaches anything more,
// then what is left of the network on this host.
func (h *Host) removeFile(ctx context.Context, n *Networks, f *conflist.File) error {
	if err := h.Dir.Remove(f); err != nil {
		return err
	}
	on, err := h.Store.List(ctx, f.Name) // again: a runtime may have been faster
	if err == nil || errors.Is(err, attach.ErrUnreadable) {
		err = errors.Join(err, inUse(f.Name, on))
	}
	if err != nil {
		return errors.Join(err, h.Dir.Restore(f))
	}
	var errs []error
	switch {
	case f.Routed():
		errs = append(errs, host.RemoveRouted(ctx, f.Name))
	case f.Driver() == conflist.Bridge && !n.shares(f):
		errs = append(errs, removeBridge(ctx, f))
	}
	errs = append(errs, h.Store.Update(ctx, func(tx *attach.Tx) error { return tx.ForgetNetwork(f.Name) }))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("network %s is removed, but something is left of it: %w", f.Name, err)
	}
	return nil
}

// shares tells whether another network is on the bridge of this one.
func (n *Networks) shares(f *conflist.File) bool {
	return slices.ContainsFunc(n.Files, func(o *conflist.File) bool { return o.Name != f.Name && o.Link() == f.Link() }) ||
		slices.ContainsFunc(n.Known, func(o attach.Network) bool { return o.Name != f.Name && o.Link == f.Link() })
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
	errs := []error{err, (&allow.Forward{Bridge: bridge}).Remove(ctx)}
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

// Unused are the networks of this host that this program made, that fit, and that no
// container is attached to, sorted.
func (h *Host) Unused(ctx context.Context, fits func(*conflist.Mark) bool) ([]string, error) {
	n, err := h.Local(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, f := range n.Files {
		if f.Mark != nil && f.Driver() != conflist.Overlay && !conflist.Predefined(f.Name) && len(n.On(f.Name)) == 0 && fits(f.Mark) {
			names = append(names, f.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}
