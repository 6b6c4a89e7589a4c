package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/berth-cni/berth/pkg/network"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/replica"
)

// createRemembered gives a network that the store has lost back to it, where this host
// remembers it and the same is asked for: another one would be in its way, here and on
// all hosts with containers on it. It returns nil for a network that is none of these.
func (p *program) createRemembered(ctx context.Context, s overlay.Store, n *overlay.Network, state *overlay.State) (*overlay.Network, error) {
	from, _ := replica.Remembered(cmp.Or(p.settings.dataDir, overlay.DataDir()))
	if from == nil {
		return nil, nil // which the agent tells of
	}
	old, known := from.Networks[n.Name]
	_, there := state.Networks[n.Name]
	_, removed := state.NetworkRemoved(old.ID)
	_, removedHere := from.NetworkRemoved(old.ID)
	if !known || there || removed || removedHere {
		return nil, nil
	}
	if !asks(n, &old) {
		return nil, &network.RefusedError{Name: n.Name, Err: fmt.Errorf("name: %s: this host remembers another network of that name, which the store has lost: "+
			"'berth network restore %[1]s' gives it back, 'berth network rm %[1]s' ends it", n.Name)}
	}
	only, err := from.Only([]string{n.Name})
	if err != nil {
		return nil, err
	}
	err = p.ask(ctx, func(ctx context.Context) error {
		r, err := s.Restore(ctx, only, false)
		if err == nil {
			err = errors.Join(r.Refused...)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return &old, nil
}

// asks tells whether a network that is asked for is one that there was.
func asks(n, old *overlay.Network) bool {
	return (len(n.Subnets) == 0 || slices.Equal(n.Subnets, old.Subnets) && slices.Equal(n.NodePrefix, old.NodePrefix)) && (n.VNI == 0 || n.VNI == old.VNI) &&
		n.Encrypted == old.Encrypted && (n.UDPPort() == 0 || n.UDPPort() == old.UDPPort()) && n.MTU == old.MTU && n.Internal == old.Internal && n.Isolate == old.Isolate && n.NoICC == old.NoICC && n.Names == old.Names && n.PodCIDRs == old.PodCIDRs &&
		n.Sticky == old.Sticky
}
