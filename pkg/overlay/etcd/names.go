package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/berth-cni/berth/pkg/overlay"
)

// life is what names of the registered node hang on.
type life struct {
	node  string
	lease clientv3.LeaseID
}

func (s *Store) live(l life) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.life = l
}

// namesOf is what the keys of a network's names begin with.
func (s *Store) namesOf(network string) string {
	return strings.TrimSuffix(s.o.Prefix, "/") + "-names/" + network + "/"
}

func (s *Store) nameKey(k overlay.NameKey) string {
	return s.namesOf(k.Network) + k.Node + "/" + k.Container + ":" + k.IfName
}

// parseNameKey is the inverse of nameKey, for what follows the network's name.
func parseNameKey(network, rest string) (overlay.NameKey, error) {
	node, who, ok := strings.Cut(rest, "/")
	container, ifname, both := strings.Cut(who, ":")
	if !ok || !both {
		return overlay.NameKey{}, errors.New("want a key such as blue/host1/CONTAINER:eth0")
	}
	return overlay.NameKey{Network: network, Node: node, Container: container, IfName: ifname}, nil
}

// PublishNames is of [overlay.Roster]. Names are written 100 to a transaction, under the
// lease of the node's alive key, if that is still the node's.
func (s *Store) PublishNames(ctx context.Context, put []overlay.Name, drop []overlay.NameKey) error {
	s.mu.Lock()
	of := s.life
	s.mu.Unlock()
	if of == (life{}) {
		return overlay.ErrNotRegistered
	}
	ops, err := s.nameOps(of, put, drop)
	if err != nil {
		return fmt.Errorf("publish names of node %q: %w", of.node, err)
	}
	alive := clientv3.Compare(clientv3.LeaseValue(s.aliveKey(of.node)), "=", of.lease)
	for some := range slices.Chunk(ops, maxOps) {
		resp, err := s.txn(ctx, []clientv3.Cmp{alive}, some, nil)
		switch {
		case errors.Is(err, rpctypes.ErrLeaseNotFound), err == nil && !resp.Succeeded:
			return overlay.ErrNotRegistered
		case err != nil:
			return fmt.Errorf("publish names of node %q: %w", of.node, err)
		}
	}
	return nil
}

// nameOps are the writes, each of a key of the node.
func (s *Store) nameOps(of life, names []overlay.Name, drop []overlay.NameKey) (ops []clientv3.Op, err error) {
	for _, n := range names {
		if err := n.Validate(); err != nil {
			return nil, fmt.Errorf("%s: %w", n.NameKey, err)
		}
		if n.Node != of.node {
			return nil, fmt.Errorf("%s: is another node's", n.NameKey)
		}
		ops = append(ops, put(s.nameKey(n.NameKey), n, clientv3.WithLease(of.lease)))
	}
	for _, k := range drop {
		if k.Node != of.node {
			return nil, fmt.Errorf("%s: is another node's", k)
		}
		ops = append(ops, clientv3.OpDelete(s.nameKey(k)))
	}
	return ops, nil
}

// WatchNames is of [overlay.Roster], and goes on as [Store.Watch] does.
func (s *Store) WatchNames(ctx context.Context, network string, fn func(overlay.Update)) error {
	if err := overlay.ValidName(network); err != nil {
		return fmt.Errorf("watch the names of network %q: %w", network, err)
	}
	return s.watch(ctx, scope{
		prefix: s.namesOf(network),
		decode: func(u *overlay.Update, rest string, kv *mvccpb.KeyValue) error {
			n, err := decodeName(network, rest, kv)
			if err == nil {
				u.Names = append(u.Names, n)
			}
			return err
		},
		gone: func(u *overlay.Update, rest string) {
			if k, err := parseNameKey(network, rest); err == nil {
				u.GoneNames = append(u.GoneNames, k)
			}
		},
	}, fn)
}

// decodeName returns the name that a key holds; what follows the network's name is
// rest.
func decodeName(network, rest string, kv *mvccpb.KeyValue) (n overlay.Name, err error) {
	if len(kv.Value) > maxValue {
		return n, fmt.Errorf("has %d bytes, want %d at most", len(kv.Value), maxValue)
	}
	if n.NameKey, err = parseNameKey(network, rest); err != nil {
		return n, err
	}
	if kv.Lease == 0 {
		return n, errors.New("has no lease: it would outlive its node")
	}
	if err := json.Unmarshal(kv.Value, &n); err != nil {
		return n, err
	}
	return n, n.Validate()
}
