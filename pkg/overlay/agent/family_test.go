package agent

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
)

func (h *host) stored(node string) netip.Addr {
	h.store.Lock()
	defer h.store.Unlock()
	return h.store.state.Nodes[node].Address
}

// A host that boots, and has IPv6 before DHCP answers, does not tell the store of it: it
// knows from before which family the others use.
func TestFamilyAtBoot(t *testing.T) {
	h := newHost(t)
	h.conf.Underlay = "under0"
	h.store.put(overlay.Update{Networks: []overlay.Network{blue()}})
	for i := range 3 {
		node, block := peer(i + 1)
		h.store.put(overlay.Update{Nodes: []overlay.Node{node}, Blocks: []overlay.Block{block}})
	}
	h.start()
	h.until("ready", func() bool { return h.agent.Status().Ready })
	h.stop()
	run(t, "ip -6 address add fd00:9::1/64 dev under0 nodad")
	run(t, "ip address del 192.0.2.1/24 dev under0")
	h.start()
	const why = "this host has only fd00:9::1 on under0, the overlay's hosts use IPv4: p1, p2, p3"
	h.until("not ready", func() bool { s := h.agent.Status(); return !s.Ready && s.Why == why })
	time.Sleep(300 * time.Millisecond)
	if addr := h.stored("a"); addr != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("the store knows the host at %s", addr)
	}
	run(t, "ip address add 192.0.2.1/24 dev under0")
	h.until("ready", func() bool { return h.agent.Status().Ready })
	h.until("the peer is routed to", func() bool { return strings.Contains(h.kernel("ip route"), "10.42.1.0/24 via 10.42.1.0") })
}

// The underlay goes, for which the host is not ready, and comes back. What was goes on.
func TestUnderlayGone(t *testing.T) {
	h := newHost(t)
	h.conf.Underlay = "under0"
	h.conf.Resync = time.Hour
	node, block := peer(1)
	h.store.put(overlay.Update{Networks: []overlay.Network{blue()}, Nodes: []overlay.Node{node}, Blocks: []overlay.Block{block}})
	h.start()
	h.until("ready", func() bool { return h.agent.Status().Ready })
	run(t, "ip address del 192.0.2.1/24 dev under0")
	h.until("not ready", func() bool { return strings.Contains(h.agent.Status().Why, "device under0 has no address") })
	if !strings.Contains(h.kernel("ip route"), "10.42.1.0/24 via") {
		t.Error("the route to the peer went")
	}
	run(t, "ip address add 192.0.2.1/24 dev under0")
	h.until("ready", func() bool { return h.agent.Status().Ready })
}

// A host whose address somebody has chosen does not wait for another one.
func TestChosenAddress(t *testing.T) {
	h := newHost(t)
	run(t, "ip -6 address add fd00:9::1/64 dev under0 nodad")
	h.conf.Underlay = "fd00:9::1"
	node, block := peer(1)
	h.store.put(overlay.Update{Networks: []overlay.Network{blue()}, Nodes: []overlay.Node{node}, Blocks: []overlay.Block{block}})
	h.start()
	h.until("known to the store", func() bool { return h.stored("a") == netip.MustParseAddr("fd00:9::1") })
	h.until("not ready", func() bool { return strings.Contains(h.agent.Status().Why, "use IPv4: p1") })
}

// Of a device's addresses one that is there to stay is taken; the one in use, as long as the
// device has it.
func TestAddressThatStays(t *testing.T) {
	newHost(t)
	for _, c := range []struct{ change, now, want string }{
		{"ip -6 address add fd00:9::1/64 dev under0 preferred_lft 0 nodad", "", "fd00:9::1"},
		{"ip -6 address add fd00:9::2/64 dev under0 nodad", "", "fd00:9::2"},
		{"ip -6 address add fd00:9::3/64 dev under0 preferred_lft 0 nodad", "", "fd00:9::2"},
		{"ip -6 address add fd00:9::4/64 dev under0 nodad", "fd00:9::2", "fd00:9::2"},
		{"ip -6 address change fd00:9::2/64 dev under0 preferred_lft 0", "fd00:9::2", "fd00:9::2"},
		{"ip -6 address del fd00:9::2/64 dev under0", "fd00:9::2", "fd00:9::4"},
	} {
		run(t, c.change)
		now, _ := netip.ParseAddr(c.now)
		all, err := findUnderlays("under0", now)
		if err != nil || len(all) != 2 || all[0].addr.String() != "192.0.2.1" || all[1].addr.String() != c.want {
			t.Errorf("%s: %v, %v; want %s", c.change, all, err, c.want)
		}
	}
	// One that is looked for a duplicate of is not there yet.
	run(t, "ip link set under1 down") // no carrier: it is not looked for until there is one
	run(t, "ip -6 address flush dev under0")
	run(t, "ip -6 address add fd00:9::5/64 dev under0")
	if all, err := findUnderlays("under0", netip.Addr{}); err != nil || len(all) != 1 {
		t.Errorf("with a tentative address: %v, %v", all, err)
	}
}
