// Package static is an overlay store that is a file, for a lab: people write it and
// copy it to each host. It says all there is:
//
//	networks:
//	  blue:
//	    subnets: [10.42.0.0/16, "fd00:42::/48"]
//	    nodePrefix: [24, 64]  # default: 24 (IPv4), 64 (IPv6)
//	    vni: 4097             # 1 to 16777215
//	    port: 4789            # default
//	    mtu: 1400             # default: what the underlay leaves
//	    internal: false
//	    isolate: false
//	    noicc: false
//	    labels: {team: lab}
//	nodes:
//	  host1:
//	    address: 192.0.2.1
//	    mtu: 1500             # default
//	    blocks:
//	      blue: [10.42.1.0/24, "fd00:42:0:1::/64"]
//	  host2:
//	    address: 192.0.2.2
//	    blocks:
//	      blue: [10.42.2.0/24]
//
// A host is in the networks of which it has blocks. The file is looked at every
// second; one that is wrong changes nothing, and is reported with its lines. Nobody
// knows which hosts live, two hosts that say the same name are not told apart, and
// containers of other hosts have no names ([Store.WatchNames]).
package static

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
)

// look is how often the file is looked at.
const look = time.Second

// Store is an [overlay.Store] that is a file.
type Store struct {
	path   string
	log    *slog.Logger
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu         sync.Mutex
	self       overlay.Node       // who has registered
	unregister context.CancelFunc // nil: nobody has
	changed    chan struct{}      // closed when self changes
}

var _ overlay.Store = (*Store)(nil)

var errClosed = errors.New("the store has been closed")

