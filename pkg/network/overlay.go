package network

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
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

// ChooseSubnets gives a network that spans hosts the subnets that nobody has said: a /16 of
// 10.0.0.0/8, as Docker's overlays are, if there is none at all, and with ipv6 a random /48
// of fd00::/8 (RFC 4193, section 3.2), if there is none of IPv6. They overlap nothing in the
// store and on this host; the other hosts say so if they are in the way there.
func (h *Host) ChooseSubnets(ctx context.Context, n *overlay.Network, ipv6 bool, state *overlay.State) error {
	here, err := h.Local(ctx)
	if err != nil {
		return err
	}
	here.Overlay = state
	known, err := h.known(here, nil)
	if err != nil {
		return err
	}
	for _, often := range oftenTaken {
		known.Taken = append(known.Taken, conflist.Taken{Prefix: often})
	}
	add := func(v6 bool, pools ...conflist.Pool) error {
		p, ok := conflist.Free(pools, v6, known.Taken)
		if !ok {
			return &RefusedError{n.Name, errors.New("subnets: all of 10.0.0.0/8 is taken: want --subnet")}
		}
		n.Subnets = append(n.Subnets, p)
		return nil
	}
	if len(n.Subnets) == 0 {
		if err := add(false, tens(n.Name)...); err != nil {
			return err
		}
	}
	if ipv6 && !slices.ContainsFunc(n.Subnets, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		a := [16]byte{0xfd}
		_, _ = rand.Read(a[1:6]) // it never fails
		random := netip.PrefixFrom(netip.AddrFrom16(a), 48)
		return add(true, conflist.Pool{Base: random, Size: random.Bits()})
	}
	return nil
}

// oftenTaken is what others have by default, mostly without a route on the host: podman
// (10.88.0.0/16), k3s (10.42.0.0/15), Kubernetes' services (10.96.0.0/12), and pods of kubeadm
// and flannel (10.244.0.0/16).
var oftenTaken = []netip.Prefix{netip.MustParsePrefix("10.88.0.0/16"), netip.MustParsePrefix("10.42.0.0/15"),
	netip.MustParsePrefix("10.96.0.0/12"), netip.MustParsePrefix("10.244.0.0/16")}

// tens are the /16 of 10.0.0.0/8, from one on that follows from the name: the first are
// those that clouds and offices have.
func tens(name string) (all []conflist.Pool) {
	first := attach.Digest([]byte(name))[0]
	for i := range 256 {
		all = append(all, conflist.Pool{Base: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, first + byte(i)}), 16), Size: 16})
	}
	return all
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
