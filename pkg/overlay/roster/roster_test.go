package roster

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/overlaytest"
)

// TestPublish: the store has the names of this host's containers on overlay networks,
// and no others.
func TestPublish(t *testing.T) {
	h := newHost(t)
	h.put("blue", "br0", "of-a-bridge", "x") // a network of that name that is another's
	h.put("none", "br1", "of-none", "x")
	h.put("blue", "overlay5000", "nameless")
	web := h.put("blue", "overlay5000", "web", "web", "shop")
	db := h.put("red", "overlay5001", "dbase", "db")
	h.has("both", web, db)
	h.put("blue", "overlay5000", "web", "web", "store")
	h.wait("the other name", func() bool { return h.store.names[web].Names[1] == "store" })
	h.put("red", "overlay5001", "dbase") // has no name any more
	h.has("one", web)
	h.put("red", "overlay5001", "dbase", "db")
	h.has("both again", web, db)
	h.del(web)
	h.has("the other", db)
	h.Learn(overlay.Update{GoneNetworks: []string{"red"}})
	h.has("none of a network that is gone")
	h.Learn(overlay.Update{Networks: []overlay.Network{netOf("red", "10.43.0.0/16", 5001)}})
	h.has("it again", db)
	h.Learn(overlay.Update{Networks: []overlay.Network{netOf("red", "10.43.0.0/16", 6001)}})
	h.has("none of one that is made anew, with another bridge")
}

// TestBatch: containers that start at once are a few writes.
func TestBatch(t *testing.T) {
	const n = 200
	h := newHost(t)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { h.put("blue", "overlay5000", fmt.Sprint("c", i), fmt.Sprint("name", i)) })
	}
	wg.Wait()
	h.wait("all of them", func() bool { return len(h.store.names) == n })
	if writes := h.writes(); writes > 5 {
		t.Errorf("%d writes for %d names", writes, n)
	}
}

// TestLost: what the store lost or never had, or should not have, is put right.
func TestLost(t *testing.T) {
	h := newHost(t)
	web, db := h.put("blue", "overlay5000", "web", "web"), h.put("blue", "overlay5000", "dbase", "db")
	h.has("both", web, db)
	h.store.do(nil, web, db) // the lease has run out
	h.has("both again", web, db)
	stale := overlaytest.Called("blue", "a", 77) // of an agent that was here before
	h.store.do([]overlay.Name{stale})
	h.has("no other", web, db)
	wrong := overlay.Name{NameKey: web, Names: []string{"wrong"}, Addresses: stale.Addresses}
	h.store.do([]overlay.Name{wrong})
	h.wait("the right name", func() bool { return h.store.names[web].Names[0] == "web" })

	h.store.setAway(overlay.ErrNotRegistered)
	h.store.do(nil, web)
	h.del(db)
	late := h.put("blue", "overlay5000", "later", "later")
	time.Sleep(2 * pace)
	h.store.mu.Lock()
	delete(h.store.names, db) // with the lease, and nobody was told
	h.store.mu.Unlock()
	h.store.setAway(nil)
	h.Learn(overlay.Update{Alive: []overlay.Alive{{Node: "a"}}})
	h.has("what is wanted now", web, late)
	h.store.mu.Lock()
	delete(h.store.names, late)
	h.store.mu.Unlock()
	h.store.tell("blue", overlay.Update{Full: true}) // changes were missed
	h.has("it again", web, late)
	writes := h.writes()
	h.stays("nothing more to do", func() bool { return h.store.writes == writes })
}

// TestAway: a store that is away is asked again, not all the time, and at once when it
// is back.
func TestAway(t *testing.T) {
	h := newHost(t)
	h.store.setAway(errAway)
	web := h.put("blue", "overlay5000", "web", "web")
	other := named("b", "10.42.1.5", 1)
	h.store.do([]overlay.Name{other})
	h.knows("another's", other.NameKey)
	h.Learn(overlay.Update{Err: errAway})
	h.store.tell("blue", overlay.Update{Err: errAway})
	h.stays("what was known", func() bool { return len(h.directory.remote) == 1 })
	time.Sleep(3500 * time.Millisecond) // pauses grow to some seconds
	h.store.setAway(nil)
	start := time.Now()
	h.Learn(overlay.Update{})
	h.has("both", web, other.NameKey)
	if took := time.Since(start); took > time.Second {
		t.Errorf("published %s after the store was back", took)
	}
	h.store.mu.Lock()
	delete(h.store.names, other.NameKey)
	h.store.mu.Unlock()
	h.store.tell("blue", overlay.Update{Full: true})
	h.knows("none")
}

