package agent

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/overlay"
)

// A network comes: the host claims a block, knows the peers, and ADDs can work. It
// goes: nothing is left.
func TestNetworkComesAndGoes(t *testing.T) {
	h := newHost(t)
	node, block := peer(1)
	h.store.put(overlay.Update{Networks: []overlay.Network{blue()}, Nodes: []overlay.Node{node}, Blocks: []overlay.Block{block}})
	h.start()
	h.until("the host has a block", func() bool { return len(h.local("blue").Blocks) == 1 })
	h.until("the peer is routed to", func() bool { return strings.Contains(h.kernel("ip route"), "10.42.1.0/24 via 10.42.1.0 dev vxlan4097") })
	if fdb := h.kernel("bridge fdb show dev vxlan4097"); !strings.Contains(fdb, overlay.MAC("blue", "p1").String()+" dst 192.0.2.11") {
		t.Errorf("FDB:\n%s", fdb)
	}
	h.until("the firewall knows the peer", func() bool { return strings.Contains(h.kernel("nft list set inet berth vteps4"), "192.0.2.11") })
	if l := h.local("blue"); l.MTU != 1450 || l.Refused != "" || l.Node != "a" {
		t.Errorf("local %+v", l)
	}
	h.until("ready", func() bool { return h.agent.Status().Ready })
	conf := filepath.Join(h.conf.ConfDir, "blue.conflist")
	data, err := os.ReadFile(conf)
	if err != nil {
		t.Error(err)
	}
	installed := filepath.Join(h.conf.NetDir, "blue.conflist") // by a person
	if err := os.WriteFile(installed, data, 0o644); err != nil {
		t.Error(err)
	}

	// One more peer, one that moves, and one that goes.
	node2, block2 := peer(2)
	h.store.put(overlay.Update{Nodes: []overlay.Node{node2}, Blocks: []overlay.Block{block2}})
	h.until("the second peer", func() bool { return strings.Contains(h.kernel("ip route"), "10.42.2.0/24") })
	node2.Address = netip.MustParseAddr("192.0.2.77")
	h.store.put(overlay.Update{Nodes: []overlay.Node{node2}})
	h.until("its new address", func() bool {
		fdb := h.kernel("bridge fdb show dev vxlan4097")
		return strings.Contains(fdb, "dst 192.0.2.77") && !strings.Contains(fdb, "dst 192.0.2.12")
	})
	h.until("the firewall knows it", func() bool {
		set := h.kernel("nft list set inet berth vteps4")
		return strings.Contains(set, "192.0.2.77") && !strings.Contains(set, "192.0.2.12")
	})
	h.store.put(overlay.Update{GoneNodes: []string{"p2"}, GoneBlocks: []overlay.BlockKey{block2.Key()}, Removed: []overlay.Removal{{Node: "p2", ID: node2.Token, At: time.Now()}}})
	h.until("the second peer is gone", func() bool { return !strings.Contains(h.kernel("ip route"), "10.42.2.0/24") })

	h.store.remove(false)
	h.until("the network is gone", func() bool { return len(links(t)) == 0 && h.local("blue").Node == "" })
	if out := h.kernel("ip route show proto 98"); out != "" {
		t.Errorf("routes left: %s", out)
	}
	for _, f := range []string{conf, installed} {
		if _, err := os.Stat(f); err == nil {
			t.Errorf("%s is left", f)
		}
	}
	h.stop()
	if !h.store.left {
		t.Error("the agent has not said good-bye")
	}
}

// Whatever somebody does to the kernel is undone.
func TestRepairs(t *testing.T) {
	h := newHost(t)
	h.conf.Resync = time.Hour // the kernel's events alone
	node, block := peer(1)
	h.store.put(overlay.Update{Networks: []overlay.Network{blue()}, Nodes: []overlay.Node{node}, Blocks: []overlay.Block{block}})
	h.start()
	whole := func() string {
		// The elements of a set come in no order.
		table := strings.FieldsFunc(h.kernel("nft -s list table inet berth"), func(r rune) bool { return strings.ContainsRune(" \t\n,", r) })
		slices.Sort(table)
		return h.kernel("ip -br link show dev vxlan4097") + h.kernel("ip route show proto 98") + h.kernel("bridge fdb show dev vxlan4097") + h.kernel("ip neigh show dev vxlan4097") +
			strings.Join(table, " ")
	}
	h.until("ready, with the peer", func() bool {
		return h.agent.Status().Ready && strings.Contains(whole(), "10.42.1.0/24") && strings.Contains(whole(), "192.0.2.11")
	})
	want := whole()
	for _, harm := range []string{
		"ip link del vxlan4097", "ip link set vxlan4097 down", "ip route del 10.42.1.0/24 proto 98", "ip route flush proto 98",
		"ip neigh flush dev vxlan4097 nud permanent", "bridge fdb del " + overlay.MAC("blue", "p1").String() + " dev vxlan4097",
		"nft flush ruleset", "nft delete table inet berth",
	} {
		run(t, harm)
		h.until(harm+": undone", func() bool { return whole() == want })
		if t.Failed() {
			t.Fatalf("want:\n%s\ngot:\n%s", want, whole())
		}
	}
}

