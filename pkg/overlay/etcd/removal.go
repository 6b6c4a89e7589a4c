package etcd

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/berth-cni/berth/pkg/overlay"
)

// removal is the write beside the delete of a key that makes it an order to the hosts.
// What nobody can use has no identity, and needs none.
func (s *Store) removal(r overlay.Removal) []clientv3.Op {
	r.At, r.By = time.Now().UTC().Truncate(time.Second), s.o.By
	if r.Validate() != nil {
		return nil
	}
	return []clientv3.Op{put(s.removedKey(r.Key()), r)}
}

// identity is the word in a value that tells it from another one of the name.
func identity(kv *mvccpb.KeyValue, word string) string {
	var v map[string]any
	if len(kv.Value) > maxValue || json.Unmarshal(kv.Value, &v) != nil {
		return ""
	}
	id, _ := v[word].(string)
	return id
}

// isRemoved tells whether there is an order to remove a node.
func (s *Store) isRemoved(ctx context.Context, n overlay.Node) (bool, error) {
	key := s.removedKey(overlay.RemovalKey{Node: n.Name, ID: n.Token})
	got, err := s.txn(ctx, nil, []clientv3.Op{clientv3.OpGet(key)}, nil)
	return err == nil && first(got, 0) != nil, err
}

// forgetRemovals keeps removals within their bounds. What goes wrong is for the next
// time.
func (s *Store) forgetRemovals(ctx context.Context) {
	var u overlay.Update
	for _, family := range []string{removedNetworks, removedNodes} {
		_, err := s.read(ctx, s.o.Prefix+family, 0, func(kv *mvccpb.KeyValue) {
			_ = decode(&u, string(kv.Key[len(s.o.Prefix):]), kv)
		})
		if err != nil {
			s.o.Log.Info("old removals are not forgotten", "error", err)
			return
		}
	}
	var ops []clientv3.Op
	for _, r := range overlay.OldRemovals(u.Removed, time.Now()) {
		ops = append(ops, clientv3.OpDelete(s.removedKey(r.Key())))
	}
	for some := range slices.Chunk(ops, maxOps) {
		if _, err := s.txn(ctx, nil, some, nil); err != nil {
			s.o.Log.Info("old removals are not forgotten", "error", err)
			return
		}
	}
}

// Restore is of [overlay.Admin]. A network comes last, after its blocks: nobody can
// claim one that is another's meanwhile.
func (s *Store) Restore(ctx context.Context, from *overlay.State, dry bool) (*overlay.Restoration, error) {
	r, err := s.restore(ctx, from, dry)
	if err != nil {
		return r, fmt.Errorf("give back to the store what it has lost: %w", err)
	}
	return r, nil
}

func (s *Store) restore(ctx context.Context, from *overlay.State, dry bool) (*overlay.Restoration, error) {
	have, err := s.State(ctx)
	if err != nil {
		return nil, err
	}
	r := overlay.NewRestoration(have, from)
	if dry {
		return r, nil
	}
	var ops []clientv3.Op
	for _, x := range r.Removed {
		if err := s.removeAgain(ctx, x); err != nil {
			return r, err
		}
	}
	for _, n := range r.Nodes {
		ops = append(ops, absent(s.nodeKey(n.Name), n))
	}
	for _, b := range r.Blocks {
		ops = append(ops, absent(s.blockKey(b.Key()), b))
	}
	for some := range slices.Chunk(ops, maxOps) {
		if _, err := s.txn(ctx, nil, some, nil); err != nil {
			return r, err
		}
	}
	for i := range r.Networks {
		if err := s.restoreNetwork(ctx, &r.Networks[i]); err != nil {
			return r, err
		}
	}
	return r, nil
}

// removeAgain carries out an order that a store has forgotten, with what it was about.
func (s *Store) removeAgain(ctx context.Context, r overlay.Removal) error {
	name, word, key := r.Network, "id", s.networkKey(r.Network)
	if r.Node != "" {
		name, word, key = r.Node, "token", s.nodeKey(r.Node)
	}
	for range tries {
		got, err := s.txn(ctx, nil, []clientv3.Op{clientv3.OpGet(key)}, nil)
		if err != nil {
			return err
		}
		kv := first(got, 0)
		ops := []clientv3.Op{put(s.removedKey(r.Key()), r)}
		there := kv != nil && identity(kv, word) == r.ID
		if there {
			ops = append(ops, clientv3.OpDelete(key))
		}
		if there && r.Node == "" {
			ops = append(ops, clientv3.OpDelete(s.blocksOf(name), clientv3.WithPrefix()))
			held, err := s.vnisOf(ctx, name)
			if err != nil {
				return err
			}
			for _, vni := range held {
				ops = append(ops, clientv3.OpDelete(string(vni.Key)))
			}
		}
		resp, err := s.txn(ctx, []clientv3.Cmp{unchanged(key, kv)}, ops, nil)
		if err == nil && resp.Succeeded && there && r.Node != "" {
			_, err = s.removeBlocks(ctx, name, resp.Header.Revision)
		}
		if err != nil || resp.Succeeded {
			return err
		}
	}
	return errRaced
}

// absent writes a key if it is not there.
func absent(key string, v any) clientv3.Op {
	return clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(key), "=", 0)}, []clientv3.Op{put(key, v)}, nil)
}

// restoreNetwork writes a network that other hosts may be writing, too.
func (s *Store) restoreNetwork(ctx context.Context, n *overlay.Network) error {
	err := errRaced
	for i := 0; i < tries && err == errRaced; i++ {
		if i > 0 {
			if err := sleep(ctx, pause(i)); err != nil {
				return err
			}
		}
		again := *n
		err = s.createOnce(ctx, &again, func(there *overlay.Network) bool { return there.Same(n) })
	}
	if err != nil {
		return fmt.Errorf("network %q: %w", n.Name, err)
	}
	return nil
}

// Miss is of [overlay.Control]. It hangs on the node's lease, as its life does.
func (s *Store) Miss(ctx context.Context, m overlay.Missed) error {
	s.mu.Lock()
	of := s.life
	s.mu.Unlock()
	if of == (life{}) || of.node != m.Node {
		return overlay.ErrNotRegistered
	}
	key := s.missedKey(m.Node)
	op := clientv3.OpDelete(key)
	if len(m.Networks) > 0 {
		op = put(key, m, clientv3.WithLease(of.lease))
	}
	alive := clientv3.Compare(clientv3.LeaseValue(s.aliveKey(of.node)), "=", of.lease)
	resp, err := s.txn(ctx, []clientv3.Cmp{alive}, []clientv3.Op{op}, nil)
	if err == nil && !resp.Succeeded {
		err = overlay.ErrNotRegistered
	}
	if err != nil {
		return fmt.Errorf("say what node %q misses: %w", m.Node, err)
	}
	return nil
}
