package etcd

import (
	"context"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/berth-cni/berth/pkg/overlay"
)

// witness has it written down when nodes were last alive, since nobody can say that of
// himself: by the first of the nodes that see it. They wait by chance, each for a part
// of this, and most of them read of it meanwhile.
const witness = 2 * time.Second

// witnessed is called with every change that a watch tells of.
func (s *Store) witnessed(u overlay.Update) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range u.Alive {
		s.calm(a.Node)
	}
	for _, l := range u.Left {
		s.calm(l.Node)
	}
	if s.current == nil || u.Full || s.ctx.Err() != nil {
		return
	}
	for _, name := range u.GoneAlive {
		if name == s.current.node.Name || s.leaving[name] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(s.ctx)
		s.leaving[name] = cancel
		l := overlay.Left{Node: name, At: time.Now().UTC().Truncate(time.Second)}
		s.work.Go(func() {
			if sleep(ctx, rand.N(witness)) == nil {
				s.leave(ctx, l, u.History.Revision)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.calm(name)
		})
	}
}

// calm ends what was to be written of a node. The lock is held.
func (s *Store) calm(name string) {
	if cancel := s.leaving[name]; cancel != nil {
		cancel()
		delete(s.leaving, name)
	}
}

// leave writes when a node went, unless it is there again, was removed, or somebody has
// written it since it went.
func (s *Store) leave(ctx context.Context, l overlay.Left, since int64) {
	nodeKey, aliveKey, leftKey := s.nodeKey(l.Node), s.aliveKey(l.Node), s.leftKey(l.Node)
	_, err := s.txn(ctx, []clientv3.Cmp{
		clientv3.Compare(clientv3.CreateRevision(nodeKey), "!=", 0),
		clientv3.Compare(clientv3.CreateRevision(aliveKey), "=", 0),
		clientv3.Compare(clientv3.ModRevision(leftKey), "<", since),
	}, []clientv3.Op{put(leftKey, l)}, nil)
	if err != nil && ctx.Err() == nil {
		s.o.Log.Info("when a node went is not written down", "node", l.Node, "error", err)
	}
}