// The agent starts again while the store is away: it goes on with what it knew, and
// changes nothing.
func TestStartWithoutStore(t *testing.T) {
	h := newHost(t)
	node, block := peer(1)
	h.store.put(overlay.Update{Networks: []overlay.Network{blue()}, Nodes: []overlay.Node{node}, Blocks: []overlay.Block{block}})
	h.start()
	h.until("ready", func() bool { return h.agent.Status().Ready })
	h.until("the peer is routed to", func() bool { return strings.Contains(h.kernel("ip route"), "10.42.1.0/24") })
	before := h.local("blue")
	h.stop()
	if !strings.Contains(h.kernel("ip route"), "10.42.1.0/24") {
		t.Error("the data plane went with the agent")
	}
	h.store.setAway(true)
	for _, reboot := range []bool{false, true} {
		if reboot {
			run(t, "ip link del vxlan4097")
			run(t, "nft flush ruleset")
		}
		h.start()
		h.until("ready", func() bool { return h.agent.Status().Ready && h.agent.Status().Store.Away })
		h.until("the peer is routed to", func() bool { return strings.Contains(h.kernel("ip route"), "10.42.1.0/24") })
		if now := h.local("blue"); !slices.Equal(now.Blocks, before.Blocks) || now.Refused != "" {
			t.Errorf("local %+v, was %+v", now, before)
		}
		h.stop()
	}
}

// Another host has the name: the blocks must not be used, until it has not.
func TestRefused(t *testing.T) {
	h := newHost(t)
	h.store.put(overlay.Update{Networks: []overlay.Network{blue()}, Nodes: []overlay.Node{{Name: "a", Token: "another", Address: netip.MustParseAddr("192.0.2.99"), MTU: 1500}}})
	h.start()
	h.until("refused", func() bool {
		return strings.Contains(h.local("blue").Refused, `node name "a" is another host's (address 192.0.2.99`)
	})
	if s := h.agent.Status(); s.Ready || len(h.local("blue").Blocks) != 0 {
		t.Errorf("status %+v", s)
	}
}