func named(node, addr string, i int) overlay.Name {
	n := overlaytest.Called("blue", node, i)
	n.Addresses = []netip.Addr{netip.MustParseAddr(addr)}
	return n
}

// TestAnotherLease: when the host's life is written anew, so are its names.
func TestAnotherLease(t *testing.T) {
	h := newHost(t)
	h.has("web", h.put("blue", "overlay5000", "web", "web"))
	writes := h.writes()
	for was := -1; was != writes; writes = h.writes() { // it may be written once more, as the first look ends
		was = writes
		time.Sleep(3 * pace)
	}
	h.Learn(overlay.Update{Alive: []overlay.Alive{{Node: "b"}}})
	h.stays("another's life", func() bool { return h.store.writes == writes })
	h.Learn(overlay.Update{Alive: []overlay.Alive{{Node: "a"}}})
	h.wait("the names to be written again", func() bool { return h.store.writes > writes })
}

// TestBroken: names that the store has lost in a break of its history are known until their
// node has had time to say them again.
func TestBroken(t *testing.T) {
	h := newHost(t)
	h.put("blue", "overlay5000", "web", "web")
	lost, said := named("b", "10.42.1.5", 1), named("b", "10.42.1.6", 2)
	h.store.do([]overlay.Name{lost, said})
	h.knows("both", lost.NameKey, said.NameKey)
	h.store.mu.Lock()
	clear(h.store.names)
	h.store.mu.Unlock()
	h.store.tell("blue", overlay.Update{Full: true, Broken: errAway})
	h.stays("what was known", func() bool { return len(h.directory.remote) == 2 })
	h.store.do([]overlay.Name{said})
	h.stays("what was known", func() bool { return len(h.directory.remote) == 2 })
	h.forgetStale(time.Now().Add(linger))
	h.knows("what was said again", said.NameKey)
}

