package agent

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/overlay"
)

// replace gives the store another content and history.
func (m *memory) replace(u overlay.Update) {
	u.Full = true
	m.put(u)
}

// index is the kernel's number of a device: another one, and it was made anew.
func (h *host) index(device string) string {
	text, _, _ := strings.Cut(h.kernel("ip -o link show dev "+device), ":")
	return text
}

// used is a host with blue, a peer, and a container on blue's bridge.
func used(t *testing.T) (h *host, container netip.Addr) {
	h = newHost(t)
	node, block := peer(1)
	h.store.put(overlay.Update{Networks: []overlay.Network{blue()}, Nodes: []overlay.Node{node}, Blocks: []overlay.Block{block},
		History: overlay.History{Incarnation: "A", Cluster: 1, Revision: 100}})
	h.start()
	h.until("ready", func() bool { return h.agent.Status().Ready })
	h.until("the peer is routed to", func() bool { return h.reaches("10.42.1.0/24") })
	container = overlay.Gateway(h.local("blue").Blocks[0]).Next()
	bridgeLike(t, "overlay4097", netip.PrefixFrom(container.Prev(), 24).String())
	h.attachFake("blue", container)
	return h, container
}

func (h *host) reaches(block string) bool {
	return strings.Contains(h.kernel("ip route"), block+" via")
}

// leave has a container go, with its interface.
func (h *host) leave(network string, addr netip.Addr) {
	h.t.Helper()
	h.kernel("ip link set v-overlay4097 nomaster")
	h.lose(network, addr)
}

// lose deletes the record alone.
func (h *host) lose(network string, addr netip.Addr) {
	h.t.Helper()
	if err := h.conf.Records.Del(h.t.Context(), attach.Key{Network: network, Container: "c" + addr.String(), IfName: "eth0"}); err != nil {
		h.t.Fatal(err)
	}
}

// The store comes back as another one, and empty: everything goes on, and is given back.
func TestStoreEmptied(t *testing.T) {
	h, _ := used(t)
	token, dev, first := h.agent.id.Token, h.index("vxlan4097"), h.local("blue").Blocks[0]
	peer2, _ := peer(2)
	h.store.replace(overlay.Update{History: overlay.History{Incarnation: "B", Cluster: 1, Revision: 2},
		Nodes: []overlay.Node{{Name: "a", Token: token, Address: netip.MustParseAddr("192.0.2.1"), MTU: 1500}}, // which registers by itself
		// A host that misses something else: nobody gives anything back.
		Alive:  []overlay.Alive{{Node: peer2.Name, Instance: "1", Address: peer2.Address}},
		Missed: []overlay.Missed{{Node: peer2.Name, Token: peer2.Token, Networks: []string{"another"}}}})
	h.until("it is told", func() bool {
		s := h.agent.Status().Store
		return s.Broken != "" && slices.Equal(s.LostNetworks, []string{"blue"}) && slices.Equal(s.LostNodes, []string{"p1"}) && s.LostBlocks == 1
	})
	time.Sleep(time.Second)
	if h.index("vxlan4097") != dev || !h.reaches("10.42.1.0/24") || h.local("blue").Refused != "" {
		t.Errorf("the network does not go on: %+v", h.agent.Status())
	}
	if len(h.store.state.Networks) != 0 {
		t.Error("given back although not all hosts say the same")
	}
	h.store.put(overlay.Update{Missed: []overlay.Missed{{Node: peer2.Name, Token: peer2.Token, Networks: []string{blue().ID}}}})
	h.until("given back", func() bool {
		h.store.Lock()
		defer h.store.Unlock()
		s := h.store.state
		n, was := s.Networks["blue"], blue()
		return n.Same(&was) && s.Nodes["p1"].Token == "tp1" && len(s.Blocks) == 2 && s.Nodes["a"].Token == token && slices.Contains(s.BlocksOf("blue", "a"), first)
	})
	h.until("whole", func() bool { s := h.agent.Status().Store; return s.Broken == "" && len(s.LostNetworks) == 0 })
	if h.index("vxlan4097") != dev || h.agent.id.Token != token {
		t.Error("the device or the token is another one")
	}
}

