package agent

import (
	"bytes"
	"context"

	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/overlay"
	"golang.org/x/sys/unix"
)

type logBuf struct {
	sync.Mutex
	b bytes.Buffer
}

func (l *logBuf) Write(p []byte) (int, error) { l.Lock(); defer l.Unlock(); return l.b.Write(p) }
func (l *logBuf) count(s string) int {
	l.Lock()
	defer l.Unlock()
	return strings.Count(l.b.String(), s)
}

// attachFake leases an address and, if record, writes a record.
func (h *host) attachFake(network string, addr netip.Addr) {
	h.t.Helper()
	a := &attach.Attachment{Key: attach.Key{Network: network, Container: "c" + addr.String(), IfName: "eth0"}, Leases: []netip.Addr{addr}}
	err := h.conf.Records.Update(h.t.Context(), func(tx *attach.Tx) error { return tx.Lease(addr, a.Key) })
	if err == nil {
		err = h.conf.Records.Add(h.t.Context(), &attach.Adding{Attachment: a})
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

func bridgeLike(t *testing.T, name, addr string) {
	run(t, "ip link add "+name+" type bridge")
	run(t, "ip link set "+name+" up")
	run(t, "ip address add "+addr+" dev "+name)
	run(t, "ip link add v-"+name+" type veth peer name w-"+name)
	run(t, "ip link set v-"+name+" master "+name+" up")
	run(t, "ip link set w-"+name+" up")
	t.Cleanup(func() { run(t, "ip link del v-"+name) })
}

// A block is given to another host while containers use it.
func TestLostBlock(t *testing.T) {
	h := newHost(t)
	h.store.put(overlay.Update{Networks: []overlay.Network{blue()}})
	h.start()
	h.until("ready", func() bool { return h.agent.Status().Ready })
	first := h.local("blue").Blocks[0]
	gw := overlay.Gateway(first)
	bridgeLike(t, "overlay4097", netip.PrefixFrom(gw, 24).String())
	h.attachFake("blue", gw.Next())
	time.Sleep(time.Second)
	other, _ := peer(1)
	h.store.put(overlay.Update{Nodes: []overlay.Node{other}, Blocks: []overlay.Block{{Network: "blue", Prefix: first, Node: other.Name, Token: other.Token}}})
	h.until("another block", func() bool {
		l := h.local("blue")
		return len(l.Blocks) == 1 && l.Blocks[0] != first
	})
	time.Sleep(time.Second)
	s := h.agent.Status()
	t.Logf("problem %q", s.Networks[0].Problem)
	t.Logf("routes:\n%s", h.kernel("ip route"))
	if !strings.Contains(s.Networks[0].Problem, "given to other hosts") {
		t.Error("the lost block is not told of")
	}
	if !strings.Contains(h.kernel("ip route show "+first.String()), "dev overlay4097") {
		t.Error("containers of the block are cut off from their host")
	}
}

// A block that cannot be claimed is not asked for again and again.
func TestClaimSpin(t *testing.T) {
	h := newHost(t)
	h.store.put(overlay.Update{Networks: []overlay.Network{blue()}})
	h.start()
	h.until("ready", func() bool { return h.agent.Status().Ready })
	first := h.local("blue").Blocks[0]
	s := &refusing{h.store}
	h.stop()
	h.conf.Store = s
	h.start()
	h.until("ready", func() bool { return h.agent.Status().Ready })
	h.store.Lock()
	before := h.store.claims
	h.store.Unlock()
	h.store.put(overlay.Update{GoneBlocks: []overlay.BlockKey{{Network: "blue", Prefix: first}}})
	time.Sleep(time.Second)
	h.store.Lock()
	n := h.store.claims - before
	h.store.Unlock()
	t.Logf("%d claims; status %+v", n, h.agent.Status())
	if n > 20 {
		t.Errorf("%d claims in a second", n)
	}
}

type refusing struct{ *memory }

func (r *refusing) Claim(ctx context.Context, b overlay.Block) error {
	r.Lock()
	defer r.Unlock()
	r.claims++
	return overlay.ErrTaken
}

// A host that is refused stays so over a restart while the store is away.
func TestRefusedRestart(t *testing.T) {
	h := newHost(t)
	h.store.put(overlay.Update{Networks: []overlay.Network{blue()}})
	h.start()
	h.until("ready", func() bool { return h.agent.Status().Ready })
	h.stop()
	h.store.put(overlay.Update{Nodes: []overlay.Node{{Name: "a", Token: "another", Address: netip.MustParseAddr("192.0.2.99"), MTU: 1500}}})
	h.start()
	h.until("refused", func() bool { return h.local("blue").Refused != "" })
	h.stop()
	h.store.away = true
	h.start()
	h.until("runs", func() bool { return h.agent.Status().Store.Away })
	time.Sleep(500 * time.Millisecond)
	if l := h.local("blue"); l.Refused == "" {
		t.Errorf("not refused any more: %+v", l)
	}
}

// A network that was removed does not come back with a restart.
func TestRemovedRestart(t *testing.T) {
	h := newHost(t)
	h.store.put(overlay.Update{Networks: []overlay.Network{blue()}})
	h.start()
	h.until("ready", func() bool { return h.agent.Status().Ready })
	h.attachFake("blue", overlay.Gateway(h.local("blue").Blocks[0]).Next())
	h.store.remove(true)
	h.until("refused", func() bool { return h.local("blue").Refused != "" })
	h.stop()
	h.store.away = true
	h.start()
	h.until("runs", func() bool { return h.agent.Status().Store.Away })
	time.Sleep(500 * time.Millisecond)
	if l := h.local("blue"); l.Refused == "" {
		t.Errorf("a removed network is back: %+v", l)
	}
	_ = os.Stat
}

// A network that a route of the host was in the way of is used when it is gone.
func TestHostRouteGone(t *testing.T) {
	h := newHost(t)
	run(t, "ip route add 10.42.7.0/24 via 192.0.2.253")
	h.store.put(overlay.Update{Networks: []overlay.Network{blue()}})
	h.start()
	h.until("refused", func() bool { return h.local("blue").Refused != "" })
	run(t, "ip route del 10.42.7.0/24 via 192.0.2.253")
	h.until("not refused", func() bool {
		return h.local("blue").Node != "" && h.local("blue").Refused == "" && len(h.local("blue").Blocks) == 1
	})
}

// What could not be written is written later.
func TestDiskFull(t *testing.T) {
	h := newHost(t)
	// A folder that cannot be made: as a disk that is full.
	bad := filepath.Join(h.conf.DataDir, "overlay")
	h.start()
	h.until("ready", func() bool { return h.agent.Status().Ready })
	if err := os.WriteFile(bad, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h.store.put(overlay.Update{Networks: []overlay.Network{blue()}})
	h.until("not ready", func() bool {
		return strings.Contains(h.agent.Status().Why, "network blue: write down what an ADD needs")
	})
	if err := os.Remove(bad); err != nil {
		t.Fatal(err)
	}
	h.until("written", func() bool { return len(h.local("blue").Blocks) == 1 && h.agent.Status().Ready })
}

// An address that comes later is no reason to move.
func TestSecondAddress(t *testing.T) {
	h := newHost(t)
	run(t, "ip -6 address add fd00:9::1/64 dev under0 nodad")
	run(t, "ip address del 192.0.2.1/24 dev under0")
	h.conf.Underlay = "under0"
	h.start()
	h.until("ready", func() bool { return h.agent.Status().Ready })
	was := h.agent.Status().Underlay.Address
	run(t, "ip -6 address add fd00:9::99/64 dev under0 nodad")
	time.Sleep(time.Second)
	if now := h.agent.Status().Underlay.Address; now != was {
		t.Errorf("the underlay's address was %s, and is %s, though the former is there", was, now)
	}
}

// Somebody else's device in the way is told once, and makes the agent not ready.
func TestForeign(t *testing.T) {
	h := newHost(t)
	var log logBuf
	h.conf.Log = slog.New(slog.NewTextHandler(&log, nil))
	run(t, "ip link add other type vxlan id 4097 dstport 4789 local 192.0.2.1 nolearning")
	h.store.put(overlay.Update{Networks: []overlay.Network{blue()}})
	h.start()
	h.until("a block", func() bool { return len(h.local("blue").Blocks) == 1 })
	time.Sleep(time.Second)
	s := h.agent.Status()
	if s.Networks[0].Problem == "" || s.Ready || !strings.Contains(s.Why, "network blue: VXLAN device vxlan4097: VNI 4097 on port 4789 is that of other") {
		t.Errorf("no problem is told: ready %v (%s) %+v", s.Ready, s.Why, s.Networks[0])
	}
	if n := log.count("VNI 4097 on port 4789"); n > 3 {
		t.Errorf("logged %d times in about a second of 10 comparisons", n)
	}
	run(t, "ip link del other")
	h.until("mended", func() bool { s := h.agent.Status(); return s.Networks[0].Problem == "" && s.Ready && len(links(t)) > 0 })
}

// A plugin that holds the records' lock does not stop the agent.
func TestStuckPlugin(t *testing.T) {
	h := newHost(t)
	h.store.put(overlay.Update{Networks: []overlay.Network{blue()}})
	h.start()
	h.until("ready", func() bool { return h.agent.Status().Ready })
	h.attachFake("blue", overlay.Gateway(h.local("blue").Blocks[0]).Next())
	fd, err := unix.Open(filepath.Join(h.conf.Records.Dir(), "lock"), unix.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(fd, unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	node, block := peer(1)
	go h.store.put(overlay.Update{Nodes: []overlay.Node{node}, Blocks: []overlay.Block{block}})
	defer unix.Close(fd)
	for range 120 {
		if strings.Contains(h.kernel("ip route"), "10.42.1.0/24") {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error("6 s with a plugin that holds the store: the new peer is not routed to")
}

// The agent waits for the host's network.
func TestLateUnderlay(t *testing.T) {
	h := newHost(t)
	run(t, "ip route del default")
	a, err := New(h.conf)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { done <- a.Run(ctx) }()
	select {
	case err := <-done:
		t.Errorf("the agent ended: %v", err)
		return
	case <-time.After(time.Second):
	}
	if s := a.Status(); s.Ready || !strings.Contains(s.Why, "no default route") {
		t.Errorf("ready %v: %s", s.Ready, s.Why)
	}
	run(t, "ip route add default via 192.0.2.254")
	h.agent = a
	h.until("ready", func() bool { return a.Status().Ready })
	cancel()
	<-done
}

// A block that changes its owner at once leaves nothing with the old one.
func TestBlockMoves(t *testing.T) {
	h := newHost(t)
	n1, b1 := peer(1)
	n2, b2 := peer(2)
	h.store.put(overlay.Update{Networks: []overlay.Network{blue()}, Nodes: []overlay.Node{n1, n2}, Blocks: []overlay.Block{b1, b2}})
	h.start()
	h.until("peers", func() bool { return strings.Contains(h.kernel("ip route"), "10.42.2.0/24") })
	h.until("ready", func() bool { return h.agent.Status().Ready })
	b1.Node, b1.Token = n2.Name, n2.Token
	h.store.put(overlay.Update{Blocks: []overlay.Block{b1}}) // etcd's watch tells the last event of a key alone
	time.Sleep(500 * time.Millisecond)
	if set := h.kernel("nft list set inet berth vteps4"); strings.Contains(set, "192.0.2.11") {
		t.Errorf("who has no block any more is still let in: %s", set)
	}
}

// A second block before the first one in the order of addresses.
func TestProbeAddress(t *testing.T) {
	h := newHost(t)
	h.conf.Probe = true
	h.store.put(overlay.Update{Networks: []overlay.Network{blue()}})
	h.start()
	h.until("ready", func() bool { return h.agent.Status().Ready })
	listens := func(a netip.Addr) func() bool {
		return func() bool { return strings.Contains(h.kernel("ss -lnu"), a.String()) }
	}
	h.until("answers", listens(h.local("blue").Blocks[0].Addr()))
	low := netip.MustParsePrefix("10.42.0.0/24")
	h.store.put(overlay.Update{Blocks: []overlay.Block{{Network: "blue", Prefix: low, Node: "a", Token: h.agent.id.Token}}})
	h.until("two blocks", func() bool { return len(h.local("blue").Blocks) == 2 })
	h.until("the new address", func() bool { return strings.Contains(h.kernel("ip address show dev vxlan4097"), "10.42.0.0/32") })
	h.until("answers on the new one", listens(low.Addr()))
}

// Another firewall backend leaves nothing of the first.
func TestBackend(t *testing.T) {
	h := newHost(t)
	n := blue()
	n.Isolate, n.NoICC = true, true
	node, block := peer(1)
	h.store.put(overlay.Update{Networks: []overlay.Network{n}, Nodes: []overlay.Node{node}, Blocks: []overlay.Block{block}})
	h.conf.FirewallBackend = "iptables"
	h.start()
	h.until("ready", func() bool { return h.agent.Status().Ready })
	time.Sleep(500 * time.Millisecond)
	h.stop()
	h.conf.FirewallBackend = "nftables"
	h.start()
	h.until("ready", func() bool { return h.agent.Status().Ready })
	h.until("nothing of the other backend is left", func() bool { return !strings.Contains(h.kernel("iptables-save"), "vxlan4097") })
	h.store.remove(false)
	h.until("gone", func() bool { return h.local("blue").Node == "" })
	h.stop()
	run(t, "iptables -F")
}
