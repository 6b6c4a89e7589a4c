package vxlan

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// changes of a peer, one after the other, and what each costs.
var changes = []struct {
	name     string
	requests int
	edit     func(p *Peer)
}{
	{"add", 5, func(*Peer) {}},
	{"nothing", 0, func(*Peer) {}},
	{"underlay address", 1, func(p *Peer) { p.Underlay = node{id: 9}.underlay() }},
	{"MAC, and the underlay address back", 4, func(p *Peer) { p.MAC = node{id: 9}.mac() }},
	{"MTU, and the MAC back", 4 + 2, func(p *Peer) { p.MTU = 1300 }},
	{"MTU as ours", 2, func(*Peer) {}},
	{"second block", 1, func(p *Peer) { p.Blocks = append(p.Blocks, netip.MustParsePrefix("10.42.200.0/24")) }},
	{"first block gone", 4, func(p *Peer) { p.Blocks = append(p.Blocks[1:], netip.MustParsePrefix("10.42.200.0/24")) }},
	{"IPv4 gone", 2, func(p *Peer) { p.Blocks = p.Blocks[1:] }},
	{"remove", 3, nil},
	{"remove again", 0, nil},
}

// Every change of a peer leaves what a sync would have made, costs the requests that
// it needs, and wakes no watcher.
func TestPeerChanges(t *testing.T) {
	me := alone(t)
	h := open(t)
	other := node{id: 2}
	p := plane(t, h, me.device())
	mustSync(t, p)
	empty := resting(t)
	change := func(edit func(*Peer)) {
		t.Helper()
		err := error(nil)
		if edit == nil {
			err = p.RemovePeer(other.name())
		} else {
			peer := other.peer()
			edit(&peer)
			err = p.SetPeer(peer)
		}
		if err != nil {
			t.Error(err)
		}
	}
	for _, c := range changes {
		before := h.conn.Requests()
		change(c.edit)
		if got := h.conn.Requests() - before; got != c.requests {
			t.Errorf("%s cost %d requests, want %d", c.name, got, c.requests)
		}
		if n := mustSync(t, p); n.Total() != 0 {
			t.Errorf("%s: sync changed %s", c.name, n)
		}
		if out := output(t, "bridge fdb show dev vxlan42"); strings.Count(out, "\n") > 1 {
			t.Errorf("after %s the FDB has:\n%s", c.name, out)
		}
	}
	if got := settled(t, empty); got != empty {
		t.Errorf("what is left:\n%s", diff(empty, got))
	}
	n := watch(t, h)
	for range 5 { // as fast as it goes
		for _, c := range changes {
			change(c.edit)
		}
	}
	time.Sleep(20 * time.Millisecond)
	if s := n.take(); s != "" {
		t.Errorf("the watcher said %q of our own changes", s)
	}
}
