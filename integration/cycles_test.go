package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// cycled is a mode that containers come to and go from.
type cycled struct {
	name    string
	n       *sandbox.Network
	publish bool
}

// cycle has the i-th container come, with loopback beside it as under containerd, be
// checked, and go.
func (m *cycled) cycle(b *bed, lo *sandbox.Network, i int) error {
	c, err := b.Container(fmt.Sprintf("%s%d", m.name, i))
	if err != nil {
		return err
	}
	var opts []sandbox.Option
	if m.publish {
		opts = append(opts, tcpPort(20000+i, 80))
	}
	onLo := sandbox.IfName("lo")
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"ADD of loopback", func() error { _, err := lo.Add(c, onLo); return err }},
		{"ADD", func() error { _, err := m.n.Add(c, opts...); return err }},
		{"CHECK", func() error { return m.n.Check(c, opts...) }},
		{"DEL of loopback", func() error { return lo.Del(c, onLo) }},
		{"DEL", func() error { return m.n.Del(c, opts...) }},
		{"remove", c.Remove},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s of %s: %w", step.what, c.ID, err)
		}
	}
	return nil
}

// TestCycles has 8 callers run 100 cycles of each mode, in turn, beside a container
// that lives through them. GC finds nothing to do, and when that container has gone,
// too, nothing is left.
func TestCycles(t *testing.T) {
	t.Parallel()
	const cycles, callers = 100, 8
	b := newBed(t)
	onBridge := b.only("bridge", bridge)
	owner := func() *sandbox.Container {
		c := b.container("0123456789ab")
		b.add(onBridge, c, tcpPort(8080, 80), sandbox.Arg("IgnoreUnknown", "1"), sandbox.Arg("K8S_POD_NAME", "web"))
		return c
	}
	leave := func(c *sandbox.Container) {
		must(t, onBridge.Del(c, tcpPort(8080, 80)))
		must(t, c.Remove())
	}
	lo := b.only("cni-loopback", `{"type": "loopback"}`)
	modes := []*cycled{
		{"bridge", onBridge, true},
		{"macvlan", b.only("macvlan", `{"type": "macvlan", "ipam": {"subnet": "10.90.0.0/16"}}`), false},
		{"shim", b.only("shim", with(macvlan, `"hostShim": true`)), false},
		{"none", b.only("none", none), false},
		{"host", b.only("host", host), false},
		{"share", b.only("share", share("web")), false},
	}
	live := owner()
	for _, m := range modes { // once, so that what stays is there
		must(t, m.cycle(b, lo, cycles*len(modes)))
	}
	leave(live)
	before := b.snapshot()

	live = owner()
	beside := b.snapshot()
	b.callers(callers, cycles*len(modes), func(i int) error { return modes[i%len(modes)].cycle(b, lo, i) })
	b.loIsUp("after all cycles")
	b.same(beside, "after all cycles")
	for _, m := range modes {
		must(t, m.n.GC(live))
	}
	must(t, lo.GC(live))
	b.same(beside, "after GC")
	must(t, onBridge.Check(live, tcpPort(8080, 80)))
	leave(live)
	b.same(before, "after the last container")
	b.bare()
}

// callers have so many goroutines work through the numbers from 0 to n.
func (b *bed) callers(many, n int, do func(int) error) {
	b.t.Helper()
	each(make([]*sandbox.Container, n), many, func(i int, _ *sandbox.Container) {
		if err := do(i); err != nil {
			b.t.Error(err)
		}
	})
}

// bare fails the test unless the host has no record, no lease, no namespace but the
// outside's, and no link but its own and the shared bridge.
func (b *bed) bare() {
	b.t.Helper()
	now := b.snapshot()
	for _, line := range now["state"] {
		switch bucket, _, _ := strings.Cut(line, " "); bucket {
		case "networks", "cursors": // what a network is, and its last address
		default:
			b.t.Errorf("in the store: %s", line)
		}
	}
	for _, line := range now["mount"] {
		if strings.Contains(line, " /run/netns/") && !strings.HasSuffix(line, "/outside") {
			b.t.Errorf("a mount: %s", line)
		}
	}
	for _, line := range now["link"] {
		name, _, _ := strings.Cut(line, ":")
		switch name {
		case "lo", sandbox.Uplink, "berth0":
		default:
			b.t.Errorf("a link: %s", line)
		}
	}
}