// A store that lets a host write only what is its own is asked once.
func TestGiveBackDenied(t *testing.T) {
	h, _ := used(t)
	h.store.Lock()
	h.store.denied = true
	h.store.Unlock()
	h.store.replace(overlay.Update{History: overlay.History{Incarnation: "B"}})
	asked := func() int {
		h.store.Lock()
		defer h.store.Unlock()
		return h.store.restores
	}
	h.until("it is asked", func() bool { return asked() == 1 })
	time.Sleep(12 * h.conf.Resync)
	if n := asked(); n != 1 {
		t.Errorf("the store was asked %d times", n)
	}
	if s := h.agent.Status().Store; s.Broken == "" || len(s.LostNetworks) != 1 {
		t.Errorf("what is lost is not told: %+v", s)
	}
}

// The agent starts again while the store is empty: it knows what it knew.
func TestEmptiedRestart(t *testing.T) {
	h, _ := used(t)
	peer2, _ := peer(2)
	h.store.replace(overlay.Update{History: overlay.History{Incarnation: "B"}, Alive: []overlay.Alive{{Node: peer2.Name}},
		Missed: []overlay.Missed{{Node: peer2.Name, Networks: []string{"another"}}}})
	h.until("it is told", func() bool { return h.agent.Status().Store.Broken != "" })
	h.stop()
	h.start()
	h.until("it is still told", func() bool {
		s := h.agent.Status().Store
		return s.Broken != "" && len(s.LostNetworks) == 1 && len(s.LostNodes) == 1
	})
	if !h.reaches("10.42.1.0/24") || h.local("blue").Refused != "" {
		t.Errorf("the network does not go on: %+v", h.agent.Status())
	}
}

// Keys that somebody deleted by other means are no order, and are not given back without
// one either.
func TestDeletedByHand(t *testing.T) {
	h, _ := used(t)
	node, block := peer(1)
	h.store.put(overlay.Update{GoneNetworks: []string{"blue"}, GoneNodes: []string{node.Name}, GoneBlocks: []overlay.BlockKey{block.Key()}})
	h.until("it is told", func() bool { return len(h.agent.Status().Store.LostNetworks) == 1 })
	time.Sleep(time.Second)
	if !h.reaches("10.42.1.0/24") || h.local("blue").Refused != "" || h.agent.Status().Store.Broken != "" {
		t.Errorf("the network does not go on: %+v", h.agent.Status())
	}
	h.store.Lock()
	n := len(h.store.state.Networks)
	h.store.Unlock()
	if n != 0 {
		t.Error("the network is back, though somebody may have meant it")
	}
	h.store.put(overlay.Update{Networks: []overlay.Network{blue()}, Nodes: []overlay.Node{node}, Blocks: []overlay.Block{block}})
	h.until("whole", func() bool {
		s := h.agent.Status().Store
		return len(s.LostNetworks)+len(s.LostNodes)+s.LostBlocks == 0
	})
}

// A removal without force waits for the containers of this host, over a restart, too.
func TestRemovedUnderContainers(t *testing.T) {
	h, c := used(t)
	dev := h.index("vxlan4097")
	goesOn := func() bool {
		s := h.agent.Status()
		return len(s.Networks) == 1 && strings.Contains(s.Networks[0].Problem, "removed by \"root@a\"") && strings.Contains(s.Networks[0].Problem, "1 containers") &&
			strings.HasPrefix(h.local("blue").Refused, overlay.RefusedRemoved) && h.reaches("10.42.1.0/24") && h.index("vxlan4097") == dev
	}
	h.store.remove(false)
	h.until("it goes on", goesOn)
	h.stop()
	h.start()
	h.until("it goes on after a restart", goesOn)
	time.Sleep(500 * time.Millisecond)
	if !goesOn() {
		t.Errorf("it does not: %+v", h.agent.Status().Networks)
	}
	h.leave("blue", c)
	h.until("gone with the last container", func() bool { return len(links(t)) == 0 && h.local("blue").Node == "" && !h.reaches("10.42.1.0/24") })
}