// TestFollow: a node names what is its own, on networks that this host has containers
// on.
func TestFollow(t *testing.T) {
	h := newHost(t)
	var log buffer
	h.Log = slog.New(slog.NewTextHandler(&log, nil))
	b := overlaytest.Node("b", 1)
	good, foreign, outside := named("b", "10.42.1.5", 1), named("b", "10.42.2.5", 2), named("b", "10.9.9.9", 3)
	nobody := named("c", "10.42.3.5", 4)
	unknown := overlaytest.Called("none", "b", 5)
	h.store.do([]overlay.Name{good, foreign, outside, nobody, unknown})
	h.stays("nothing, since nobody asks", func() bool { return len(h.directory.remote) == 0 })
	web := h.put("blue", "overlay5000", "web") // it asks, and has no name
	h.knows("what is b's", good.NameKey)
	h.tellRefused(time.Now().Add(2 * look))
	for _, want := range []string{"blue/b/c2:eth0", `10.42.2.5: is not of node \"b\", which has [10.42.1.0/24]`,
		"blue/b/c3:eth0", "10.9.9.9: is not of the network, [10.42.0.0/16]", "blue/c/c4:eth0"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %q:\n%s", want, log.String())
		}
	}
	lines := strings.Count(log.String(), "\n")
	h.tellRefused(time.Now().Add(3 * look))
	if n := strings.Count(log.String(), "\n"); lines != 3 || n != lines {
		t.Errorf("refusals are told in %d lines, then %d, want 3", lines, n)
	}
	// Blocks come and go.
	second := overlaytest.BlockOf("blue", "10.42.2.0/24", b)
	h.Learn(overlay.Update{Blocks: []overlay.Block{second}})
	h.knows("both", good.NameKey, foreign.NameKey)
	second.Node, second.Token = "c", overlaytest.Node("c", 2).Token
	h.Learn(overlay.Update{Nodes: []overlay.Node{overlaytest.Node("c", 2)}, Blocks: []overlay.Block{second}})
	h.knows("one, since the block is another's now", good.NameKey)
	h.Learn(overlay.Update{GoneBlocks: []overlay.BlockKey{{Network: "blue", Prefix: netip.MustParsePrefix("10.42.1.0/24")}}})
	h.knows("none")
	h.Learn(overlay.Update{Blocks: []overlay.Block{overlaytest.BlockOf("blue", "10.42.1.0/24", b)}})
	h.knows("it again", good.NameKey)
	h.Learn(overlay.Update{GoneNodes: []string{"b"}})
	h.knows("none of a node that was removed")
	h.Learn(overlay.Update{Nodes: []overlay.Node{b}})
	h.knows("it again", good.NameKey)
	// Names change: to what it may, and may not be.
	good.Names = []string{"another"}
	h.store.do([]overlay.Name{good})
	h.wait("the other name", func() bool { return h.directory.remote[good.NameKey].Names[0] == "another" })
	bad := good
	bad.Addresses = foreign.Addresses
	h.store.do([]overlay.Name{bad})
	h.knows("none")
	h.store.do([]overlay.Name{good})
	h.knows("it again", good.NameKey)
	// The last one here that asks goes.
	h.del(web)
	time.Sleep(50 * time.Millisecond)
	h.leaveIdle(time.Now())
	h.stays("what was known", func() bool { return len(h.directory.remote) == 1 })
	h.leaveIdle(time.Now().Add(linger))
	h.knows("nothing")
	h.wait("nobody to watch", func() bool { return len(h.store.watchers) == 0 })
	if len(h.refused) != 0 {
		t.Errorf("refusals of a network that is not followed: %v", h.refused)
	}
	h.put("blue", "overlay5000", "web")
	h.knows("it again", good.NameKey)
}

// buffer is a log that is written and read at a time.
type buffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestReady: before this host's containers are known, nothing that the store has of
// them is too much.
func TestReady(t *testing.T) {
	ready := make(chan struct{})
	h := newHost(t)
	h.Roster = New(Config{Node: "a", Names: h.store, Directory: h.directory, Ready: ready})
	done := make(chan struct{})
	go func() { defer close(done); h.Run(t.Context()) }()
	h.directory.Put(names.Entry{Key: attach.Key{Network: "blue", Container: "c", IfName: "eth0"}, Bridge: "overlay5000", Names: []string{"c"}})
	select {
	case <-done:
		t.Error("it has ended")
	case <-time.After(50 * time.Millisecond):
	}
	if len(h.asking) != 0 {
		t.Errorf("it has begun: %v", h.asking)
	}
}

// BenchmarkFollow learns 10,000 names of 100 hosts.
func BenchmarkFollow(b *testing.B) {
	const nodes, each = 100, 100
	u := overlay.Update{Full: true, Networks: []overlay.Network{netOf("blue", "10.42.0.0/16", 5000)}}
	var all []overlay.Name
	for i := range nodes {
		n := overlaytest.Node(fmt.Sprint("node", i), i)
		u.Nodes = append(u.Nodes, n)
		u.Blocks = append(u.Blocks, overlaytest.BlockOf("blue", fmt.Sprintf("10.42.%d.0/24", i), n))
		for j := range each {
			name := named(n.Name, fmt.Sprintf("10.42.%d.%d", i, j+2), i*each+j)
			name.Container = fmt.Sprintf("%064x", i*each+j)
			all = append(all, name)
		}
	}
	for b.Loop() {
		h := newHost(b)
		h.Learn(u)
		h.put("blue", "overlay5000", "web")
		h.wait("the watch", func() bool { return len(h.store.watchers) == 1 })
		n := h.networks["blue"]
		h.take(n, overlay.Update{Full: true, Names: all})
		h.Learn(u) // everything is judged anew
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*nodes*each), "ns/name")
}
