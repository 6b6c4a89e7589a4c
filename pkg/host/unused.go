package host

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/firewall/allow"
	"github.com/berth-cni/berth/pkg/link"
)

// unused are the networks that no configuration and no record names. A bridge that
// has a port is somebody's, and so is one that was there before its network: it stays.
func (c *collector) unused(ctx context.Context) ([]leftover, error) {
	files, err := conflist.Dir(c.ConfDir).List()
	if err != nil {
		return nil, err
	}
	var networks []attach.Network
	if err := c.store.View(ctx, func(tx *attach.Tx) (err error) { networks, err = tx.Networks(); return err }); err != nil {
		return nil, err
	}
	used := func(n attach.Network) bool {
		return !c.wants(n.Name) || conflist.Find(files, n.Name) != nil ||
			slices.ContainsFunc(c.kept, func(a *attach.Attachment) bool { return a.Network == n.Name })
	}
	var all []leftover
	for _, n := range networks {
		if n.Plugin != conflist.Bridge || used(n) {
			continue
		}
		l := leftover{"network " + n.Name, "it has no configuration in " + c.ConfDir + " and no container",
			func(ctx context.Context) error { return removeNetwork(ctx, c.store, n) }}
		onIt := func(o attach.Network) bool { return o.Link == n.Link && used(o) }
		if n.Link == "" {
			all = append(all, l)
			continue
		}
		if slices.ContainsFunc(networks, onIt) || slices.ContainsFunc(files, func(f *conflist.File) bool { return f.Link() == n.Link }) {
			l.remove = func(ctx context.Context) error { return forgetNetwork(ctx, c.store, n) }
		} else if br, ok := c.links[n.Link]; !ok || br.Shared() {
			l.what += " with bridge " + n.Link
		}
		all = append(all, l)
	}
	return all, nil
}

// removeNetwork removes what the containers of a network shared.
func removeNetwork(ctx context.Context, store *attach.Store, n attach.Network) error {
	if n.Link == "" {
		return errors.Join(RemoveRouted(ctx, n.Name), forgetNetwork(ctx, store, n))
	}
	links, err := ListLinks()
	if err != nil {
		return err
	}
	if br, ok := links[n.Link]; ok && br.Shared() {
		if br.Kind != "bridge" || hasPorts(links, br) {
			return fmt.Errorf("interface %s is no bridge, or has ports: somebody uses it", n.Link)
		}
		if err := link.Delete(n.Link); err != nil {
			return err
		}
	}
	backend, err := firewall.Choose("auto")
	if err != nil {
		return err
	}
	return errors.Join(
		firewall.RemoveNetwork(ctx, backend, n.Link),
		(&allow.Forward{Bridge: n.Link}).Remove(ctx),
		forgetNetwork(ctx, store, n))
}

// RemoveRouted removes what the host's firewalls have of a network without a bridge and
// without containers.
func RemoveRouted(ctx context.Context, network string) error {
	group := attach.Group(network)
	return errors.Join(firewall.RemoveGroup(group), (&allow.Forward{Group: group}).Remove(ctx))
}

// forgetNetwork is for a network whose bridge is another one's as well.
func forgetNetwork(ctx context.Context, store *attach.Store, n attach.Network) error {
	return store.Update(ctx, func(tx *attach.Tx) error { return tx.ForgetNetwork(n.Name) })
}

func hasPorts(links Links, bridge link.Link) bool {
	for _, l := range links {
		if l.Master == bridge.Index {
			return true
		}
	}
	return false
}