// A disk that came from another machine is not trusted before the store is asked.
func TestMovedDisk(t *testing.T) {
	h := newHost(t)
	h.store.put(overlay.Update{Networks: []overlay.Network{blue()}})
	h.start()
	h.until("ready", func() bool { return h.agent.Status().Ready })
	h.stop()
	id, err := overlay.ReadIdentity(h.conf.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	id.Hardware = "another machine"
	if err := id.Write(h.conf.DataDir); err != nil {
		t.Fatal(err)
	}
	h.store.setAway(true)
	h.start()
	h.until("refused", func() bool { return strings.Contains(h.local("blue").Refused, "another machine") })
	h.store.setAway(false)
	h.until("trusted", func() bool { return h.local("blue").Refused == "" })
}

// A name that the host did not have before is refused, since its containers use the
// blocks of the old one.
func TestRenamed(t *testing.T) {
	h := newHost(t)
	h.start()
	h.until("ready", func() bool { return h.agent.Status().Ready })
	if a, err := New(h.conf); err != nil || a.Run(t.Context()) != overlay.ErrAgentRuns {
		t.Error("a second agent runs")
	}
	h.stop()
	h.conf.Node = "b"
	a, err := New(h.conf)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Run(t.Context()); err == nil || !strings.Contains(err.Error(), `this host is node "a"`) {
		t.Errorf("got %v", err)
	}
}

// A block that is nearly full is followed by another one.
func TestSecondBlock(t *testing.T) {
	h := newHost(t)
	n := blue()
	n.NodePrefix = []int{28} // 13 containers
	h.store.put(overlay.Update{Networks: []overlay.Network{n}})
	h.start()
	h.until("a block", func() bool { return len(h.local("blue").Blocks) == 1 })
	first := h.local("blue").Blocks[0]
	err := h.conf.Records.Update(t.Context(), func(tx *attach.Tx) error {
		addr := overlay.Gateway(first)
		for range 10 {
			addr = addr.Next()
			if err := tx.Lease(addr, attach.Key{Network: "blue", Container: addr.String(), IfName: "eth0"}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	h.until("a second block", func() bool { return len(h.local("blue").Blocks) == 2 })
	h.until("the store knows that the first is in use", func() bool {
		h.store.Lock()
		defer h.store.Unlock()
		return h.store.state.Blocks[overlay.BlockKey{Network: "blue", Prefix: first}].Used
	})
	time.Sleep(300 * time.Millisecond)
	if l := h.local("blue"); len(l.Blocks) != 2 {
		t.Errorf("blocks %v: two are enough", l.Blocks)
	}
}

// The host was removed from the store while it was away, and its block given to
// another one: it comes again, with another block.
func TestRemovedNode(t *testing.T) {
	h := newHost(t)
	h.store.put(overlay.Update{Networks: []overlay.Network{blue()}})
	h.start()
	h.until("ready", func() bool { return h.agent.Status().Ready })
	first := h.local("blue").Blocks[0]
	h.stop()
	other, _ := peer(1)
	h.store.put(overlay.Update{GoneNodes: []string{"a"}, GoneBlocks: []overlay.BlockKey{{Network: "blue", Prefix: first}},
		Removed: []overlay.Removal{{Node: "a", ID: h.agent.id.Token, At: time.Now()}}})
	h.store.put(overlay.Update{Nodes: []overlay.Node{other}, Blocks: []overlay.Block{{Network: "blue", Prefix: first, Node: other.Name, Token: other.Token}}})
	h.start()
	h.until("another block", func() bool {
		l := h.local("blue")
		return len(l.Blocks) == 1 && l.Blocks[0] != first
	})
	h.until("the old block is routed to its owner", func() bool { return strings.Contains(h.kernel("ip route"), first.String()+" via") })
}

// A subnet that the host reaches otherwise is not used.
func TestHostRoute(t *testing.T) {
	h := newHost(t)
	run(t, "ip route add 10.42.7.0/24 via 192.0.2.253")
	h.store.put(overlay.Update{Networks: []overlay.Network{blue()}})
	h.start()
	h.until("refused", func() bool {
		return strings.Contains(h.local("blue").Refused, "subnet 10.42.0.0/16 overlaps this host's route to 10.42.7.0/24")
	})
	h.until("not ready", func() bool {
		s := h.agent.Status()
		return !s.Ready && strings.HasPrefix(s.Why, "network blue: ") && strings.Contains(s.Why, "subnet 10.42.0.0/16 overlaps")
	})
}

// A network that is in an older one's way keeps the host from being ready, and the older
// one works.
func TestConflict(t *testing.T) {
	h := newHost(t)
	red := blue()
	red.Name, red.ID, red.Created = "red", "2", red.Created.Add(time.Hour)
	h.store.put(overlay.Update{Networks: []overlay.Network{blue(), red}})
	h.start()
	h.until("not ready", func() bool {
		s := h.agent.Status()
		return !s.Ready && strings.Contains(s.Why, "network red: it is in another network's way: vni: 4097: is that of network")
	})
	h.until("the older one has a block", func() bool { l := h.local("blue"); return len(l.Blocks) == 1 && l.Refused == "" })
	h.store.put(overlay.Update{GoneNetworks: []string{"red"}})
	h.until("ready", func() bool { return h.agent.Status().Ready })
}

// The host's address and MTU change.
func TestUnderlayChanges(t *testing.T) {
	h := newHost(t)
	node, block := peer(1)
	h.store.put(overlay.Update{Networks: []overlay.Network{blue()}, Nodes: []overlay.Node{node}, Blocks: []overlay.Block{block}})
	h.start()
	h.until("ready", func() bool { return h.agent.Status().Ready })
	run(t, "ip address add 192.0.2.50/24 dev under0")
	run(t, "ip address del 192.0.2.1/24 dev under0")
	run(t, "ip link set under0 mtu 1400")
	run(t, "ip address replace 192.0.2.50/24 dev under0")
	run(t, "ip route replace default via 192.0.2.254")
	h.until("the device follows", func() bool {
		out := h.kernel("ip -d link show dev vxlan4097")
		return strings.Contains(out, "local 192.0.2.50") && strings.Contains(out, "mtu 1350")
	})
	h.until("the store knows", func() bool {
		h.store.Lock()
		defer h.store.Unlock()
		return h.store.state.Nodes["a"].Address == netip.MustParseAddr("192.0.2.50") && h.store.state.Nodes["a"].MTU == 1400
	})
	if l := h.local("blue"); l.MTU != 1350 {
		t.Errorf("local MTU %d", l.MTU)
	}
}
