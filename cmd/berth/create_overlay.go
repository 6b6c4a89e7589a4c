package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/overlay"
)

func (p *program) createOverlay(ctx context.Context, n overlay.Network) error {
	n.SetDefaults()
	check := n
	check.VNI = cmp.Or(n.VNI, overlay.FirstVNI) // 0: the store's to choose
	if err := check.Validate(); err != nil {
		return usageError{fmt.Errorf("network %s is refused:\n%w", n.Name, err)}
	}
	return p.withStore(func(s overlay.Store) error {
		state, err := p.state(ctx, s)
		if err != nil {
			return err
		}
		if err := errors.Join(inTheWay(&n, state), p.inTheWayHere(ctx, &n)); err != nil {
			return fmt.Errorf("network %s is refused:\n%w", n.Name, err)
		}
		var made overlay.Network
		err = p.ask(ctx, func(ctx context.Context) error {
			made, err = s.CreateNetwork(ctx, n)
			return err
		})
		if err != nil {
			return err
		}
		fmt.Fprintln(p.out, made.Name)
		if terminal(p.err) {
			fmt.Fprintf(p.err, "Each host's runtime needs its conflist: berth network conflist %s > /etc/cni/net.d/20-%s.conflist\n", made.Name, made.Name)
		}
		return nil
	})
}

// inTheWay tells of everything that a new network would be in the way of: other
// networks, and what this host has routes to.
func inTheWay(n *overlay.Network, state *overlay.State) error {
	var errs []error
	var devices []string
	for _, name := range slices.Sorted(maps.Keys(state.Networks)) {
		other := state.Networks[name]
		errs = append(errs, n.Conflict(&other))
		devices = append(devices, other.Device(), other.Bridge())
	}
	routes, err := link.HostRoutes(devices...)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, r := range link.Overlaps(n.Subnets, routes) {
		errs = append(errs, errors.New("subnets: "+r))
	}
	return errors.Join(errs...)
}

// inTheWayHere tells of the networks of this host that a new one would be in the way
// of.
func (p *program) inTheWayHere(ctx context.Context, n *overlay.Network) error {
	here, err := p.hostNetworks(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range here.files {
		if f.Driver() == driverOverlay {
			continue // of the store, too, or of one with another
		}
		if f.Name == n.Name {
			errs = append(errs, fmt.Errorf("name: %s: is a network of this host, too: %s", n.Name, f.Path))
		}
		for _, t := range f.Taken() {
			for _, s := range n.Subnets {
				if s.Overlaps(t.Prefix) {
					errs = append(errs, fmt.Errorf("subnets: %s: overlaps %s of %s of this host", s, t.Prefix, t.By))
				}
			}
		}
	}
	return errors.Join(errs...)
}
