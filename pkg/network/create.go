package network

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/link/ipvlan"
	"github.com/berth-cni/berth/pkg/overlay"
)

// RefusedError says that a network cannot be made as it is asked for.
type RefusedError struct {
	Name string
	Err  error
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("network %s is refused:\n%v", e.Name, e.Err)
}

func (e *RefusedError) Unwrap() error { return e.Err }

// Create makes a network of this host: its conflist. One without a subnet gets one from
// the pools. It is a [*RefusedError] when the network cannot be as it is asked for.
func (h *Host) Create(ctx context.Context, s *conflist.Spec, pools []conflist.Pool) error {
	unlock, err := h.Dir.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	n, err := h.All(ctx)
	if err != nil {
		return err
	}
	known, err := h.known(n, pools)
	if err != nil {
		return err
	}
	if s.Driver == conflist.IPVlan {
		known.NoIPVlan = ipvlan.Supported()
	}
	made, err := s.Plan(known)
	if err != nil {
		return &RefusedError{s.Name, err}
	}
	if s.Driver == conflist.Bridge && known.NoSpoofCheck != nil {
		h.Warn(fmt.Errorf("network %s: containers can send from addresses that are not theirs: %w", s.Name, known.NoSpoofCheck))
	}
	data, err := made.JSON()
	if err != nil {
		return err
	}
	return h.Dir.Write(s.Name, data)
}

// known is what a new network has to live with.
func (h *Host) known(n *Networks, pools []conflist.Pool) (*conflist.Known, error) {
	k := &conflist.Known{Links: map[string]string{}, Pools: pools, Random: rand.Reader, Now: h.Now(), NoSpoofCheck: firewall.SpoofStatus(),
		Exists: func(name string) (bool, bool, error) {
			there, err := link.Exists(name)
			return there, there && link.IsBridge(name), err
		}}
	for _, f := range n.Files {
		k.Networks = append(k.Networks, f.Name)
		k.Taken = append(k.Taken, f.Taken()...)
		if l := f.Link(); l != "" && f.Driver() == conflist.Bridge {
			k.Links[l] = f.Name
		}
	}
	for _, a := range n.Records {
		if !slices.Contains(k.Networks, a.Network) {
			k.Networks = append(k.Networks, a.Network) // whose conflist is gone
		}
	}
	for _, o := range n.Known {
		if conflist.Find(n.Files, o.Name) == nil && len(n.On(o.Name)) == 0 {
			continue // somebody has taken it away; what the host still routes is among its routes
		}
		k.Taken = append(k.Taken, knownTaken(o)...)
	}
	h.overlayTaken(n, k)
	routes, err := link.HostRoutes()
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		by := "this host"
		if r.Device != "" {
			by = "this host, through " + r.Device
		}
		k.Taken = append(k.Taken, conflist.Taken{Prefix: r.Dst, By: by, Link: r.Device})
	}
	return k, nil
}

// knownTaken are the subnets that the host remembers of a network: its conflist may be
// gone, or say something else by now.
func knownTaken(o attach.Network) []conflist.Taken {
	var all []conflist.Taken
	for _, s := range o.Subnets {
		all = append(all, conflist.Taken{Prefix: s, By: "network " + o.Name, Link: o.Link, Driver: o.Plugin})
	}
	return all
}

// overlayTaken adds the overlay networks: those of the store, and those that this host
// remembers.
func (h *Host) overlayTaken(n *Networks, k *conflist.Known) {
	all := map[string]overlay.Network{}
	locals, err := overlay.ListLocal(h.DataDir)
	if err != nil {
		h.Warn(err)
	}
	for _, l := range locals {
		all[l.Network.Name] = l.Network
	}
	if n.Overlay != nil {
		for name, o := range n.Overlay.Networks {
			all[name] = o
		}
	}
	for name, o := range all {
		k.Networks = append(k.Networks, name)
		for _, s := range o.Subnets {
			k.Taken = append(k.Taken, conflist.Taken{Prefix: s, By: "network " + name, Link: o.Bridge(), Driver: conflist.Overlay})
		}
	}
}
