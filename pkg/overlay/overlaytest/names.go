package overlaytest

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
)

// Listener is a WatchNames that remembers what it was told.
type Listener struct {
	mu      sync.Mutex
	names   map[overlay.NameKey]overlay.Name
	bad     map[string]error
	updates []overlay.Update
	changed chan struct{} // closed at the next update
}

// Listen starts a WatchNames, which ends with the test, and waits for its first full
// update.
func Listen(t testing.TB, r overlay.Roster, network string) *Listener {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &Listener{names: map[overlay.NameKey]overlay.Name{}, bad: map[string]error{}, changed: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.WatchNames(ctx, network, l.take)
	}()
	t.Cleanup(func() { cancel(); <-done })
	l.Wait(t, "a full update", func(map[overlay.NameKey]overlay.Name, map[string]error) bool {
		return len(l.updates) > 0 && l.updates[0].Full
	})
	return l
}

func (l *Listener) take(u overlay.Update) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.updates = append(l.updates, u)
	if u.Full {
		clear(l.names)
		clear(l.bad)
	}
	for _, k := range u.GoneNames {
		delete(l.names, k)
	}
	for _, k := range u.GoneBad {
		delete(l.bad, k)
	}
	for _, n := range u.Names {
		l.names[n.NameKey] = n
	}
	for _, b := range u.Bad {
		l.bad[b.Key] = b.Err
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// Updates returns what there was so far.
func (l *Listener) Updates() []overlay.Update {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.updates)
}

// Gone counts the names that the listener was told are gone.
func (l *Listener) Gone() (n int) {
	for _, u := range l.Updates() {
		n += len(u.GoneNames)
	}
	return n
}

// Wait waits until the names, and the keys that nobody can use, are as they should be.
// ok must not call l.
func (l *Listener) Wait(t testing.TB, what string, ok func(names map[overlay.NameKey]overlay.Name, bad map[string]error) bool) {
	t.Helper()
	timeout := time.After(Patience)
	for {
		l.mu.Lock()
		done, changed := ok(l.names, l.bad), l.changed
		l.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			l.mu.Lock()
			defer l.mu.Unlock()
			t.Fatalf("waited for %s; the names are %v, bad %v", what, slices.Collect(maps.Keys(l.names)), l.bad)
		}
	}
}

// WaitNames waits until there are that many names, and nothing else.
func (l *Listener) WaitNames(t testing.TB, n int) {
	t.Helper()
	l.Wait(t, fmt.Sprint(n, " names"), func(names map[overlay.NameKey]overlay.Name, bad map[string]error) bool {
		return len(names) == n && len(bad) == 0
	})
}

// Called is the i-th name of a node on a network.
func Called(network, node string, i int) overlay.Name {
	return overlay.Name{
		NameKey: overlay.NameKey{Network: network, Node: node, Container: fmt.Sprintf("c%d", i), IfName: "eth0"},
		Names:   []string{fmt.Sprint("name", i), "all"}, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 42, byte(i >> 8), byte(i)})},
	}
}

func keysOf(all []overlay.Name) (keys []overlay.NameKey) {
	for _, n := range all {
		keys = append(keys, n.NameKey)
	}
	return keys
}

