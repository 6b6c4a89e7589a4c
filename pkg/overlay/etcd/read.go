package etcd

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/berth-cni/berth/pkg/overlay"
)

// pageSize is the number of keys of one answer: some 300 KB, far from what makes
// a member stumble.
const pageSize = 1000

// read calls fn with each key that begins with from, as of one revision, and
// returns where that was. With at 0 it is the newest revision: the first page is
// linearizable, since a member that lags behind must not take a host back to what
// was before, or hide its own claim from it. The other pages name the revision, so
// that any member's answer is the same, and do without a round to the leader.
func (s *Store) read(ctx context.Context, from string, at int64, fn func(*mvccpb.KeyValue)) (place, error) {
	var p place
	next, end := from, clientv3.GetPrefixRangeEnd(from)
	for {
		opts := []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithLimit(pageSize)}
		if at != 0 {
			opts = append(opts, clientv3.WithRev(at))
		}
		resp, err := s.page(ctx, next, opts, at != 0)
		if err != nil {
			if from != s.o.Prefix { // the caller reads a part
				err = fmt.Errorf("read %s: %w", from, err)
			}
			return p, err
		}
		if at == 0 {
			at = resp.Header.Revision
		}
		p = place{resp.Header.ClusterId, at}
		for _, kv := range resp.Kvs {
			fn(kv)
		}
		if !resp.More || len(resp.Kvs) == 0 {
			return p, nil
		}
		next = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// place is a revision of a store. Another cluster that has taken over the addresses
// counts anew.
type place struct {
	cluster  uint64
	revision int64
}

func (s *Store) page(ctx context.Context, from string, opts []clientv3.OpOption, anyMember bool) (*clientv3.GetResponse, error) {
	ctx, cancel := s.bound(ctx, s.o.RequestTimeout)
	defer cancel()
	client, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	if anyMember {
		resp, err := client.Get(ctx, from, append(opts, clientv3.WithSerializable())...)
		if !errors.Is(err, rpctypes.ErrFutureRev) { // which a member says that lags behind
			return resp, sentence(err)
		}
	}
	resp, err := client.Get(ctx, from, opts...)
	return resp, sentence(err)
}

// newest returns the store's revision, which a majority of the members agrees on.
func (s *Store) newest(ctx context.Context) (int64, error) {
	resp, err := s.page(ctx, s.o.Prefix, nil, false)
	if err != nil {
		return 0, fmt.Errorf("read the revision: %w", err)
	}
	return resp.Header.Revision, nil
}

// scope is what a watch follows: the keys that begin with a prefix, and what they say.
type scope struct {
	prefix string
	// decode puts what a key holds, without the prefix, into the update. The error says
	// why nobody can use it. gone does so when it holds it no more.
	decode func(u *overlay.Update, key string, kv *mvccpb.KeyValue) error
	gone   func(u *overlay.Update, key string)
	// incarnate says that the store gets an incarnation if it has none.
	incarnate bool
}

// readAll returns all that there is, as a full update.
func (s *Store) readAll(ctx context.Context, of scope) (overlay.Update, place, mark, error) {
	u, m := overlay.Update{Full: true}, mark{}
	p, err := s.read(ctx, of.prefix, 0, func(kv *mvccpb.KeyValue) {
		if err := of.decode(&u, string(kv.Key[len(of.prefix):]), kv); err != nil {
			u.Bad = append(u.Bad, badKey(string(kv.Key), err))
		}
		m.note(kv)
	})
	u.History.Cluster, u.History.Revision = p.cluster, p.revision
	return u, p, m, err
}

// overlay is everything but the names.
func (s *Store) overlay() scope {
	return scope{s.o.Prefix, decode, gone, true}
}

// State reads everything, once.
func (s *Store) State(ctx context.Context) (*overlay.State, error) {
	u, _, _, err := s.readAll(ctx, s.overlay())
	if err != nil {
		return nil, err
	}
	state := overlay.NewState()
	state.Apply(u)
	return state, nil
}
