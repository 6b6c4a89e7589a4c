package agent

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
)

// memory is a store within the test: what the agent asks of it, it answers at once,
// or not at all while it is away.
type memory struct {
	sync.Mutex
	state    *overlay.State
	away     bool
	refuse   error // of Register
	watchers []func(overlay.Update)
	claims   int
	left     bool
	denied   bool // Restore is
	restores int
	given    []netip.Prefix
}

var errAway = errors.New("the store is away")

func newMemory() *memory { return &memory{state: overlay.NewState()} }

func (m *memory) setAway(away bool) {
	m.Lock()
	defer m.Unlock()
	m.away = away
}

func (m *memory) full() overlay.Update {
	u := overlay.Update{Full: true}
	for _, n := range m.state.Networks {
		u.Networks = append(u.Networks, n)
	}
	for _, n := range m.state.Nodes {
		u.Nodes = append(u.Nodes, n)
	}
	for _, b := range m.state.Blocks {
		u.Blocks = append(u.Blocks, b)
	}
	for _, a := range m.state.Alive {
		u.Alive = append(u.Alive, a)
	}
	for _, x := range m.state.Missed {
		u.Missed = append(u.Missed, x)
	}
	for _, r := range m.state.Removed {
		u.Removed = append(u.Removed, r)
	}
	u.History = m.state.History
	return u
}

// put changes the state and tells every watcher.
func (m *memory) put(u overlay.Update) {
	m.Lock()
	m.state.Apply(u)
	watchers := m.watchers
	m.Unlock()
	for _, fn := range watchers {
		fn(u)
	}
}

func (m *memory) Watch(ctx context.Context, fn func(overlay.Update)) error {
	m.Lock()
	away, full := m.away, m.full()
	if !away {
		m.watchers = append(m.watchers, fn)
	}
	m.Unlock()
	if away {
		return errAway
	}
	fn(full)
	<-ctx.Done()
	return ctx.Err()
}

func (m *memory) Register(_ context.Context, n overlay.Node, _ string, known bool, _ func(error)) error {
	m.Lock()
	there, ok := m.state.Nodes[n.Name]
	_, removed := m.state.NodeRemoved(n.Name, n.Token)
	err := m.refuse
	if m.away {
		err = errAway
	}
	m.Unlock()
	switch {
	case err != nil:
		return err
	case ok && there.Token != n.Token:
		return &overlay.ConflictError{Node: n.Name, Address: there.Address}
	case removed && known:
		return overlay.ErrRemoved
	}
	n.Since = time.Now()
	u := overlay.Update{Nodes: []overlay.Node{n}}
	m.Lock()
	m.state.Apply(u)
	m.Unlock()
	go m.put(u)
	return nil
}

func (m *memory) Claim(_ context.Context, b overlay.Block) error {
	m.Lock()
	there, ok := m.state.Blocks[b.Key()]
	m.claims++
	away := m.away
	m.Unlock()
	switch {
	case away:
		return errAway
	case ok && there.Node != b.Node:
		return overlay.ErrTaken
	}
	go m.put(overlay.Update{Blocks: []overlay.Block{b}})
	return nil
}

func (m *memory) Given(context.Context, string) ([]netip.Prefix, error) {
	m.Lock()
	defer m.Unlock()
	return m.given, nil
}

func (m *memory) Miss(_ context.Context, of overlay.Missed) error {
	u := overlay.Update{Missed: []overlay.Missed{of}}
	if len(of.Networks) == 0 {
		u = overlay.Update{GoneMissed: []string{of.Node}}
	}
	go m.put(u)
	return nil
}

func (m *memory) Restore(_ context.Context, from *overlay.State, dry bool) (*overlay.Restoration, error) {
	m.Lock()
	r := overlay.NewRestoration(m.state, from)
	m.restores++
	denied := m.denied
	m.Unlock()
	if denied && !dry {
		return nil, overlay.ErrNotAllowed
	}
	if !dry {
		go m.put(overlay.Update{Networks: r.Networks, Nodes: r.Nodes, Blocks: r.Blocks, Removed: r.Removed})
	}
	return r, nil
}

// remove removes blue as an admin does.
func (m *memory) remove(force bool) {
	n := blue()
	u := overlay.Update{GoneNetworks: []string{n.Name}, Removed: []overlay.Removal{{Network: n.Name, ID: n.ID, By: "root@a", At: time.Now(), Forced: force}}}
	m.Lock()
	for k := range m.state.Blocks {
		if k.Network == n.Name {
			u.GoneBlocks = append(u.GoneBlocks, k)
		}
	}
	m.Unlock()
	m.put(u)
}

func (m *memory) Withdraw(context.Context) error { m.left = true; return nil }
func (m *memory) Close() error                   { return nil }

func (m *memory) State(context.Context) (*overlay.State, error) { return m.state, nil }
func (m *memory) CreateNetwork(_ context.Context, n overlay.Network) (overlay.Network, error) {
	return n, overlay.ErrReadOnly
}
func (m *memory) RemoveNetwork(context.Context, string, bool) error { return overlay.ErrReadOnly }
func (m *memory) RemoveNode(context.Context, string, bool) error    { return overlay.ErrReadOnly }
