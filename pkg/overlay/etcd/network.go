package etcd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// CreateNetwork is of [overlay.Admin]. The defaults are filled in, and the VNI is the
// lowest free one from [overlay.FirstVNI] unless it is given; so is the port of an
// encrypted network, from [overlay.FirstListen].
func (s *Store) CreateNetwork(ctx context.Context, n overlay.Network) (overlay.Network, error) {
	n.SetDefaults()
	if n.ID == "" {
		n.ID = rand.Text()
	}
	if n.Created.IsZero() {
		n.Created = time.Now().UTC().Truncate(time.Second)
	}
	made, err := n, errRaced
	for i := 0; i < tries && errors.Is(err, errRaced); i++ {
		if i > 0 {
			if err := sleep(ctx, pause(i)); err != nil {
				return n, err
			}
		}
		made = n
		err = s.createOnce(ctx, &made, func(*overlay.Network) bool { return false })
	}
	if err != nil {
		return n, fmt.Errorf("create network %q: %w", n.Name, err)
	}
	return made, nil
}

// createOnce decides from what the store holds, and writes only if no network and no
// VNI has been written since. It has nothing to do if one that is there is it.
func (s *Store) createOnce(ctx context.Context, n *overlay.Network, is func(there *overlay.Network) bool) error {
	var u overlay.Update
	at, err := s.read(ctx, s.o.Prefix+networks, 0, func(kv *mvccpb.KeyValue) {
		// One that nobody can use is in nobody's way, but for its name.
		_ = decode(&u, string(kv.Key[len(s.o.Prefix):]), kv)
	})
	if err != nil {
		return err
	}
	taken := map[int]bool{}
	_, err = s.read(ctx, s.o.Prefix+vnis, at.revision, func(kv *mvccpb.KeyValue) {
		if vni, err := strconv.Atoi(string(kv.Key[len(s.o.Prefix+vnis):])); err == nil {
			taken[vni] = true
		}
	})
	if err != nil {
		return err
	}
	n.Choose(u.Networks, taken)
	if err := n.Validate(); err != nil {
		return err
	}
	for _, o := range u.Networks {
		if is(&o) {
			return nil
		}
		if err := n.Conflict(&o); err != nil {
			return err
		}
	}
	if taken[n.VNI] {
		return fmt.Errorf("vni: %d: key %s exists", n.VNI, s.vniKey(n.VNI))
	}
	return s.putNetwork(ctx, n, at.revision)
}

func (s *Store) putNetwork(ctx context.Context, n *overlay.Network, revision int64) error {
	key := s.networkKey(n.Name)
	resp, err := s.txn(ctx, []clientv3.Cmp{
		olderThan(s.o.Prefix+networks, revision+1),
		olderThan(s.o.Prefix+vnis, revision+1),
		clientv3.Compare(clientv3.CreateRevision(key), "=", 0),
	}, []clientv3.Op{
		put(key, n),
		clientv3.OpPut(s.vniKey(n.VNI), n.Name),
	}, []clientv3.Op{clientv3.OpGet(key)})
	if err != nil {
		return err
	}
	if resp.Succeeded {
		return nil
	}
	if kv := first(resp, 0); kv != nil && kv.ModRevision <= revision {
		return fmt.Errorf("key %s exists, and nobody can use what it holds: 'berth network rm --force %s' removes it", key, n.Name)
	}
	return errRaced
}

// olderThan holds when all keys that begin with the prefix were last written before
// a revision. It costs the number of keys.
func olderThan(prefix string, revision int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(prefix).WithPrefix(), "<", revision)
}

// RemoveNetwork is of [overlay.Admin]. It uses range deletes: there may be more
// blocks than the 128 keys that etcd takes in a transaction.
func (s *Store) RemoveNetwork(ctx context.Context, name string, force bool) error {
	err := overlay.ValidName(name)
	if err == nil {
		err = errRaced
	}
	for i := 0; i < tries && errors.Is(err, errRaced); i++ {
		if i > 0 {
			if err := sleep(ctx, pause(i)); err != nil {
				return err
			}
		}
		err = s.removeNetworkOnce(ctx, name, force)
	}
	var used *overlay.InUseError
	if err != nil && !errors.As(err, &used) {
		return fmt.Errorf("remove network %q: %w", name, err)
	}
	if err == nil {
		s.forgetRemovals(ctx)
	}
	return err
}

func (s *Store) removeNetworkOnce(ctx context.Context, name string, force bool) error {
	key, blocks := s.networkKey(name), s.blocksOf(name)
	got, err := s.txn(ctx, nil, []clientv3.Op{clientv3.OpGet(key)}, nil)
	if err != nil {
		return err
	}
	kv := first(got, 0)
	if kv == nil {
		return overlay.ErrNotFound
	}
	cmps := []clientv3.Cmp{unchanged(key, kv)}
	ops := []clientv3.Op{clientv3.OpDelete(key), clientv3.OpDelete(blocks, clientv3.WithPrefix())}
	ops = append(ops, s.removal(overlay.Removal{Network: name, ID: identity(kv, "id"), Forced: force})...)
	if !force {
		var u overlay.Update
		at, err := s.read(ctx, blocks, 0, func(kv *mvccpb.KeyValue) {
			_ = decode(&u, string(kv.Key[len(s.o.Prefix):]), kv)
		})
		if err != nil {
			return err
		}
		by := map[string]bool{}
		for _, b := range u.Blocks {
			if b.Used {
				by[b.Node] = true
			}
		}
		if len(by) > 0 {
			return &overlay.InUseError{What: fmt.Sprintf("network %q", name), By: slices.Sorted(maps.Keys(by))}
		}
		cmps = append(cmps, olderThan(blocks, at.revision+1))
	}
	held, err := s.vnisOf(ctx, name)
	if err != nil {
		return err
	}
	for _, vni := range held {
		cmps = append(cmps, unchanged(string(vni.Key), vni))
		ops = append(ops, clientv3.OpDelete(string(vni.Key)))
	}
	resp, err := s.txn(ctx, cmps, ops, nil)
	if err != nil {
		return err
	}
	if !resp.Succeeded {
		return errRaced
	}
	return nil
}

// vnisOf returns the VNI keys that say the network's name: one, unless somebody wrote
// by hand.
func (s *Store) vnisOf(ctx context.Context, name string) ([]*mvccpb.KeyValue, error) {
	var held []*mvccpb.KeyValue
	_, err := s.read(ctx, s.o.Prefix+vnis, 0, func(kv *mvccpb.KeyValue) {
		if string(kv.Value) == name && len(held) < maxOps {
			held = append(held, kv)
		}
	})
	return held, err
}
