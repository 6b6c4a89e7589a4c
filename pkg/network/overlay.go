package network

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/overlay"
)

// CheckOverlay refuses a network that spans hosts if it would be in the way of another
// network, of this host or of the store, or of what this host has routes to.
func (h *Host) CheckOverlay(ctx context.Context, n *overlay.Network, state *overlay.State) error {
	if err := errors.Join(inTheWay(n, state), h.inTheWayHere(ctx, n)); err != nil {
		return &RefusedError{n.Name, err}
	}
	return nil
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
func (h *Host) inTheWayHere(ctx context.Context, n *overlay.Network) error {
	here, err := h.Local(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range here.Files {
		if f.Driver() == conflist.Overlay {
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
