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
