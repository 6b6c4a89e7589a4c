package integration

import (
	"regexp"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// second is a bridge that a user adds beside the default one.
const second = `{"type": "bridge", "bridge": "berth1", "isGateway": true, "ipMasq": true, "ipam": {"subnet": "10.89.0.0/24"}}`

// oneLink is a line of `ip -o link` about one end of a veth pair: its index, its name
// and the index of its peer.
var oneLink = regexp.MustCompile(`^(\d+): (\S+)@if(\d+): `)

// pair fails the test unless the container's interface and a port of the bridge name
// each other by index. It returns the port's name.
func (b *bed) pair(c *sandbox.Container, ifName, bridge string) string {
	b.t.Helper()
	line, err := c.Output("ip", "-o", "link", "show", ifName)
	must(b.t, err)
	end := oneLink.FindStringSubmatch(line)
	if end == nil || end[2] != ifName {
		b.t.Fatalf("%s of %s is no end of a pair: %s", ifName, c.ID, line)
	}
	ports, err := b.Output("ip", "-o", "link", "show", "master", bridge)
	must(b.t, err)
	for line := range strings.Lines(ports) {
		if port := oneLink.FindStringSubmatch(line); port != nil && port[1] == end[3] && port[3] == end[1] {
			return port[2]
		}
	}
	b.t.Fatalf("no port of %s is the peer of %s@if%s, which is number %s; its ports are\n%s", bridge, ifName, end[3], end[1], ports)
	return ""
}

// TestTextbookBridge looks at the default bridge with two containers as a student
// does: pairs, ports, routes, ping.
func TestTextbookBridge(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	n, before := b.used(bridge)
	c, other := b.container("c1"), b.container("c2")
	r, addr := b.add(n, c)
	_, otherAddr := b.add(n, other)

	ports, err := b.Output("bridge", "link", "show")
	must(t, err)
	if got := strings.Count(ports, " master berth0 "); got != 2 {
		t.Errorf("berth0 has %d ports, want 2:\n%s", got, ports)
	}
	names := map[string]bool{}
	for _, box := range []*sandbox.Container{c, other} {
		port := b.pair(box, "eth0", "berth0")
		names[port] = true
		if !strings.Contains(ports, ": "+port+"@") {
			t.Errorf("`bridge link` does not know %s:\n%s", port, ports)
		}
		if got := inside(t, box, "ip", "route", "show", "default"); got != "default via "+gateway+" dev eth0" {
			t.Errorf("the default route of %s is %q, want one by %s", box.ID, got, gateway)
		}
		ping(t, box, gateway)
	}
	if len(names) != 2 {
		t.Errorf("two containers are at one port, %v", names)
	}
	if port := b.pair(c, "eth0", "berth0"); r.Interfaces[0].Name != "berth0" || r.Interfaces[1].Name != port {
		t.Errorf("the result has %+v, want berth0 and %s", r.Interfaces, port)
	}
	if out, err := b.Output("ip", "-br", "-4", "address", "show", "berth0"); err != nil || !strings.Contains(out, " "+gateway+"/16") {
		t.Errorf("berth0 has not the address %s: %s %v", gateway, out, err)
	}
	ping(t, c, otherAddr)
	ping(t, other, addr)

	for _, box := range []*sandbox.Container{c, other} {
		must(t, n.Del(box))
		must(t, box.Remove())
	}
	b.same(before, "after the default bridge")
}

// TestTextbookTwoBridges attaches one container to the default bridge and to a
// second one: it reaches its neighbours on both, and they do not become one network.
func TestTextbookTwoBridges(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	own, _ := b.settledNetwork("own", second)
	n, before := b.used(bridge)
	both, left, right := b.container("both"), b.container("left"), b.container("right")
	eth1 := sandbox.IfName("eth1")
	_, addr := b.add(n, both)
	_, addr1 := b.add(own, both, eth1)
	_, leftAddr := b.add(n, left)
	_, rightAddr := b.add(own, right)

	if p0, p1 := b.pair(both, "eth0", "berth0"), b.pair(both, "eth1", "berth1"); p0 == p1 {
		t.Errorf("eth0 and eth1 have one port, %s", p0)
	}
	b.pair(left, "eth0", "berth0")
	b.pair(right, "eth0", "berth1")
	for _, c := range []*sandbox.Container{both, left, right} {
		serve(t, c, ":80")
	}
	b.answers(both, leftAddr+":80", left, addr)
	b.answers(both, rightAddr+":80", right, addr1)
	b.answers(left, addr+":80", both, leftAddr)
	b.answers(right, addr1+":80", both, rightAddr)
	if got := inside(t, both, "ip", "-4", "route", "show", "default"); got != "default via "+gateway+" dev eth0" {
		t.Errorf("the default route is %q, want the first network's", got)
	}
	ping(t, both, sandbox.OutsideAddr4)

	must(t, n.Check(both))
	must(t, own.Check(both, eth1))
	must(t, own.Del(both, eth1))
	if got := inside(t, both, "ip", "-br", "link"); strings.Contains(got, "eth1") || !strings.Contains(got, "eth0@") {
		t.Errorf("after it left the second network the container has %s", got)
	}
	b.answers(both, leftAddr+":80", left, addr)
	must(t, n.Del(both))
	must(t, n.Del(left))
	must(t, own.Del(right))
	for _, c := range []*sandbox.Container{both, left, right} {
		must(t, c.Remove())
	}
	b.same(before, "after two bridges")
}

// TestTextbookIsolated has a container on each of two isolated bridges, and one on
// both: what the bridges keep apart, only that one reaches.
func TestTextbookIsolated(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	own, _ := b.settledNetwork("own", with(second, `"isolate": true`))
	n, before := b.used(with(bridge, `"isolate": true`))
	both, left, right := b.container("both"), b.container("left"), b.container("right")
	eth1 := sandbox.IfName("eth1")
	b.add(n, both)
	b.add(own, both, eth1)
	_, leftAddr := b.add(n, left)
	_, rightAddr := b.add(own, right)
	serve(t, left, ":80")
	serve(t, right, ":80")
	must(t, b.Script("ip -n right route add default via 10.89.0.1")) // it is no lack of a route
	b.unreachable(left, rightAddr+":80", "isolated bridges")
	b.unreachable(right, leftAddr+":80", "isolated bridges")
	b.answers(both, leftAddr+":80", left, "")
	b.answers(both, rightAddr+":80", right, "")

	must(t, own.Del(both, eth1))
	must(t, n.Del(both))
	must(t, n.Del(left))
	must(t, own.Del(right))
	for _, c := range []*sandbox.Container{both, left, right} {
		must(t, c.Remove())
	}
	b.same(before, "after isolated bridges")
}