// named publishes, changes and drops names.
func named(t *testing.T, b Backend) {
	const many = 250 // more than a transaction takes
	s, ctx := b.Open(t), limited(t)
	r, other := s.(overlay.Roster), b.Open(t)
	all := Follow(t, other, true)
	blue, red := Listen(t, other.(overlay.Roster), "blue"), Listen(t, other.(overlay.Roster), "red")
	a := Node("a", 0)
	wantErr(t, r.PublishNames(ctx, []overlay.Name{Called("blue", "a", 0)}, nil), overlay.ErrNotRegistered)
	check(t, s.Register(ctx, a, "boot", false, NotLost(t)))
	all.Wait(t, "the node", func(st *overlay.State) bool { return len(st.Alive) == 1 })
	told := len(all.Updates())
	var names []overlay.Name
	for i := range many {
		names = append(names, Called("blue", "a", i))
	}
	check(t, r.PublishNames(ctx, append(names, Called("red", "a", 7)), nil))
	blue.WaitNames(t, many)
	red.WaitNames(t, 1)
	late := Listen(t, b.Open(t).(overlay.Roster), "blue")
	late.WaitNames(t, many)
	changed := names[3]
	changed.Names = []string{"another"}
	check(t, r.PublishNames(ctx, []overlay.Name{changed}, keysOf(names[10:])))
	for _, l := range []*Listener{blue, late} {
		l.WaitNames(t, 10)
		l.Wait(t, "the other name", func(names map[overlay.NameKey]overlay.Name, _ map[string]error) bool {
			n := names[changed.NameKey]
			return n.Same(&changed)
		})
	}
	check(t, r.PublishNames(ctx, nil, keysOf(names))) // of which most are gone
	blue.WaitNames(t, 0)
	red.WaitNames(t, 1)
	if n := len(all.Updates()); n != told {
		t.Errorf("names are in the way of who watches the rest: %d updates, before %d", n, told)
	}
	bad := Called("blue", "a", 1)
	bad.Names = []string{"not a name"}
	for what, n := range map[string]overlay.Name{"another node's": Called("blue", "b", 1), "no name": bad, "a path": Called("../blue", "a", 1)} {
		if err := r.PublishNames(ctx, []overlay.Name{n}, nil); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	if err := r.PublishNames(ctx, nil, keysOf([]overlay.Name{Called("blue", "b", 1)})); err == nil {
		t.Error("drop of another node's: no error")
	}
}

// namesLife ends a node in every way: its names go.
func namesLife(t *testing.T, b Backend) {
	for i, c := range []struct {
		name string
		end  func(ctx context.Context, s overlay.Store, node string) error
		soon bool
	}{
		{"withdrawn", func(ctx context.Context, s overlay.Store, _ string) error { return s.Withdraw(ctx) }, false},
		{"gone", func(_ context.Context, s overlay.Store, _ string) error { return s.Close() }, false},
		{"removed", func(ctx context.Context, _ overlay.Store, node string) error {
			return b.Open(t).RemoveNode(ctx, node, true)
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, n, network := limited(t), Node(c.name, i), "of-"+c.name
			s, l := b.Open(t), Listen(t, b.Open(t).(overlay.Roster), network)
			check(t, s.Register(ctx, n, "boot", false, func(error) {}))
			check(t, s.(overlay.Roster).PublishNames(ctx, []overlay.Name{Called(network, n.Name, 1)}, nil))
			time.Sleep(b.TTL * 3 / 2)
			l.WaitNames(t, 1)
			start := time.Now()
			check(t, c.end(ctx, s, n.Name))
			if err := s.(overlay.Roster).PublishNames(ctx, []overlay.Name{Called(network, n.Name, 2)}, nil); err == nil {
				t.Error("publish after the node's end: no error")
			}
			l.WaitNames(t, 0)
			took := time.Since(start)
			if c.soon != (took < b.TTL/2) || took > 3*b.TTL {
				t.Errorf("the names were gone after %s, the TTL is %s", took, b.TTL)
			}
		})
	}
}

// namesTakenOver starts a node's agent again: nobody misses its names.
func namesTakenOver(t *testing.T, b Backend) {
	ctx := limited(t)
	l := Listen(t, b.Open(t).(overlay.Roster), "blue")
	n := Node("a", 0)
	var last overlay.Store
	for i, end := range []func(overlay.Store) error{
		func(s overlay.Store) error { return s.Withdraw(ctx) },
		func(s overlay.Store) error { return s.Close() },
		func(overlay.Store) error { return nil },
	} {
		last = b.Open(t)
		check(t, last.Register(ctx, n, "boot", i > 0, func(error) {}))
		check(t, last.(overlay.Roster).PublishNames(ctx, []overlay.Name{Called("blue", "a", 1)}, nil))
		check(t, end(last))
	}
	time.Sleep(b.TTL * 5 / 2)
	l.WaitNames(t, 1)
	if gone := l.Gone(); gone != 0 {
		t.Errorf("the name was gone %d times", gone)
	}
	check(t, last.Withdraw(ctx))
}
