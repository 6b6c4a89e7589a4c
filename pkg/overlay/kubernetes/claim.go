package kubernetes

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
)

// Claim is of [overlay.Control]. Besides [overlay.ErrTaken] it returns
// [overlay.ErrRemoved] and [*overlay.ConflictError] as Register does,
// [overlay.ErrNotRegistered] when the server has lost the node, and [overlay.ErrNotFound]
// for a network that does not exist.
//
// The API has no transactions over several objects. To create the block's object is to have
// it; that the node and the network are there is looked at behind it: a block that came
// after their removal is taken back by who claimed it.
func (s *Store) Claim(ctx context.Context, b overlay.Block) error {
	err := b.Validate()
	if err == nil {
		ctx, cancel := s.bound(ctx)
		defer cancel()
		err = again(ctx, func() error { return s.claim(ctx, b) })
	}
	if err != nil {
		return fmt.Errorf("claim block %s of network %q for node %q: %w", b.Prefix, b.Network, b.Node, err)
	}
	return nil
}

func (s *Store) claim(ctx context.Context, b overlay.Block) error {
	if done, err := s.reclaim(ctx, b); done || err != nil {
		return err
	}
	node, err := s.owner(ctx, b)
	if err != nil {
		return err
	}
	o := s.blockObject(b, node)
	path := s.blocks.Path(o.Metadata.Name)
	err = s.c.Create(ctx, s.blocks.Path(), o, &o)
	if client.IsExists(err) {
		if _, err := s.mayClaim(ctx, b); err != nil {
			return err
		}
		return s.renew(ctx, o)
	}
	if err != nil {
		return err
	}
	now, err := s.mayClaim(ctx, b)
	if err == nil && now.Metadata.UID != node.Metadata.UID {
		err = errRaced
	}
	if err == nil {
		s.claimed(&o)
		return nil
	}
	if undo := s.c.Delete(context.WithoutCancel(ctx), path, o.Metadata.UID, ""); undo != nil && !client.IsNotFound(undo) && !client.IsConflict(undo) {
		return fmt.Errorf("%w; give the block back: %w", err, undo)
	}
	return err
}

// owner is the node that claims: the one that is registered, whose claim is looked at behind
// it alone, or another one.
func (s *Store) owner(ctx context.Context, b overlay.Block) (*nodeObject, error) {
	if r := s.registered(); r != nil && r.node.Name == b.Node && r.node.Token == b.Token {
		return r.owner(), nil
	}
	return s.mayClaim(ctx, b)
}

// claimed notes a block as it was last written.
func (s *Store) claimed(o *blockObject) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.claims[o.Metadata.Name] = *o
}

// reclaim writes what is new of a block that was claimed before, if nobody else has written
// it since.
func (s *Store) reclaim(ctx context.Context, b overlay.Block) (done bool, err error) {
	s.mu.Lock()
	o, ok := s.claims[blockName(b.Prefix)]
	delete(s.claims, o.Metadata.Name)
	s.mu.Unlock()
	want := s.blockObject(b, nil)
	if !ok || o.Spec != want.Spec || o.Status == want.Status {
		return false, nil
	}
	o.Status, o.Metadata.Managed = want.Status, client.Unmanaged
	err = s.c.Replace(ctx, s.blocks.Path(o.Metadata.Name), o, &o)
	if client.IsConflict(err) || client.IsNotFound(err) {
		return false, nil
	}
	if err == nil {
		s.claimed(&o)
	}
	return err == nil, err
}

// mayClaim is the node that claims; an error where it, or the network, is not there.
func (s *Store) mayClaim(ctx context.Context, b overlay.Block) (*nodeObject, error) {
	network := make(chan error, 1)
	go func() { network <- s.claimable(ctx, b) }()
	node, err := s.claimant(ctx, b)
	if of := <-network; err == nil {
		err = of
	}
	return node, err
}

// renew has a block that is there say what it shall, if it is the node's own.
func (s *Store) renew(ctx context.Context, o blockObject) error {
	path := s.blocks.Path(o.Metadata.Name)
	var there blockObject
	err := s.c.Get(ctx, path, &there)
	switch {
	case client.IsNotFound(err):
		return errRaced
	case err != nil:
		return err
	case there.Metadata.Deleted != nil || there.Spec.Node != o.Spec.Node || there.Spec.Network != o.Spec.Network:
		return fmt.Errorf("%w: %q's, of network %q", overlay.ErrTaken, clip(there.Spec.Node), clip(there.Spec.Network))
	case there.Spec == o.Spec && there.Status == o.Status:
		s.claimed(&there)
		return nil
	}
	// One of an earlier life of the node, before it was removed, is nobody's.
	o.Metadata.UID, o.Metadata.Version = there.Metadata.UID, there.Metadata.Version
	o.Metadata.Managed = client.Unmanaged
	if err := s.c.Replace(ctx, path, o, &o); err != nil {
		return raced(err)
	}
	s.claimed(&o)
	return nil
}

// claimant is the node that claims.
func (s *Store) claimant(ctx context.Context, b overlay.Block) (*nodeObject, error) {
	var o nodeObject
	err := s.c.Get(ctx, s.nodes.Path(b.Node), &o)
	switch {
	case client.IsNotFound(err):
		switch removed, err := s.isRemoved(ctx, b.Node, b.Token); {
		case err != nil:
			return nil, err
		case removed:
			return nil, overlay.ErrRemoved
		}
		s.poke() // the registration gives back what the server has lost
		return nil, overlay.ErrNotRegistered
	case err != nil:
		return nil, err
	case o.Spec.Token != b.Token:
		return nil, &overlay.ConflictError{Node: b.Node, Address: o.Spec.Address, Since: when(o.Status.Since)}
	}
	return &o, nil
}

// claimable tells why a block is none of its network's.
func (s *Store) claimable(ctx context.Context, b overlay.Block) error {
	if validName(b.Network) != nil {
		return fmt.Errorf("network %q: %w", b.Network, overlay.ErrNotFound)
	}
	var o networkObject
	err := s.c.Get(ctx, s.networks.Path(b.Network), &o)
	switch {
	case client.IsNotFound(err):
		return fmt.Errorf("network %q: %w", b.Network, overlay.ErrNotFound)
	case err != nil:
		return err
	}
	n, err := o.network()
	if err != nil {
		return badKey(s.networks.Plural+"/"+b.Network, err)
	}
	if !n.Contains(b.Prefix) {
		return fmt.Errorf("the network's blocks are of %v, lengths %v", n.Subnets, n.NodePrefix)
	}
	return nil
}

// Given is what Kubernetes gives a node for the containers of it: its Node's spec.podCIDRs;
// none until somebody does, as kube-controller-manager with --allocate-node-cidrs.
func (s *Store) Given(ctx context.Context, node string) ([]netip.Prefix, error) {
	var o struct {
		Spec struct {
			PodCIDRs []netip.Prefix `json:"podCIDRs"`
		} `json:"spec"`
	}
	if err := s.c.Get(ctx, client.Nodes.Path(node), &o); err != nil {
		return nil, fmt.Errorf("read what the cluster gives node %q: %w", node, err)
	}
	return o.Spec.PodCIDRs, nil
}
