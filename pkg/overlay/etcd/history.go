package etcd

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/berth-cni/berth/pkg/overlay"
)

// mark is the last write that a watch has been told of. That the store has it, in the
// same place of its history, is the proof that all before it is as it was told: one
// that was put back from a copy, and has gone on from there, has the same cluster ID
// and a higher revision, and another write at this one. Looking costs one key.
type mark struct{ kv *mvccpb.KeyValue }

// note takes a write for the mark if it is a later one.
func (m *mark) note(kv *mvccpb.KeyValue) {
	if m.kv == nil || kv.ModRevision > m.kv.ModRevision {
		m.kv = kv
	}
}

// errBroken: the store's history is not the one that was told. It comes with
// [errMissed].
var errBroken = errors.New("the store's history is another one")

// errCompacted: nobody can tell any more. It comes with [errMissed].
var errCompacted = errors.New("the history was compacted")

// prove returns nil when the store's history has the mark.
func (s *Store) prove(ctx context.Context, m mark) error {
	if m.kv == nil {
		return nil
	}
	key, at := string(m.kv.Key), m.kv.ModRevision
	resp, err := s.page(ctx, key, []clientv3.OpOption{clientv3.WithRev(at)}, true)
	switch {
	case errors.Is(err, rpctypes.ErrCompacted):
		return fmt.Errorf("%w: %w: revision %d", errMissed, errCompacted, at)
	case errors.Is(err, rpctypes.ErrFutureRev):
		return fmt.Errorf("%w: %w: it has no revision %d any more", errMissed, errBroken, at)
	case err != nil:
		return fmt.Errorf("look whether the history is the same: %w", err)
	}
	if len(resp.Kvs) == 1 {
		kv := resp.Kvs[0]
		if kv.ModRevision == at && kv.CreateRevision == m.kv.CreateRevision && kv.Version == m.kv.Version && kv.Lease == m.kv.Lease && bytes.Equal(kv.Value, m.kv.Value) {
			return nil
		}
	}
	return fmt.Errorf("%w: %w: at revision %d it has another write than it had", errMissed, errBroken, at)
}

// incarnate gives a store that has none its incarnation, and an update what it is.
func (s *Store) incarnate(ctx context.Context, u *overlay.Update) error {
	if u.History.Incarnation != "" {
		return nil
	}
	key, word := s.incarnationKey(), rand.Text()
	resp, err := s.txn(ctx, []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(key), "=", 0)},
		[]clientv3.Op{clientv3.OpPut(key, word)}, []clientv3.Op{clientv3.OpGet(key)})
	if err != nil {
		return fmt.Errorf("give the store its incarnation: %w", err)
	}
	if !resp.Succeeded {
		word = string(first(resp, 0).Value)
	}
	u.History.Incarnation = word
	return nil
}