// New returns the store of a file, which need not exist yet. The log is told of a
// file that is wrong; nil for nobody.
func New(path string, log *slog.Logger) (*Store, error) {
	if path == "" {
		return nil, errors.New("the static store has no file")
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Store{path: path, log: log, changed: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

func (s *Store) read() (*overlay.State, error) {
	data, err := os.ReadFile(s.path)
	if err != nil {
		return nil, fmt.Errorf("read the peers: %w", err)
	}
	state, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("peers file %s: %w", s.path, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	adopt(state, s.self)
	return state, nil
}

// adopt gives a node of the file, and its blocks, the token with which it has
// registered: it looks for that.
func adopt(state *overlay.State, self overlay.Node) {
	n, ok := state.Nodes[self.Name]
	if !ok {
		return
	}
	n.Token = self.Token
	u := overlay.Update{Nodes: []overlay.Node{n}}
	for _, b := range state.Blocks {
		if b.Node == n.Name {
			b.Token = n.Token
			u.Blocks = append(u.Blocks, b)
		}
	}
	state.Apply(u)
}

// follow calls fn with what the file says, at first and whenever it has changed, or
// with what is wrong with it. It ends with the context's error.
func (s *Store) follow(ctx context.Context, fn func(*overlay.State, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	tick := time.NewTicker(look)
	defer tick.Stop()
	var last os.FileInfo
	var changed <-chan struct{}
	for again := true; ; {
		if s.ctx.Err() != nil {
			return errClosed
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if again {
			s.mu.Lock()
			changed = s.changed
			s.mu.Unlock()
		}
		info, err := os.Stat(s.path)
		if again || err != nil || last == nil || !os.SameFile(info, last) || info.Size() != last.Size() || info.ModTime() != last.ModTime() {
			fn(s.read())
		}
		last, again = info, false
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-changed:
			again = true
		}
	}
}

// Watch is of [overlay.Control]. Each change is a full update.
func (s *Store) Watch(ctx context.Context, fn func(overlay.Update)) error {
	var known *overlay.State
	wrong := ""
	return s.follow(ctx, func(state *overlay.State, err error) {
		switch {
		case err != nil && err.Error() == wrong:
		case err != nil:
			wrong = err.Error()
			s.log.Warn("the overlay's peers stay what they were", "error", err)
			fn(overlay.Update{Err: err})
		case known != nil && equal(known, state):
			if wrong != "" {
				fn(overlay.Update{})
			}
			wrong = ""
		default:
			known, wrong = state, ""
			u := full(state)
			u.Explicit = len(u.Networks)+len(u.Nodes) > 0 // an empty file is one that was cut off
			fn(u)
		}
	})
}

// Register is of [overlay.Control]: it checks that the file has the node with its
// address, once the file is right. The MTU is the file's; nothing says that the node
// lives. From then on Watch and State give the node its own token.
func (s *Store) Register(ctx context.Context, node overlay.Node, _ string, known bool, lost func(error)) error {
	state, err := s.wait(ctx)
	if err == nil {
		err = has(state, node, known)
	}
	if err != nil {
		return fmt.Errorf("register node %q: %w", node.Name, err)
	}
	s.stop()
	ctx, cancel := context.WithCancel(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unregister = cancel
	if s.self != node {
		s.self = node
		close(s.changed)
		s.changed = make(chan struct{})
	}
	s.work.Go(func() {
		defer cancel()
		var gone error
		_ = s.follow(ctx, func(state *overlay.State, err error) {
			if err == nil {
				if gone = has(state, node, true); gone != nil {
					cancel()
				}
			}
		})
		if gone != nil {
			lost(fmt.Errorf("node %q: %w", node.Name, gone))
		}
	})
	return nil
}

// wait returns what the file says, once it is right.
func (s *Store) wait(ctx context.Context) (state *overlay.State, err error) {
	found, cancel := context.WithCancel(ctx)
	defer cancel()
	err = s.follow(found, func(read *overlay.State, wrong error) {
		if wrong == nil {
			state = read
			cancel()
		}
	})
	if state != nil {
		return state, nil
	}
	return nil, err
}

// has returns why the file does not have the node.
func has(state *overlay.State, node overlay.Node, known bool) error {
	n, ok := state.Nodes[node.Name]
	switch {
	case !ok && known:
		return overlay.ErrRemoved
	case !ok:
		return overlay.ErrNotFound
	case n.Address != node.Address:
		return fmt.Errorf("the file says address %s, and the host is at %s", n.Address, node.Address)
	case n.PublicKey != "" && n.PublicKey != node.PublicKey:
		return fmt.Errorf("the file says public key %s, and the host's is %s", n.PublicKey, cmp.Or(node.PublicKey, "none"))
	}
	return nil
}

// stop ends what watches over a registration.
func (s *Store) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unregister != nil {
		s.unregister()
	}
	s.unregister = nil
}

// Claim is of [overlay.Control]: nil when the file gives the block to the node,
// [overlay.ErrTaken] when it is another's, [overlay.ErrReadOnly] when it is nobody's.
func (s *Store) Claim(ctx context.Context, b overlay.Block) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	state, err := s.read()
	if err == nil {
		owner, ok := state.Blocks[b.Key()]
		switch {
		case !ok:
			err = overlay.ErrReadOnly
		case owner.Node != b.Node:
			err = fmt.Errorf("%w: %q's", overlay.ErrTaken, owner.Node)
		}
	}
	if err != nil {
		return fmt.Errorf("claim block %s of network %q for node %q: %w", b.Prefix, b.Network, b.Node, err)
	}
	return nil
}

// Withdraw is of [overlay.Control].
func (s *Store) Withdraw(context.Context) error { s.stop(); return nil }

// State is of [overlay.Admin].
func (s *Store) State(context.Context) (*overlay.State, error) { return s.read() }

// CreateNetwork returns [overlay.ErrReadOnly].
func (s *Store) CreateNetwork(_ context.Context, n overlay.Network) (overlay.Network, error) {
	return n, s.readOnly()
}

// RemoveNetwork returns [overlay.ErrReadOnly].
func (s *Store) RemoveNetwork(context.Context, string, bool) error { return s.readOnly() }

// RemoveNode returns [overlay.ErrReadOnly].
func (s *Store) RemoveNode(context.Context, string, bool) error { return s.readOnly() }

// Restore returns [overlay.ErrReadOnly].
func (s *Store) Restore(context.Context, *overlay.State, bool) (*overlay.Restoration, error) {
	return nil, s.readOnly()
}

// Miss does nothing: the hosts of a file do not tell each other anything.
func (s *Store) Miss(ctx context.Context, _ overlay.Missed) error { return ctx.Err() }

func (s *Store) readOnly() error { return fmt.Errorf("%s: %w", s.path, overlay.ErrReadOnly) }

// Close ends all that the store does, and waits for it, but for Watch, which has its
// caller. lost (see Register) must not call it.
func (s *Store) Close() error {
	s.cancel()
	s.work.Wait()
	return nil
}
