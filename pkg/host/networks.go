package host

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/berth-cni/berth/pkg/overlay"
)

// tellNetworks tells who answers for names of all networks of this host, also of those
// without a container: by their configurations, by what the store of the overlay has told,
// and by what ADDs have left.
func (k *Keeper) tellNetworks(ctx context.Context, files []*conflist.File) {
	if k.Names == nil {
		return
	}
	all := map[string]names.Network{}
	add := func(name string, named bool, subnets []netip.Prefix) {
		n := all[name]
		all[name] = names.Network{Name: name, Named: n.Named || named, Subnets: append(n.Subnets, subnets...)}
	}
	for _, f := range files {
		if c := &f.Plugins[0].Conf; c.Type == conflist.Overlay || c.Type == conflist.Bridge && (c.IsGateway || c.IsDefaultGateway || f.Routed()) {
			var subnets []netip.Prefix
			for _, r := range c.Subnets() {
				subnets = append(subnets, r.Subnet.Masked())
			}
			add(f.Name, c.Names, subnets)
		}
	}
	var errs []error
	if k.DataDir != "" {
		locals, err := overlay.ListLocal(k.DataDir)
		errs = append(errs, err)
		for _, l := range locals {
			add(l.Network.Name, l.Network.Names, l.Network.Subnets)
		}
	}
	errs = append(errs, k.Records.View(ctx, func(tx *attach.Tx) error {
		used, err := tx.Networks()
		for _, n := range used {
			add(n.Name, slices.Contains(n.Settings, "names"), n.Subnets)
		}
		return err
	}))
	if err := errors.Join(errs...); err != nil && ctx.Err() == nil {
		k.say("the list of networks", err, "")
	}
	k.Names.Know(slices.Collect(maps.Values(all)))
}
