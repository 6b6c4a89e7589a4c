package host

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/firewall"
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
	users := map[string]int{}
	for _, n := range networks {
		users[n.Link]++
	}
	var all []leftover
	for _, n := range networks {
		used := slices.ContainsFunc(c.kept, func(a *attach.Attachment) bool { return a.Network == n.Name }) ||
			slices.ContainsFunc(files, func(f *conflist.File) bool { return f.Name == n.Name })
		if used || !c.wants(n.Name) || n.Plugin != conflist.Bridge || users[n.Link] != 1 {
			continue
		}
		what := "network " + n.Name
		if l, ok := c.links[n.Link]; !ok || l.Shared() {
			what += " with bridge " + n.Link
		}
		all = append(all, leftover{what, "it has no configuration in " + c.ConfDir + " and no container",
			func(ctx context.Context) error { return removeNetwork(ctx, c.store, n) }})
	}
	return all, nil
}

// removeNetwork removes what the containers of a network shared.
func removeNetwork(ctx context.Context, store *attach.Store, n attach.Network) error {
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
		(&firewall.Forward{Bridge: n.Link}).Remove(ctx),
		store.Update(ctx, func(tx *attach.Tx) error { return tx.ForgetNetwork(n.Name) }))
}

func hasPorts(links Links, bridge link.Link) bool {
	for _, l := range links {
		if l.Master == bridge.Index {
			return true
		}
	}
	return false
}
