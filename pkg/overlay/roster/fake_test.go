package roster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/berth-cni/berth/pkg/names/server"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/overlaytest"
)

// store is an [overlay.Roster] in memory, whose node can lose its life.
type store struct {
	mu       sync.Mutex
	away     error // why nothing can be written
	names    map[overlay.NameKey]overlay.Name
	watchers map[*watcher]bool
	writes   int
}

type watcher struct {
	network string
	fn      func(overlay.Update)
}

var errAway = errors.New("this store is away")

func (s *store) PublishNames(_ context.Context, put []overlay.Name, drop []overlay.NameKey) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away != nil {
		return s.away
	}
	s.writes++
	s.write(put, drop)
	return nil
}

// write tells the watchers. The caller has the lock.
func (s *store) write(put []overlay.Name, drop []overlay.NameKey) {
	byNetwork := map[string]*overlay.Update{}
	of := func(network string) *overlay.Update {
		if byNetwork[network] == nil {
			byNetwork[network] = &overlay.Update{}
		}
		return byNetwork[network]
	}
	for _, n := range put {
		s.names[n.NameKey] = n
		of(n.Network).Names = append(of(n.Network).Names, n)
	}
	for _, k := range drop {
		delete(s.names, k)
		of(k.Network).GoneNames = append(of(k.Network).GoneNames, k)
	}
	for w := range s.watchers {
		if u := byNetwork[w.network]; u != nil {
			go w.fn(*u) // as a store does, without the caller's locks
		}
	}
}

// do has somebody else write.
func (s *store) do(put []overlay.Name, drop ...overlay.NameKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(put, drop)
}

// tell gives the watchers of a network an update; a full one has all names.
func (s *store) tell(network string, u overlay.Update) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, n := range s.names {
		if u.Full && k.Network == network {
			u.Names = append(u.Names, n)
		}
	}
	for w := range s.watchers {
		if w.network == network {
			go w.fn(u)
		}
	}
}

func (s *store) setAway(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = err
}

func (s *store) WatchNames(ctx context.Context, network string, fn func(overlay.Update)) error {
	var one sync.Mutex
	w := &watcher{network, func(u overlay.Update) {
		one.Lock()
		defer one.Unlock()
		fn(u)
	}}
	s.mu.Lock()
	s.watchers[w] = true
	s.mu.Unlock()
	s.tell(network, overlay.Update{Full: true})
	<-ctx.Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.watchers, w)
	return ctx.Err()
}

// directory is a real one that remembers what it was told of other hosts.
type directory struct {
	*server.Directory
	mu     sync.Mutex
	remote map[overlay.NameKey]names.Entry
}

func (d *directory) PutRemote(node string, e names.Entry) {
	d.Directory.PutRemote(node, e)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.remote[overlay.NameKey{Network: e.Network, Node: node, Container: e.Container, IfName: e.IfName}] = e
}

func (d *directory) DeleteRemote(node string, k attach.Key) {
	d.Directory.DeleteRemote(node, k)
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.remote, overlay.NameKey{Network: k.Network, Node: node, Container: k.Container, IfName: k.IfName})
}

// host is a roster of node "a" on networks blue and red; node "b" has 10.42.1.0/24 of
// blue.
type host struct {
	*Roster
	t         testing.TB
	store     *store
	directory *directory
}

func newHost(t testing.TB) *host {
	h := &host{t: t, store: &store{names: map[overlay.NameKey]overlay.Name{}, watchers: map[*watcher]bool{}}}
	h.directory = &directory{Directory: server.NewDirectory(), remote: map[overlay.NameKey]names.Entry{}}
	ready := make(chan struct{})
	close(ready)
	h.Roster = New(Config{Node: "a", Names: h.store, Directory: h.directory, Ready: ready})
	h.Learn(overlay.Update{Full: true,
		Networks: []overlay.Network{netOf("blue", "10.42.0.0/16", 5000), netOf("red", "10.43.0.0/16", 5001)},
		Nodes:    []overlay.Node{overlaytest.Node("a", 0), overlaytest.Node("b", 1)},
		Blocks:   []overlay.Block{overlaytest.BlockOf("blue", "10.42.1.0/24", overlaytest.Node("b", 1))},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); h.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return h
}

func netOf(name, subnet string, vni int) overlay.Network {
	n := overlaytest.Net(name, subnet)
	n.ID, n.VNI = name, vni
	n.SetDefaults()
	return n
}

// put adds a container of this host.
func (h *host) put(network, bridge, container string, called ...string) overlay.NameKey {
	e := names.Entry{Key: attach.Key{Network: network, Container: container, IfName: "eth0"}, Bridge: bridge, Names: called}
	d := attach.Digest([]byte(container))
	e.Addresses = []netip.Addr{netip.AddrFrom4([4]byte{10, d[13], d[14], d[15]})}
	h.directory.Put(e)
	return overlay.NameKey{Network: network, Node: "a", Container: container, IfName: "eth0"}
}

func (h *host) del(k overlay.NameKey) { h.directory.Delete(attachKey(k)) }

// wait waits until the store's names, or those that the directory has of others, are as
// wanted.
func (h *host) wait(what string, ok func() bool) {
	h.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		h.store.mu.Lock()
		h.directory.mu.Lock()
		done := ok()
		state := fmt.Sprint(slices.Collect(maps.Keys(h.store.names)), slices.Collect(maps.Keys(h.directory.remote)))
		h.directory.mu.Unlock()
		h.store.mu.Unlock()
		if done {
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("waited for %s; the store and the directory have %s", what, state)
		}
	}
}

// has waits until the store has exactly these keys.
func (h *host) has(what string, keys ...overlay.NameKey) {
	h.t.Helper()
	h.wait(what, func() bool { return sameKeys(h.store.names, keys) })
}

// knows waits until the directory has exactly these keys of others.
func (h *host) knows(what string, keys ...overlay.NameKey) {
	h.t.Helper()
	h.wait(what, func() bool { return sameKeys(h.directory.remote, keys) })
}

func sameKeys[V any](m map[overlay.NameKey]V, keys []overlay.NameKey) bool {
	return len(m) == len(keys) && !slices.ContainsFunc(keys, func(k overlay.NameKey) bool { _, ok := m[k]; return !ok })
}

func (h *host) writes() int {
	h.store.mu.Lock()
	defer h.store.mu.Unlock()
	return h.store.writes
}

// stays: for a moment nothing changes that should not.
func (h *host) stays(what string, ok func() bool) {
	h.t.Helper()
	for range 30 {
		h.wait(what, ok)
		time.Sleep(10 * time.Millisecond)
	}
}
