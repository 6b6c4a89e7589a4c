package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

const twoPorts = `"runtimeConfig": {"portMappings": [
	{"hostPort": 9090, "containerPort": 80, "protocol": "tcp"}, {"hostPort": 9090, "containerPort": 53, "protocol": "udp"}]}`

// TestDelIsComplete has DEL called in all the ways in which runtimes call it.
func TestDelIsComplete(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	n, _ := b.used(bridge)
	neighbour := b.container("neighbour")
	b.add(n, neighbour, tcpPort(8080, 80))
	serve(t, neighbour, ":80")
	full := config(version, bridge, twoPorts)
	for i, test := range []struct {
		name   string
		change func(*sandbox.Call, *sandbox.Container)
	}{
		{"as at ADD", func(c *sandbox.Call, _ *sandbox.Container) {}},
		{"CNI_NETNS empty", func(c *sandbox.Call, _ *sandbox.Container) { c.Netns = "" }},
		{"namespace gone", func(c *sandbox.Call, box *sandbox.Container) { must(t, box.Remove()) }},
		{"namespace path missing", func(c *sandbox.Call, _ *sandbox.Container) { c.Netns = "/run/netns/nobody" }},
		{"without runtimeConfig", func(c *sandbox.Call, _ *sandbox.Container) { c.Config = config(version, bridge) }},
		{"firewall backend changed", func(c *sandbox.Call, _ *sandbox.Container) {
			c.Config = config(version, bridge, `"firewallBackend": "iptables"`)
		}},
		{"another bridge and subnet", func(c *sandbox.Call, _ *sandbox.Container) {
			c.Config = config(version, `{"type": "bridge", "bridge": "berth9", "ipam": {"subnet": "10.99.0.0/24"}}`)
		}},
		{"no masquerade, no ipam", func(c *sandbox.Call, _ *sandbox.Container) {
			c.Config = config(version, `{"type": "bridge", "bridge": "berth0"}`)
		}},
		{"CNI_ARGS dropped and another path", func(c *sandbox.Call, _ *sandbox.Container) { c.Args, c.Path = "", "/nowhere" }},
		{"another version", func(c *sandbox.Call, _ *sandbox.Container) { c.Config = config("0.3.1", bridge, twoPorts) }},
	} {
		box := b.container(fmt.Sprintf("d%d", i))
		before := b.snapshot()
		call := sandbox.Call{Verb: "ADD", Container: box.ID, Netns: box.Netns, Config: full, Args: "IgnoreUnknown=1;K8S_POD_NAME=pod"}
		b.good(b.call(call))
		call.Verb = "DEL"
		test.change(&call, box)
		b.good(b.call(call))
		b.good(b.call(call)) // twice
		if call.Config != full || call.Netns != box.Netns {
			call.Config, call.Netns = full, ""
			b.good(b.call(call))
		}
		after := b.snapshot()
		var left []string
		for _, l := range before.Diff(after) {
			if !strings.Contains(l, box.Netns) { // the case that removed the namespace
				left = append(left, l)
			}
		}
		if left != nil {
			t.Errorf("%s: left behind:\n%s", test.name, strings.Join(left, "\n"))
		}
		_ = box.Remove() // gone in one case
		b.answers(b.outside, sandbox.HostAddr4+":8080", neighbour, "")
	}
	must(t, n.Check(neighbour, tcpPort(8080, 80)))
}

// TestDelOfNothing calls DEL for containers that nobody attached, as nerdctl does
// before every ADD.
func TestDelOfNothing(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	before := b.snapshot()
	b.good(b.call(sandbox.Call{Verb: "DEL", Container: "nobody", Config: config(version, bridge)}))
	for _, l := range before.Diff(b.snapshot()) {
		if !strings.HasPrefix(l, "+ file: "+sandbox.StateDir+"/") {
			t.Errorf("DEL on a fresh host: %s", l)
		}
	}
}

