package integration

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

const none = `{"type": "none", "capabilities": {"portMappings": true}}`

// only is a network of one plugin, with a name of its own.
func (b *bed) only(name, plugin string) *sandbox.Network {
	b.t.Helper()
	n, err := b.Network(fmt.Sprintf(`{"cniVersion": "1.1.0", "name": %q, "plugins": [%s]}`, name, plugin), b.bin, b.ref)
	must(b.t, err)
	return n
}

// empty is a container whose lo is down, as containerd makes it.
func (b *bed) empty(name string) *sandbox.Container {
	b.t.Helper()
	c := b.container(name)
	must(b.t, b.Script("ip -n "+name+" link set lo down"))
	return c
}

// inside is the output of a program in the container, with its blanks as one.
func inside(t *testing.T, c *sandbox.Container, program ...string) string {
	t.Helper()
	out, err := c.Output(program[0], program[1:]...)
	must(t, err)
	return strings.Join(strings.Fields(out), " ")
}

// TestNone is the textbook's: a container with lo and nothing else.
func TestNone(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	n := b.network(none)
	first := b.container("first")
	_, err := n.Add(first)
	must(t, err)
	must(t, n.Del(first))
	must(t, first.Remove())
	before := b.snapshot()

	must(t, n.Status())
	c := b.empty("c1")
	r, _ := b.add(n, c, tcpPort(8080, 80))
	if got := inside(t, c, "ip", "-br", "address"); got != "lo UNKNOWN 127.0.0.1/8 ::1/128" {
		t.Errorf("the container has %s", got)
	}
	if len(r.Interfaces) != 1 || r.Interfaces[0].Name != "lo" || r.Interfaces[0].Mac != "00:00:00:00:00:00" || r.Interfaces[0].Sandbox != c.Netns {
		t.Errorf("interfaces %+v", r.Interfaces)
	}
	if len(r.IPs) != 2 || r.IPs[0].Address != "127.0.0.1/8" || r.IPs[1].Address != "::1/128" {
		t.Errorf("addresses %+v", r.IPs)
	}
	if inside(t, c, "ip", "route") != "" {
		t.Error("there is a route")
	}
	b.unreachable(b.outside, sandbox.HostAddr4+":8080", "none")
	must(t, n.Check(c, tcpPort(8080, 80)))
	if _, err := n.Add(c); sandbox.Code(err) != 102 {
		t.Errorf("a second ADD: %v", err)
	}
	must(t, b.Script("ip -n c1 link set lo down"))
	if err := n.Check(c); err == nil {
		t.Error("CHECK finds a lo that is down in order")
	}
	must(t, b.Script("ip -n c1 link set lo up"))
	must(t, n.GC(c))
	must(t, n.Check(c))
	must(t, n.GC())
	if err := n.Check(c); err == nil {
		t.Error("CHECK finds a collected container in order")
	}
	must(t, n.Del(c))
	must(t, n.Del(c))
	must(t, c.Remove())
	b.same(before, "after none")
}

// TestNoneByHand wires a container on none by hand, step by step, until it reaches
// the outside.
func TestNoneByHand(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	n := b.network(none)
	c := b.container("c1")
	b.add(n, c)
	serve(t, b.outside, ":7000")
	outside := sandbox.OutsideAddr4 + ":7000"
	for _, step := range []struct{ what, script string }{
		{"nothing yet", ""},
		{"a veth pair, one end in the container", "ip link add hand0 type veth peer name eth0 netns c1"},
		{"a bridge, with the host's end for a port", "ip link add handbr type bridge\nip link set hand0 master handbr up\nip link set handbr up"},
		{"the gateway's address", "ip addr add 10.77.0.1/24 dev handbr"},
		{"the container's address", "ip -n c1 addr add 10.77.0.2/24 dev eth0\nip -n c1 link set eth0 up"},
		{"the default route", "ip -n c1 route add default via 10.77.0.1"},
		{"forwarding and masquerade", "sysctl -qw net.ipv4.ip_forward=1\niptables -t nat -A POSTROUTING -s 10.77.0.0/24 -o uplink0 -j MASQUERADE"},
	} {
		b.unreachable(c, outside, "before "+step.what)
		must(t, b.Script(step.script))
	}
	b.answers(c, outside, b.outside, sandbox.HostAddr4)
	must(t, n.Check(c))
	must(t, n.Del(c))
	b.answers(c, outside, b.outside, sandbox.HostAddr4)
	must(t, c.Remove())
}

