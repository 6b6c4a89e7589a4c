package agent

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/overlay"
)

// A new network does not get the bridge of a removed one that has containers.
func TestVNIReuse(t *testing.T) {
	h := newHost(t)
	h.store.put(overlay.Update{Networks: []overlay.Network{blue()}})
	h.start()
	h.until("ready", func() bool { return h.agent.Status().Ready })
	c := overlay.Gateway(h.local("blue").Blocks[0]).Next()
	bridgeLike(t, "overlay4097", netip.PrefixFrom(c.Prev(), 24).String())
	h.attachFake("blue", c)
	h.store.remove(true)
	h.until("refused", func() bool { return h.local("blue").Refused != "" })
	red := blue()
	red.Name, red.ID, red.Subnets = "red", "2", []netip.Prefix{netip.MustParsePrefix("10.43.0.0/16")}
	h.store.put(overlay.Update{Networks: []overlay.Network{red}})
	time.Sleep(time.Second)
	if l := h.local("red"); l.Node != "" && l.Refused == "" {
		t.Errorf("red may be used on blue's bridge %s: %+v", l.Network.Bridge(), l)
	}
	// The last of blue's goes; red's container has a port on the bridge.
	if err := h.conf.Records.Del(t.Context(), attach.Key{Network: "blue", Container: "c" + c.String(), IfName: "eth0"}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	if out := h.kernel("ip -br link show dev overlay4097"); out == "" {
		t.Error("the bridge went (with red's containers on it, had they been let on)")
	}
	h.until("red can be used", func() bool { l := h.local("red"); return l.Refused == "" && len(l.Blocks) == 1 })
	h.until("red has its device", func() bool { return strings.Contains(h.kernel("ip -br link"), "vxlan4097") })
}

// Nonsense in a network's key takes no peer away.
func TestSpoiledPeer(t *testing.T) {
	h := newHost(t)
	node, block := peer(1)
	h.store.put(overlay.Update{Networks: []overlay.Network{blue()}, Nodes: []overlay.Node{node}, Blocks: []overlay.Block{block}})
	h.start()
	h.until("peer", func() bool { return strings.Contains(h.kernel("ip route"), "10.42.1.0/24") })
	h.until("ready", func() bool { return h.agent.Status().Ready })
	h.store.put(overlay.Update{GoneNetworks: []string{"blue"}, Bad: []overlay.BadKey{{Key: "/berth/networks/blue", Err: errors.New("nonsense")}}})
	node.Seen = time.Now()
	h.store.put(overlay.Update{Nodes: []overlay.Node{node}})
	time.Sleep(300 * time.Millisecond)
	if !strings.Contains(h.kernel("ip route"), "10.42.1.0/24") {
		t.Error("network key spoiled, then a peer was seen: its route is gone")
	}
}

// Nonsense in a node's key takes no peer away.
func TestSpoiledNode(t *testing.T) {
	h := newHost(t)
	node, block := peer(1)
	h.store.put(overlay.Update{Networks: []overlay.Network{blue()}, Nodes: []overlay.Node{node}, Blocks: []overlay.Block{block}})
	h.start()
	h.until("peer", func() bool { return strings.Contains(h.kernel("ip route"), "10.42.1.0/24") })
	h.store.put(overlay.Update{GoneNodes: []string{"p1"}, Bad: []overlay.BadKey{{Key: "/berth/nodes/p1", Err: errors.New("nonsense")}}})
	time.Sleep(300 * time.Millisecond)
	if !strings.Contains(h.kernel("ip route"), "10.42.1.0/24") {
		t.Error("node key spoiled: its route is gone")
	}
}