// TestHostNamespace gives the host's own namespace as the container's: nothing of
// the host is touched, by any verb.
func TestHostNamespace(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	const path = "/run/netns/host"
	must(t, b.OwnNetns(path))
	n, _ := b.used(bridge)
	box := b.container("box")
	before := b.snapshot()
	call := sandbox.Call{Verb: "ADD", Container: "host", Netns: path, Config: config(version, bridge, twoPorts)}
	b.refused(b.call(call), 4, "CNI_NETNS", path)
	for _, ifName := range []string{"eth0", sandbox.Uplink, "berth0", "lo"} {
		call.Verb, call.IfName = "DEL", ifName
		b.good(b.call(call))
	}
	b.same(before, "DEL in the host's namespace")

	// Attached as it should be, and then the path has become the host's.
	b.add(n, box, tcpPort(8080, 80))
	must(t, n.Del(box, tcpPort(8080, 80), sandbox.Netns(path)))
	b.same(before, "DEL with a path that has become the host's")
	if err := n.Check(box, sandbox.Netns(path)); err == nil {
		t.Error("CHECK finds the host's namespace in order")
	}
}

// TestSecondAdd repeats an ADD: it is refused, and the first one lives on.
func TestSecondAdd(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	n, _ := b.used(bridge)
	c := b.container("c1")
	b.add(n, c, tcpPort(8080, 80))
	serve(t, c, ":80")
	before := b.snapshot()
	if _, err := n.Add(c, tcpPort(8081, 80)); err == nil {
		t.Error("a second ADD of the same interface works")
	}
	b.same(before, "after a refused ADD")
	b.answers(b.outside, sandbox.HostAddr4+":8080", c, "")
	must(t, n.Check(c, tcpPort(8080, 80)))
}

// TestPortConflict asks for host ports that are taken, by a container and by a
// process of the host.
func TestPortConflict(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	n, _ := b.used(bridge)
	holder, other := b.container("holder"), b.container("other")
	b.add(n, holder, tcpPort(8080, 80))
	stop, err := b.Serve(":8888")
	must(t, err)
	defer stop()
	before := b.snapshot()
	call := sandbox.Call{Verb: "ADD", Container: other.ID, Netns: other.Netns}
	for _, test := range []struct {
		port  string
		words []string
	}{
		{`{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}`, []string{"8080", "holder"}},
		{`{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "192.0.2.1"}`, []string{"8080", "holder"}},
		{`{"hostPort": 8888, "containerPort": 80, "protocol": "tcp"}`, []string{"8888"}},
		{`{"hostPort": 0, "containerPort": 80, "protocol": "tcp"}`, []string{"hostPort"}},
		{`{"hostPort": 80, "containerPort": 70000, "protocol": "tcp"}`, []string{"containerPort"}},
		{`{"hostPort": 80, "containerPort": 80, "protocol": "icmp"}`, []string{"icmp"}},
		{`{"hostPort": 80, "containerPort": 80, "protocol": "tcp", "hostIP": "here"}`, []string{"here"}},
	} {
		call.Config = config(version, bridge, `"runtimeConfig": {"portMappings": [`+test.port+`]}`)
		b.refused(b.call(call), 0, test.words...)
	}
	b.same(before, "after refused ports")
	// The same port of another protocol is free, with either spelling of the keys.
	call.Config = config(version, bridge, `"runtimeConfig": {"portMappings": [{"HostPort": 8080, "ContainerPort": 80, "Protocol": "udp", "HostIP": ""}]}`)
	b.good(b.call(call))
	call.Verb = "DEL"
	b.good(b.call(call))
	b.same(before, "after a UDP port")
}

// TestSmallMTU attaches a container with an MTU below IPv6's minimum (RFC 8200,
// section 5) to a dual-stack network. The kernel takes IPv6 away from a bridge
// whose MTU falls so low, with its addresses and its refusal of router
// advertisements (CVE-2020-10749): the container is refused, or the bridge is kept.
func TestSmallMTU(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	_, before := b.used(bridge)
	c := b.container("small")
	call := sandbox.Call{Verb: "ADD", Container: c.ID, Netns: c.Netns, Config: config(version, bridge, `"mtu": 1000`)}
	if r := b.call(call); r.Exit != 0 {
		b.refused(r, 7, "mtu", "1000")
	}
	for name, want := range map[string]string{"accept_ra": "0", "disable_ipv6": "0"} {
		if got, err := b.Output("cat", "/proc/sys/net/ipv6/conf/berth0/"+name); strings.TrimSpace(got) != want {
			t.Errorf("%s of the bridge is %q (%v), want %s", name, got, err, want)
		}
	}
	call.Verb = "DEL"
	b.good(b.call(call))
	must(t, c.Remove())
	b.same(before, "after a container with a small MTU")
}