// A container whose record is lost counts as well: its interface is on the bridge.
func TestRemovedUnderPorts(t *testing.T) {
	h, c := used(t)
	bridge := h.index("overlay4097")
	h.lose("blue", c)
	h.store.remove(false)
	h.until("it is told", func() bool {
		s := h.agent.Status()
		return len(s.Networks) == 1 && strings.Contains(s.Networks[0].Problem, "1 containers")
	})
	time.Sleep(500 * time.Millisecond)
	if !h.reaches("10.42.1.0/24") || h.index("overlay4097") != bridge {
		t.Errorf("it does not go on: %+v", h.agent.Status().Networks)
	}
	h.kernel("ip link set v-overlay4097 nomaster")
	h.until("gone with the last port", func() bool { return len(links(t)) == 0 && h.local("blue").Node == "" })
}

// A node that was removed while the store had an order, and not by chance, is a new one.
func TestTokenOutlivesStore(t *testing.T) {
	h, _ := used(t)
	token := h.agent.id.Token
	h.stop()
	h.store.put(overlay.Update{GoneNodes: []string{"a"}})
	h.start()
	h.until("registered", func() bool { return h.agent.Status().Store.Registered })
	if h.agent.id.Token != token {
		t.Error("another token, though nobody has removed the host")
	}
}

// TestHostileKey: keys in the way of a network, whatever their names, neither take
// anything from it while they are there, nor when they go.
func TestHostileKey(t *testing.T) {
	h, _ := used(t)
	dev, bridge := h.index("vxlan4097"), h.index("overlay4097")
	whole := func(when string) {
		t.Helper()
		for range 5 {
			if h.index("vxlan4097") != dev || h.index("overlay4097") != bridge || !h.reaches("10.42.1.0/24") || h.local("blue").Refused != "" {
				t.Fatalf("%s: blue is not what it was: device %s (%s), bridge %s (%s), %+v\n%s", when, h.index("vxlan4097"), dev, h.index("overlay4097"), bridge, h.local("blue"), h.kernel("ip route"))
			}
			if !strings.Contains(h.kernel("nft list set inet berth vteps4"), "192.0.2.11") {
				t.Fatalf("%s: the firewall does not know blue's peer", when)
			}
			time.Sleep(60 * time.Millisecond)
		}
	}
	for i, name := range []string{"aaa", "zzz"} {
		for what, spoil := range map[string]func(*overlay.Network){
			"same VNI":    func(n *overlay.Network) { n.Subnets = []netip.Prefix{netip.MustParsePrefix("10.99.0.0/16")} },
			"same subnet": func(n *overlay.Network) { n.VNI = 5000 },
			"a part of it": func(n *overlay.Network) {
				n.VNI, n.Subnets = 5001, []netip.Prefix{netip.MustParsePrefix("10.42.0.0/20")}
			},
			"same VNI and subnet": func(*overlay.Network) {},
			"same, and older":     func(n *overlay.Network) { n.Created = time.Time{} },
		} {
			evil := blue()
			evil.Name, evil.ID, evil.Created, evil.Revision = name, fmt.Sprint("evil", name, what), time.Unix(9, 0), 7
			spoil(&evil)
			_, block := peer(1)
			block.Network = name
			h.store.put(overlay.Update{Networks: []overlay.Network{evil}, Blocks: []overlay.Block{block}})
			h.until("refused", func() bool { return strings.HasPrefix(h.local(name).Refused, overlay.RefusedConflict) })
			whole(name + " with " + what)
			h.stop()
			h.start()
			h.until("ready", func() bool { return h.agent.Status().Store.Registered })
			whole(name + " with " + what + " after a restart")
			h.store.put(overlay.Update{GoneNetworks: []string{name}, GoneBlocks: []overlay.BlockKey{block.Key()},
				Removed: []overlay.Removal{{Network: name, ID: evil.ID, At: time.Now(), Forced: i == 0}}})
			h.until("gone", func() bool { return h.local(name).Node == "" })
			whole(name + " with " + what + " is gone")
		}
	}
	// The network's own key says another place in the kernel.
	evil := blue()
	evil.VNI = 5002
	h.store.put(overlay.Update{Networks: []overlay.Network{evil}})
	whole("its own key with another VNI")
}