// TestNoneRefuses asks none for what it has not.
func TestNoneRefuses(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	c := b.container("c1")
	must(t, b.OwnNetns("/run/netns/own"))
	before := b.snapshot()
	for _, test := range []struct {
		call  sandbox.Call
		code  uint
		words []string
	}{
		{sandbox.Call{Config: config(version, none, `"ipam": {"subnet": "10.1.0.0/24"}`)}, 7, []string{"ipam"}},
		{sandbox.Call{Config: config(version, none), Args: "IP=10.1.0.2;MAC=02:00:00:00:00:01"}, 7, []string{"CNI_ARGS IP", "CNI_ARGS MAC"}},
		{sandbox.Call{Config: config(version, none, `"args": {"cni": {"ips": ["10.1.0.2"]}}, "runtimeConfig": {"mac": "02:00:00:00:00:01"}`)}, 7,
			[]string{"args.cni.ips", "runtimeConfig.mac"}},
		{sandbox.Call{Config: config(version, none), Netns: "/run/netns/own"}, 4, []string{"host's own"}},
		{sandbox.Call{Config: config(version, none), Netns: "/run/netns/nobody"}, 4, []string{"no such namespace"}},
	} {
		test.call.Verb, test.call.Container, test.call.Plugin = "ADD", c.ID, filepath.Join(b.bin, "none")
		if test.call.Netns == "" {
			test.call.Netns = c.Netns
		}
		b.refused(b.call(test.call), test.code, test.words...)
	}
	b.same(before, "after refusals")
}

// TestLoopback calls loopback as containerd does, beside the reference's: the same
// result, but DEL leaves lo up.
func TestLoopback(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	before := b.snapshot()
	for _, v := range versions {
		call := sandbox.Call{Verb: "ADD", Container: "c", IfName: "lo", Netns: "/run/netns/c", Config: config(v, `{"type": "loopback"}`),
			Args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod;K8S_POD_INFRA_CONTAINER_ID=c;K8S_POD_UID=u"}
		var results []any
		for _, dir := range []string{b.ref, b.bin} {
			c := b.empty("c")
			call.Plugin, call.Verb = filepath.Join(dir, "loopback"), "ADD"
			out := b.good(b.call(call)).Stdout
			var result any
			must(t, json.Unmarshal([]byte(out), &result))
			results = append(results, result)
			if got := inside(t, c, "ip", "-br", "address"); got != "lo UNKNOWN 127.0.0.1/8 ::1/128" {
				t.Errorf("%s: the container has %s", v, got)
			}
			if dir == b.bin {
				b.good(b.call(call)) // as the reference does
				call.Verb = "CHECK"
				if v >= "0.4.0" {
					b.good(b.call(call))
				}
				call.Verb = "DEL"
				b.good(b.call(call))
				if got := inside(t, c, "ip", "-br", "address"); got != "lo UNKNOWN 127.0.0.1/8 ::1/128" {
					t.Errorf("%s: after DEL the container has %s", v, got)
				}
				must(t, b.Script("ip -n c link set lo down"))
				if call.Verb = "CHECK"; v >= "0.4.0" {
					b.refused(b.call(call), 103, "lo")
				}
			}
			must(t, c.Remove())
		}
		// The reference gives older versions the newest one's shape.
		if want, got := fmt.Sprint(results[0]), fmt.Sprint(results[1]); v >= "1.0.0" && want != got {
			t.Errorf("%s: the result is\n%s, want the reference's\n%s", v, got, want)
		}
	}
	b.same(before, "after loopback")
}

// TestLoopbackInAChain has it in front of a bridge and behind it.
func TestLoopbackInAChain(t *testing.T) {
	t.Parallel()
	for _, plugins := range [][]string{{`{"type": "loopback"}`, bridge}, {bridge, `{"type": "loopback"}`}} {
		b := newBed(t)
		n, before := b.used(plugins...)
		c := b.empty("c1")
		r, addr := b.add(n, c, sandbox.Arg("IP", "10.88.3.3"))
		if !strings.Contains(fmt.Sprint(r.Interfaces), "eth0") || addr == "" {
			t.Errorf("the result has %+v", r)
		}
		must(t, n.Check(c, sandbox.Arg("IP", "10.88.3.3")))
		must(t, n.Del(c))
		must(t, c.Remove())
		b.same(before, "after a chain with loopback")
	}
}
