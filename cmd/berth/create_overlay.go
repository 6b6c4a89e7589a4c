package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/network"
	"github.com/berth-cni/berth/pkg/overlay"
)

func (p *program) createOverlay(ctx context.Context, w createFlags) error {
	n, ipv6, install := w.overlay, w.spec.IPv6, w.install
	n.SetDefaults()
	check := n
	if len(check.Subnets) == 0 { // chosen once the others are known
		check.Subnets = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")}
		check.SetDefaults()
	}
	check.VNI = cmp.Or(n.VNI, overlay.FirstVNI) // 0: the store's to choose
	if n.Encrypted {
		check.ListenPort = cmp.Or(n.ListenPort, overlay.FirstListen)
	}
	if n.PodCIDRs && p.settings.store != storeKubernetes {
		return usageError{errors.New("--pod-cidrs: is for --store kubernetes")}
	}
	if err := check.Validate(); err != nil {
		return usageError{&network.RefusedError{Name: n.Name, Err: err}}
	}
	return p.withStore(func(s overlay.Store) error {
		state, err := p.state(ctx, s)
		if err != nil {
			return err
		}
		made, there := state.Networks[n.Name]
		if !there || !w.ignore {
			made, err = p.createIn(ctx, s, n, state, ipv6, install)
		}
		if err != nil {
			return err
		}
		fmt.Fprintln(p.out, made.Name)
		switch {
		case install:
			if _, err := p.networks().Install(ctx, &made); err != nil {
				return fmt.Errorf("network %s is made, but this host's runtimes do not know it: %w", made.Name, err)
			}
			p.awaitNetwork(ctx, made.Name)
		case terminal(p.err):
			fmt.Fprintf(p.err, "Each host's runtimes need its conflist: berth network install %s\n", made.Name)
		}
		return nil
	})
}

// createIn makes a network in the store, or gives it back to it.
func (p *program) createIn(ctx context.Context, s overlay.Store, n overlay.Network, state *overlay.State, ipv6, install bool) (made overlay.Network, err error) {
	if install {
		if err := p.networks().CheckInstall(&n); err != nil {
			return n, err
		}
	}
	if old, err := p.createRemembered(ctx, s, &n, state); old != nil || err != nil {
		return *cmp.Or(old, &n), err
	}
	if err := p.networks().ChooseSubnets(ctx, &n, ipv6, state); err != nil {
		return n, err
	}
	n.SetDefaults()
	if err := p.networks().CheckOverlay(ctx, &n, state); err != nil {
		return n, err
	}
	err = p.ask(ctx, func(ctx context.Context) error {
		made, err = s.CreateNetwork(ctx, n)
		return err
	})
	return made, err
}

// createHere makes a network of this host.
func (p *program) createHere(ctx context.Context, w *createFlags) error {
	s := &w.spec
	if files, _ := p.netDir().List(); w.ignore && conflist.Find(files, s.Name) != nil { // what cannot be read is not of this name
		fmt.Fprintln(p.out, s.Name)
		return nil
	}
	err := p.networks().Create(ctx, s, p.settings.pools)
	var refused *network.RefusedError
	switch {
	case errors.As(err, &refused) && !errors.Is(err, conflist.ErrInTheWay):
		return usageError{err}
	case err != nil:
		return err
	}
	fmt.Fprintln(p.out, s.Name)
	return nil
}
