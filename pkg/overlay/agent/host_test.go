package agent

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/berth-cni/berth/pkg/overlay"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// host is the sandbox's own namespace with an underlay, and an agent in it. The
// agent's goroutines are on any thread, so it is the process's namespace.
type host struct {
	t     *testing.T
	store *memory
	conf  Config
	stop  func()
	agent *Agent
}

func newHost(t *testing.T) *host {
	t.Helper()
	run(t, "ip link add under0 type veth peer name under1")
	run(t, "ip address add 192.0.2.1/24 dev under0")
	run(t, "ip link set under0 up")
	run(t, "ip link set under1 up")
	run(t, "ip route add default via 192.0.2.254")
	t.Cleanup(func() {
		run(t, "ip link del under0")
		for _, dev := range links(t) {
			run(t, "ip link del "+dev)
		}
		run(t, "ip route flush proto 98 table all")
		run(t, "nft flush ruleset")
	})
	store := newMemory()
	return &host{t: t, store: store, conf: Config{
		Store: store, Node: "a", DataDir: t.TempDir(), Runtimes: Runtimes{ConfDir: t.TempDir()}, NetDir: t.TempDir(), Resync: 100 * time.Millisecond,
		Records: attach.New(t.TempDir(), func(string) attach.Step { return nil }),
	}}
}

func run(t *testing.T, command string) {
	t.Helper()
	f := strings.Fields(command)
	if err := nstest.Run(f[0], f[1:]...); err != nil && !strings.Contains(err.Error(), "No such") {
		t.Error(err)
	}
}

// links are the devices that the overlay made.
func links(t *testing.T) (names []string) {
	out, err := nstest.Output("ip", "-br", "link")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		if name := strings.Fields(line)[0]; strings.HasPrefix(name, "vxlan") || strings.HasPrefix(name, "overlay") {
			names = append(names, name)
		}
	}
	return names
}

// start runs an agent until stop.
func (h *host) start() {
	h.t.Helper()
	a, err := New(h.conf)
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(h.t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	h.agent = a
	h.stop = func() {
		cancel()
		if err := <-done; err != nil {
			h.t.Error(err)
		}
		h.stop = func() {}
	}
	h.t.Cleanup(func() { h.stop() })
}

// until waits for something to be so.
func (h *host) until(what string, is func() bool) {
	h.t.Helper()
	for range 600 { // a busy machine
		if is() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	h.t.Fatalf("not after 30 s: %s; status %+v", what, h.agent.Status())
}

func (h *host) local(network string) *overlay.Local {
	l, err := overlay.ReadLocal(h.conf.DataDir, network)
	if err != nil {
		return &overlay.Local{}
	}
	return l
}

// kernel is what the kernel says, as one text.
func (h *host) kernel(command string) string {
	f := strings.Fields(command)
	out, _ := nstest.Output(f[0], f[1:]...)
	return out
}

func blue() overlay.Network {
	n := overlay.Network{Name: "blue", ID: "1", VNI: 4097, Subnets: []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16")}, Created: time.Unix(1, 0)}
	n.SetDefaults()
	return n
}

func peer(i int) (overlay.Node, overlay.Block) {
	name := fmt.Sprintf("p%d", i)
	return overlay.Node{Name: name, Token: "t" + name, Address: netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + i)}), MTU: 1500},
		overlay.Block{Network: "blue", Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 42, byte(i), 0}), 24), Node: name, Token: "t" + name}
}
