package etcd

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/berth-cni/berth/pkg/overlay"
)

// tries bounds how often a transaction is made anew because its keys were written in
// between.
const tries = 8

// Claim is of [overlay.Control]. Besides [overlay.ErrTaken] it returns
// [overlay.ErrRemoved] and [*overlay.ConflictError] as Register does,
// [overlay.ErrNotRegistered] when the store has lost the node, and [overlay.ErrNotFound] for a network that does not exist. A block whose key holds
// nonsense is taken, too: the error has the [overlay.BadKey].
func (s *Store) Claim(ctx context.Context, b overlay.Block) error {
	err := b.Validate()
	for i := 0; err == nil && i < tries; i++ {
		if err = s.claimOnce(ctx, b); !errors.Is(err, errRaced) {
			break
		}
		err = sleep(ctx, pause(0)/4)
	}
	if err != nil {
		return fmt.Errorf("claim block %s of network %q for node %q: %w", b.Prefix, b.Network, b.Node, err)
	}
	return nil
}

func (s *Store) claimOnce(ctx context.Context, b overlay.Block) error {
	nodeKey, networkKey, blockKey := s.nodeKey(b.Node), s.networkKey(b.Network), s.blockKey(b.Key())
	got, err := s.txn(ctx, nil, []clientv3.Op{clientv3.OpGet(nodeKey), clientv3.OpGet(networkKey), clientv3.OpGet(blockKey)}, nil)
	if err != nil {
		return err
	}
	node, network, block := first(got, 0), first(got, 1), first(got, 2)
	if node == nil {
		return s.noNode(ctx, b)
	}
	owner, err := unmarshal(node.Value, b.Node, func(n *overlay.Node) string { return n.Name })
	if err != nil {
		return badKey(nodeKey, err)
	}
	if owner.Token != b.Token {
		return &overlay.ConflictError{Node: owner.Name, Address: owner.Address, Since: owner.Since}
	}
	if network == nil {
		return fmt.Errorf("network %q: %w", b.Network, overlay.ErrNotFound)
	}
	of, err := unmarshal(network.Value, b.Network, func(n *overlay.Network) string { return n.Name })
	if err != nil {
		return badKey(networkKey, err)
	}
	if !of.Contains(b.Prefix) {
		return fmt.Errorf("the network's blocks are of %v, lengths %v", of.Subnets, of.NodePrefix)
	}
	if block != nil {
		old, err := unmarshal[overlay.Block](block.Value, "", nil)
		if err != nil {
			return fmt.Errorf("%w: %w", overlay.ErrTaken, badKey(blockKey, err))
		}
		// One of an earlier life of the node, before it was removed, is nobody's.
		if old.Node != b.Node {
			return fmt.Errorf("%w: %q's", overlay.ErrTaken, old.Node)
		}
		if old == b {
			return nil
		}
	}
	resp, err := s.txn(ctx, []clientv3.Cmp{
		clientv3.Compare(clientv3.ModRevision(nodeKey), "=", node.ModRevision),
		clientv3.Compare(clientv3.CreateRevision(networkKey), "=", network.CreateRevision),
		unchanged(blockKey, block),
	}, []clientv3.Op{put(blockKey, b)}, nil)
	if err != nil {
		return err
	}
	if !resp.Succeeded {
		return errRaced
	}
	return nil
}

// noNode is why a claim is in vain where the store does not have the node.
func (s *Store) noNode(ctx context.Context, b overlay.Block) error {
	removed, err := s.isRemoved(ctx, overlay.Node{Name: b.Node, Token: b.Token})
	switch {
	case err != nil:
		return err
	case removed:
		return overlay.ErrRemoved
	}
	s.poke() // the registration gives back what the store has lost
	return overlay.ErrNotRegistered
}
