package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/overlay"
)

// createHere makes a network of this host: its conflist.
func (p *program) createHere(ctx context.Context, s *conflist.Spec) error {
	unlock, err := p.netDir().Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	n, err := p.networks(ctx)
	if err != nil {
		return err
	}
	known, err := p.ground(n)
	if err != nil {
		return err
	}
	made, err := s.Plan(known)
	if err != nil {
		err = fmt.Errorf("network %s is refused:\n%w", s.Name, err)
		if !errors.Is(err, conflist.ErrInTheWay) {
			err = usageError{err}
		}
		return err
	}
	data, err := made.JSON()
	if err != nil {
		return err
	}
	if err := p.netDir().Write(s.Name, data); err != nil {
		return err
	}
	fmt.Fprintln(p.out, s.Name)
	return nil
}

// ground is what a new network has to live with.
func (p *program) ground(n *networks) (*conflist.Known, error) {
	k := &conflist.Known{Links: map[string]string{}, Pools: p.settings.pools, Random: rand.Reader, Now: p.now(),
		Exists: func(name string) (bool, bool, error) {
			there, err := link.Exists(name)
			return there, there && link.IsBridge(name), err
		}}
	for _, f := range n.files {
		k.Networks = append(k.Networks, f.Name)
		k.Taken = append(k.Taken, f.Taken()...)
		if l := f.Link(); l != "" && f.Driver() == driverBridge {
			k.Links[l] = f.Name
		}
	}
	for _, a := range n.records {
		if !slices.Contains(k.Networks, a.Network) {
			k.Networks = append(k.Networks, a.Network) // whose conflist is gone
		}
	}
	for _, o := range n.known {
		if conflist.Find(n.files, o.Name) == nil && len(n.on(o.Name)) == 0 {
			continue // somebody has taken it away; what the host still routes is among its routes
		}
		k.Taken = append(k.Taken, knownTaken(o)...)
	}
	p.overlayTaken(n, k)
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
func (p *program) overlayTaken(n *networks, k *conflist.Known) {
	dir := p.settings.dataDir
	if dir == "" {
		dir = overlay.DataDir()
	}
	all := map[string]overlay.Network{}
	locals, err := overlay.ListLocal(dir)
	if err != nil {
		p.warn(err)
	}
	for _, l := range locals {
		all[l.Network.Name] = l.Network
	}
	if n.state != nil {
		for name, o := range n.state.Networks {
			all[name] = o
		}
	}
	for name, o := range all {
		k.Networks = append(k.Networks, name)
		for _, s := range o.Subnets {
			k.Taken = append(k.Taken, conflist.Taken{Prefix: s, By: "network " + name, Link: o.Bridge(), Driver: driverOverlay})
		}
	}
}
