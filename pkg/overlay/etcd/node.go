package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/berth-cni/berth/pkg/overlay"
)

// maxOps is how many keys one transaction of ours writes; etcd's limit is 128.
const maxOps = 100

// RemoveNode is of [overlay.Admin]. The name goes first, so that the node can claim
// nothing any more, then its blocks. When that is interrupted, calling it again ends
// it; it also removes the blocks of a node that is gone otherwise.
func (s *Store) RemoveNode(ctx context.Context, name string, force bool) error {
	err := overlay.ValidName(name)
	if err == nil {
		err = s.removeNode(ctx, name, force)
	}
	var used *overlay.InUseError
	if err != nil && !errors.As(err, &used) {
		return fmt.Errorf("remove node %q: %w", name, err)
	}
	return err
}

func (s *Store) removeNode(ctx context.Context, name string, force bool) error {
	at, nameErr := s.removeName(ctx, name, force)
	if nameErr != nil && !errors.Is(nameErr, overlay.ErrNotFound) {
		return nameErr
	}
	removed, err := s.removeBlocks(ctx, name, at)
	if err != nil {
		return err
	}
	if nameErr == nil {
		s.forgetRemovals(ctx)
	}
	if removed > 0 {
		return nil
	}
	return nameErr
}

// removeName removes the node's key and ends its life. It returns a revision at
// which the name is nobody's, also with [overlay.ErrNotFound].
func (s *Store) removeName(ctx context.Context, name string, force bool) (int64, error) {
	nodeKey, aliveKey := s.nodeKey(name), s.aliveKey(name)
	for i := range tries {
		if i > 0 {
			if err := sleep(ctx, pause(i)); err != nil {
				return 0, err
			}
		}
		got, err := s.txn(ctx, nil, []clientv3.Op{clientv3.OpGet(nodeKey), clientv3.OpGet(aliveKey)}, nil)
		if err != nil {
			return 0, err
		}
		node, life := first(got, 0), first(got, 1)
		if node == nil {
			return got.Header.Revision, overlay.ErrNotFound
		}
		if life.GetLease() != 0 && !force {
			return 0, &overlay.InUseError{What: fmt.Sprintf("node %q", name), By: []string{name}}
		}
		resp, err := s.txn(ctx, []clientv3.Cmp{unchanged(nodeKey, node), unchanged(aliveKey, life)},
			append(s.removal(overlay.Removal{Node: name, ID: identity(node, "token"), Forced: force}), clientv3.OpDelete(nodeKey), clientv3.OpDelete(aliveKey), clientv3.OpDelete(s.leftKey(name))), nil)
		if err != nil {
			return 0, err
		}
		if resp.Succeeded {
			s.end(ctx, name, life)
			return resp.Header.Revision, nil
		}
	}
	return 0, errRaced
}

// end revokes the lease of a node's life, so that its agent learns of it at once. It
// would learn of it all the same, within [overlay.SeenEvery].
func (s *Store) end(ctx context.Context, name string, life *mvccpb.KeyValue) {
	_, err := unmarshal(life.GetValue(), name, func(a *overlay.Alive) string { return a.Node })
	if err != nil {
		return // not ours: other keys may hang on the lease
	}
	if err := s.revoke(ctx, clientv3.LeaseID(life.Lease)); err != nil {
		s.o.Log.Warn("the lease of a removed node runs out by itself", "node", name, "error", err)
	}
}

// removeBlocks removes the blocks that say the node's name at a revision at which the
// name is nobody's, and returns how many they were. What has been claimed since, by
// a new node of the name, stays.
func (s *Store) removeBlocks(ctx context.Context, name string, at int64) (int, error) {
	var dead []*mvccpb.KeyValue
	_, err := s.read(ctx, s.o.Prefix+blocks, at, func(kv *mvccpb.KeyValue) {
		var b struct{ Node string }
		if len(kv.Value) <= maxValue && json.Unmarshal(kv.Value, &b) == nil && b.Node == name {
			dead = append(dead, kv)
		}
	})
	if err != nil {
		return 0, err
	}
	for i := 0; i < len(dead); i += maxOps {
		var ops []clientv3.Op
		for _, kv := range dead[i:min(i+maxOps, len(dead))] {
			key := string(kv.Key)
			// Each for itself: one that has changed since does not keep the others.
			ops = append(ops, clientv3.OpTxn([]clientv3.Cmp{unchanged(key, kv)}, []clientv3.Op{clientv3.OpDelete(key)}, nil))
		}
		if _, err := s.txn(ctx, nil, ops, nil); err != nil {
			return 0, err
		}
	}
	return len(dead), nil
}

// revoke ends a lease and the keys that hang on it. It is no error when it is gone.
func (s *Store) revoke(ctx context.Context, lease clientv3.LeaseID) error {
	if lease == clientv3.NoLease {
		return nil
	}
	ctx, cancel := s.bound(ctx, s.o.RequestTimeout)
	defer cancel()
	client, err := s.connect(ctx)
	if err != nil {
		return err
	}
	_, err = client.Revoke(ctx, lease)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return nil
	}
	return err
}
