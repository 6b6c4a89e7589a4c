package replica

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
)

// world is a store that anything may happen to, and a host's replica of it.
type world struct {
	*Replica
	store *overlay.State
	held  map[string]bool // networks with containers of this host
}

func newWorld() *world {
	w := &world{store: overlay.NewState(), held: map[string]bool{}}
	w.Replica = New("self", func(network string) bool { return w.held[network] })
	return w
}

func network(name string, id, vni int) overlay.Network {
	n := overlay.Network{Name: name, ID: fmt.Sprint(name, id), VNI: vni, Subnets: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/16", vni%250))}}
	n.SetDefaults()
	return n
}

func node(name, token string) overlay.Node {
	return overlay.Node{Name: name, Token: name + token, Address: netip.MustParseAddr("192.0.2.1"), MTU: 1500}
}

func block(n overlay.Network, i int, of overlay.Node) overlay.Block {
	a := n.Subnets[0].Addr().As4()
	a[2] = byte(i)
	return overlay.Block{Network: n.Name, Prefix: netip.PrefixFrom(netip.AddrFrom4(a), 24), Node: of.Name, Token: of.Token}
}

func full(s *overlay.State) overlay.Update {
	return overlay.Update{Full: true, Networks: slices.Collect(maps.Values(s.Networks)), Nodes: slices.Collect(maps.Values(s.Nodes)),
		Blocks: slices.Collect(maps.Values(s.Blocks)), Removed: slices.Collect(maps.Values(s.Removed)), History: s.History}
}

// change has the store change, and tells the replica of it.
func (w *world) change(u overlay.Update) {
	w.store.Apply(u)
	w.State.Apply(w.Take(u))
}

func (w *world) has(t *testing.T, networks, nodes, blocks int) {
	t.Helper()
	if len(w.State.Networks) != networks || len(w.State.Nodes) != nodes || len(w.State.Blocks) != blocks {
		t.Errorf("%d networks, %d nodes, %d blocks; want %d, %d, %d", len(w.State.Networks), len(w.State.Nodes), len(w.State.Blocks), networks, nodes, blocks)
	}
}

// filled is a world with blue, two other nodes and their blocks.
func filled() (w *world, blue overlay.Network, a, b overlay.Node) {
	w, blue, a, b = newWorld(), network("blue", 1, 4097), node("a", "1"), node("b", "1")
	w.change(overlay.Update{Full: true, Networks: []overlay.Network{blue}, Nodes: []overlay.Node{a, b}, Blocks: []overlay.Block{block(blue, 1, a), block(blue, 2, b)},
		History: overlay.History{Incarnation: "A", Cluster: 1, Revision: 10}})
	return w, blue, a, b
}

func TestEmptyAndBack(t *testing.T) {
	w, blue, a, _ := filled()
	right := full(w.store)
	w.change(overlay.Update{Full: true, History: overlay.History{Incarnation: "B", Cluster: 1, Revision: 2}})
	w.has(t, 1, 2, 2)
	if l := w.Lost(); w.Broken == nil || len(l.Networks) != 1 || len(l.Nodes) != 2 || l.Blocks != 2 {
		t.Errorf("broken %v, lost %+v", w.Broken, l)
	}
	// It fills again.
	w.change(overlay.Update{Nodes: []overlay.Node{a}, Blocks: []overlay.Block{block(blue, 1, a)}})
	w.change(overlay.Update{Networks: []overlay.Network{blue}})
	w.has(t, 1, 2, 2)
	if l := w.Lost(); len(l.Networks) != 0 || len(l.Nodes) != 1 || l.Blocks != 1 {
		t.Errorf("lost %+v", l)
	}
	w.change(right)
	w.has(t, 1, 2, 2)
	if l := w.Lost(); !l.Empty() {
		t.Errorf("lost %+v", l)
	}
}

func TestHistory(t *testing.T) {
	was := overlay.History{Incarnation: "A", Cluster: 1, Revision: 10}
	for _, c := range []struct {
		now    overlay.History
		broken bool
	}{
		{was, false},
		{overlay.History{Incarnation: "A", Cluster: 1, Revision: 11}, false},
		{overlay.History{Incarnation: "A", Cluster: 1, Revision: 9}, true},
		{overlay.History{Incarnation: "A", Cluster: 2, Revision: 11}, true},
		{overlay.History{Incarnation: "B", Cluster: 1, Revision: 11}, true},
	} {
		w, _, _, _ := filled()
		u := full(w.store)
		u.History = c.now
		if w.change(u); (w.Broken != nil) != c.broken {
			t.Errorf("from %+v to %+v: broken %v", was, c.now, w.Broken)
		}
	}
	w, _, _, _ := filled()
	u := full(w.store)
	u.History.Revision, u.Broken = 99, errors.New("another write")
	if w.change(u); w.Broken == nil {
		t.Error("a break that the store has seen itself")
	}
}

func TestRemoval(t *testing.T) {
	gone := func(blue overlay.Network, force bool) overlay.Update {
		return overlay.Update{GoneNetworks: []string{"blue"}, GoneBlocks: []overlay.BlockKey{block(blue, 1, node("a", "1")).Key(), block(blue, 2, node("b", "1")).Key()},
			Removed: []overlay.Removal{{Network: "blue", ID: blue.ID, Forced: force, At: time.Now()}}}
	}
	w, blue, _, _ := filled()
	w.change(gone(blue, false))
	w.has(t, 0, 2, 0)

	w, blue, _, _ = filled()
	w.held["blue"] = true
	w.change(gone(blue, false))
	w.has(t, 1, 2, 2) // for its containers
	if r, ok := w.Removal(&blue); !ok || r.Forced {
		t.Errorf("removal %v, %v", r, ok)
	}
	if l := w.Lost(); !l.Empty() {
		t.Errorf("removed, not lost: %+v", l)
	}
	w.change(full(w.store))
	w.has(t, 1, 2, 2)
	w.held["blue"] = false
	w.State.Apply(w.Again())
	w.has(t, 0, 2, 0)

	w, blue, _, _ = filled()
	w.held["blue"] = true
	w.change(gone(blue, true))
	w.has(t, 0, 2, 0)

	// A copy of the store from before has it again, without the order.
	old := overlay.Update{Full: true, Networks: []overlay.Network{blue}, Nodes: full(w.store).Nodes, Blocks: []overlay.Block{block(blue, 1, node("a", "1"))}}
	w.store = overlay.NewState()
	w.change(old)
	w.has(t, 0, 2, 1)
	if r := w.Returned(); len(r) != 1 || r[0].ID != blue.ID {
		t.Errorf("returned %+v", r)
	}
}

func TestNodeRemoved(t *testing.T) {
	w, blue, a, _ := filled()
	w.change(overlay.Update{GoneNodes: []string{"a"}})
	w.change(overlay.Update{GoneBlocks: []overlay.BlockKey{block(blue, 1, a).Key()}})
	w.has(t, 1, 2, 2) // deleted by other means
	w.change(overlay.Update{Removed: []overlay.Removal{{Node: "a", ID: a.Token, At: time.Now()}}})
	w.has(t, 1, 1, 1)
	// It comes again, as another one.
	again := node("a", "2")
	w.change(overlay.Update{Nodes: []overlay.Node{again}, Blocks: []overlay.Block{block(blue, 1, again)}})
	w.has(t, 1, 2, 2)
	// One from before does not take its place.
	w.change(overlay.Update{Nodes: []overlay.Node{a}})
	if w.State.Nodes["a"].Token != again.Token {
		t.Errorf("the node is %+v", w.State.Nodes["a"])
	}
}

// TestAnother: while the store has another network in the way of a lost one, the one with
// containers here stays.
func TestAnother(t *testing.T) {
	for _, other := range []overlay.Network{network("blue", 2, 4098), network("blue", 1, 4099), network("green", 1, 4097)} {
		for _, held := range []bool{true, false} {
			w, blue, _, b := filled()
			w.held["blue"] = held
			u := overlay.Update{Full: true, Networks: []overlay.Network{other}, Nodes: []overlay.Node{b}, Blocks: []overlay.Block{block(other, 9, b)},
				History: overlay.History{Incarnation: "B"}}
			w.change(u)
			n, ok := w.State.Networks["blue"]
			if kept := ok && n.Same(&blue); kept != held {
				t.Errorf("%s, VNI %d comes, containers on blue %v: blue is kept: %v", other.Name, other.VNI, held, kept)
			}
			if _, conflict := w.State.Conflicts()["blue"]; conflict {
				t.Error("the older one loses")
			}
			w.held["blue"] = false
			w.State.Apply(w.Again())
			if n, ok := w.State.Networks[other.Name]; !ok || !n.Same(&other) || len(w.State.BlocksOf(other.Name, "b")) != 1 {
				t.Errorf("%s, VNI %d is not there once the containers have left: %+v", other.Name, other.VNI, n)
			}
			if n, ok := w.State.Networks["blue"]; ok && n.Same(&blue) {
				t.Error("blue is still there")
			}
		}
	}
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	if err := New("self", nil).Load(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
	w, blue, _, _ := filled()
	w.held["blue"] = true
	w.change(overlay.Update{Full: true, History: overlay.History{Incarnation: "B"}, Removed: []overlay.Removal{{Network: "x", ID: "x", At: time.Unix(1, 0).UTC()}}})
	if err := w.Write(dir); err != nil {
		t.Fatal(err)
	}
	again := New("self", w.holds)
	if err := again.Load(dir); err != nil {
		t.Fatal(err)
	}
	if again.Broken == nil || again.history.Incarnation != "B" || len(again.removed) != 1 || len(again.State.Blocks) != 2 || len(again.State.Nodes) != 2 {
		t.Errorf("read %+v", again)
	}
	if n := again.State.Networks["blue"]; !n.Same(&blue) {
		t.Errorf("blue is %+v", n)
	}
	s, err := Remembered(dir)
	if err != nil || len(s.Networks) != 1 || len(s.Nodes) != 2 {
		t.Errorf("remembered: %+v, %v", s, err)
	}
	if err := os.WriteFile(path(dir), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := New("self", nil).Load(dir); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that was cut off: %v", err)
	}
}

// TestAnything: whatever happens to a store, a network with containers stays as long as
// nobody removes it by force; and what the replica follows step by step is what it makes
// of the whole.
func TestAnything(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		w := newWorld()
		forced := map[string]bool{} // by ID
		pick := func() (overlay.Network, overlay.Node) {
			return network([]string{"blue", "red"}[rnd.IntN(2)], rnd.IntN(2), 4097+rnd.IntN(3)), node([]string{"a", "b", "c"}[rnd.IntN(3)], fmt.Sprint(rnd.IntN(2)))
		}
		for step := range 60 {
			n, x := pick()
			var u overlay.Update
			switch rnd.IntN(10) {
			case 0, 1:
				u.Networks = append(u.Networks, n)
			case 2:
				u.Nodes = append(u.Nodes, x)
			case 3, 4:
				u.Blocks = append(u.Blocks, block(n, rnd.IntN(3), x))
			case 5:
				u.GoneNetworks = append(u.GoneNetworks, n.Name)
			case 6:
				u.GoneNodes = append(u.GoneNodes, x.Name)
			case 7:
				u.GoneBlocks = append(u.GoneBlocks, block(n, rnd.IntN(3), x).Key())
			case 8:
				u.Full, u.History.Incarnation = true, fmt.Sprint(step)
			case 9:
				force := rnd.IntN(2) == 0
				if there, ok := w.store.Networks[n.Name]; ok {
					forced[there.ID] = forced[there.ID] || force
					u.GoneNetworks, u.Removed = []string{n.Name}, []overlay.Removal{{Network: n.Name, ID: there.ID, Forced: force, At: time.Now()}}
				}
			}
			before := maps.Clone(w.State.Networks)
			w.change(u)
			for name, was := range before {
				now, ok := w.State.Networks[name]
				if w.held[name] && !forced[was.ID] && (!ok || !now.Same(&was)) {
					t.Fatalf("seed %d, step %d: %+v takes %s away, with containers on it", seed, step, u, name)
				}
			}
			w.State.Apply(w.Again()) // as the agent's tick does: a lost one that is in the way now
			// Whose blocks are which is what counts: some are nobody's.
			view := func() any {
				return [4]any{maps.Clone(w.State.Networks), maps.Clone(w.State.Nodes), w.State.Owners("blue"), w.State.Owners("red")}
			}
			followed := view()
			w.State.Apply(w.Take(full(w.store)))
			if whole := view(); !reflect.DeepEqual(followed, whole) {
				t.Fatalf("seed %d, step %d: after %+v\n%+v\nand as a whole\n%+v", seed, step, u, followed, whole)
			}
			if rnd.IntN(4) == 0 {
				name := n.Name
				w.held[name] = !w.held[name] && w.State.Networks[name].ID != ""
				w.State.Apply(w.Again())
			}
		}
	}
}
