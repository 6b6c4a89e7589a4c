package integration

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// wellBehaved holds whatever was asked: an exit code of 0 with a result or nothing,
// or a CNI error; never a panic.
func (b *bed) wellBehaved(what string, call sandbox.Call, r sandbox.Reply) {
	b.t.Helper()
	all := r.Stdout + r.Stderr
	if strings.Contains(all, "panic") || strings.Contains(all, "goroutine ") || strings.Contains(all, "bug in") {
		b.t.Errorf("%s: panic\nconfiguration: %s\n%s", what, call.Config, all)
		return
	}
	if r.Exit != 0 {
		if _, err := r.Failure(); err != nil {
			b.t.Errorf("%s: %v\nconfiguration: %s", what, err, call.Config)
		}
		return
	}
	var any map[string]any
	switch {
	case call.Verb == "ADD" && json.Unmarshal([]byte(r.Stdout), &any) != nil:
		b.t.Errorf("%s: ADD exits with 0 and prints %q", what, r.Stdout)
	case call.Verb != "ADD" && call.Verb != "VERSION" && r.Stdout != "":
		b.t.Errorf("%s: %s prints %q", what, call.Verb, r.Stdout)
	}
}

// badKeys are configurations that ADD must refuse: what stands in place of the good
// one's keys, and what the message must name.
var badKeys = []struct{ more, names string }{
	{`"bridge": "a/b"`, "bridge"}, {`"bridge": "averyveryverylongname"`, "bridge"}, {`"bridge": ".."`, "bridge"},
	{`"bridge": 5`, "bridge"}, {`"bridge": "lo"`, "lo"}, {`"bridge": "uplink0"`, "uplink0"},
	{`"mtu": -1`, "mtu"}, {`"mtu": 67`, "mtu"}, {`"mtu": 70000`, "mtu"}, {`"mtu": "1500"`, "mtu"}, {`"mtu": 1e30`, "mtu"},
	{`"vlan": -1`, "vlan"}, {`"vlan": 4095`, "vlan"},
	{`"vlanTrunk": [{"id": 0}]`, "vlanTrunk[0]"}, {`"vlanTrunk": [{"minID": 9}]`, "vlanTrunk[0]"},
	{`"vlanTrunk": [{"minID": 9, "maxID": 8}]`, "vlanTrunk[0]"}, {`"vlanTrunk": "all"`, "vlanTrunk"},
	{`"hairpinMode": true, "promiscMode": true`, "hairpinMode"},
	{`"ipMasqBackend": "ebtables"`, "ipMasqBackend"}, {`"firewallBackend": "pf"`, "firewallBackend"},
	{`"disableContainerInterface": true`, "disableContainerInterface"},
	{`"names": true`, "names"}, {`"prevResult": 5`, "prevResult"}, {`"prevResult": {"cniVersion": "9.0.0"}`, "prevResult"},
	{`"isolated": true`, "isolate"}, {`"isolat": true`, "isolate"},
	{`"runtimeConfig": {"ipRanges": [[{"subnet": "10.0.0.1/8"}]]}`, "ipRanges"},
	{`"runtimeConfig": {"mac": "zz"}`, "mac"}, {`"runtimeConfig": {"mac": "01:00:00:00:00:01"}`, "mac"},
	{`"args": {"cni": {"mac": "1:2:3"}}`, "mac"},
	{`"runtimeConfig": {"ips": ["10.99.0.1"]}`, "10.99.0.1"}, {`"runtimeConfig": {"ips": ["x"]}`, "ips"},
	{`"runtimeConfig": {"ips": ["10.88.0.1"]}`, "10.88.0.1"}, {`"runtimeConfig": {"ips": ["10.88.0.0/16"]}`, "10.88.0.0"},
	{`"runtimeConfig": {"ips": ["10.88.0.8", "10.88.0.9"]}`, "10.88.0"},
	{`"runtimeConfig": {"portMappings": 5}`, "portMappings"}, {`"runtimeConfig": []`, "runtimeConfig"},
	{`"runtimeConfig": {"portMappings": [{"hostPort": -1, "containerPort": 80}]}`, "hostPort"},
	{`"runtimeConfig": {"portMappings": [{"hostPort": 65536, "containerPort": 80}]}`, "hostPort"},
	{`"runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 0}]}`, "containerPort"},
	{`"runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 80, "protocol": "gre"}]}`, "gre"},
	{`"runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 80, "hostIP": "::g"}]}`, "::g"},
}

var badIPAM = []struct{ ipam, names string }{
	{`[]`, "ipam"}, {`"x"`, "ipam"}, {`{"subnet": "10.88.0.0"}`, "subnet"}, {`{"subnet": "10.88.0.0/33"}`, "subnet"},
	{`{"subnet": "10.88.0.0/31"}`, "10.88.0.0/31"}, {`{"subnet": "10.88.0.0/32"}`, "10.88.0.0/32"}, {`{"subnet": 5}`, "subnet"},
	{`{"subnet": "10.88.0.0/16", "gateway": "10.89.0.1"}`, "gateway"}, {`{"subnet": "10.88.0.0/16", "gateway": "fd00::1"}`, "gateway"},
	{`{"subnet": "10.88.0.0/16", "rangeStart": "10.89.0.1"}`, "rangeStart"}, {`{"subnet": "10.88.0.0/16", "rangeEnd": "x"}`, "rangeEnd"},
	{`{"subnet": "10.88.0.0/16", "rangeStart": "10.88.0.9", "rangeEnd": "10.88.0.8"}`, "range"},
	{`{"subnet": "10.88.0.0/16", "exclude": ["10.88.0.0/99"]}`, "exclude"}, {`{"subnet": "10.88.0.0/16", "exclude": "10.88.0.9"}`, "exclude"},
	{`{"ranges": [[]]}`, "ranges"}, {`{"ranges": [[{"subnet": "10.88.0.0/24"}, {"subnet": "10.88.0.0/24"}]]}`, "10.88.0.0/24"},
	{`{"ranges": [[{"subnet": "10.88.0.0/24"}, {"subnet": "fd00::/64"}]]}`, "fd00::/64"},
	{`{"subnet": "10.88.0.0/16", "routes": [{"dst": "all"}]}`, "dst"}, {`{"subnet": "10.88.0.0/16", "routes": [{"dst": "0.0.0.0/0", "gw": "me"}]}`, "gw"},
	{`{"type": "../../bin/sh"}`, "type"}, {`{"type": "no-such-ipam"}`, "no-such-ipam"}, {`{"type": 5}`, "type"},
}

// TestBadConfiguration refuses each impossible configuration, names the key, and
// leaves nothing.
func TestBadConfiguration(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	_, before := b.used(bridge)
	c := b.container("c1")
	add := sandbox.Call{Verb: "ADD", Container: c.ID, Netns: c.Netns}
	attempt := func(conf string, names string) {
		t.Helper()
		add.Config = conf
		r := b.call(add)
		b.wellBehaved(conf, add, r)
		if r.Exit == 0 {
			t.Errorf("accepted: %s", conf)
			del := add
			del.Verb = "DEL"
			b.good(b.call(del))
			return
		}
		b.refused(r, 0, names)
	}
	for _, bad := range badKeys {
		base := `{"type": "bridge", ` + ownIPAM + `, "bridge": "berth0"}`
		if strings.HasPrefix(bad.more, `"bridge"`) {
			base = `{"type": "bridge", ` + ownIPAM + `}`
		}
		attempt(config(version, base, bad.more), bad.names)
	}
	for _, bad := range badIPAM {
		attempt(config(version, `{"type": "bridge", "bridge": "berth0", "ipam": `+bad.ipam+`}`), bad.names)
	}
	for _, conf := range []string{"", "{", "null", "[]", "5", `""`, "\x00", `{"cniVersion": "1.1.0"}`, `{"cniVersion": 1, "name": "demo"}`,
		`{"cniVersion": "1.1.0", "name": "a/b", "type": "bridge"}`, `{"cniVersion": "1.1.0", "name": "", "type": "bridge"}`,
		`{"cniVersion": "x", "name": "demo", "type": "bridge"}`, strings.Repeat(`{"a":`, 20000)} {
		attempt(conf, "")
	}
	must(t, c.Remove())
	b.same(before, "after bad configurations")
}

// TestBadEnvironment refuses an environment that is not as the specification says.
func TestBadEnvironment(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	_, before := b.used(bridge)
	c := b.container("c1")
	for _, bad := range []struct {
		change func(*sandbox.Call)
		verbs  []string
	}{
		{func(c *sandbox.Call) { c.Container = "" }, []string{"ADD", "DEL", "CHECK"}},
		{func(c *sandbox.Call) { c.Container = "a/b" }, []string{"ADD", "DEL", "CHECK"}},
		{func(c *sandbox.Call) { c.Container = "../x" }, []string{"ADD", "DEL", "CHECK"}},
		{func(c *sandbox.Call) { c.Container = "a b" }, []string{"ADD"}},
		{func(c *sandbox.Call) { c.IfName = "averyveryverylongname" }, []string{"ADD", "DEL", "CHECK"}},
		{func(c *sandbox.Call) { c.IfName = "a/b" }, []string{"ADD", "DEL"}},
		{func(c *sandbox.Call) { c.IfName = ".." }, []string{"ADD"}},
		{func(c *sandbox.Call) { c.Netns = "" }, []string{"ADD", "CHECK"}},
		{func(c *sandbox.Call) { c.Netns = "/run/netns/nobody" }, []string{"ADD", "CHECK"}},
		{func(c *sandbox.Call) { c.Netns = "/etc/passwd" }, []string{"ADD", "CHECK"}},
		{func(c *sandbox.Call) { c.Netns = "/" }, []string{"ADD", "CHECK"}},
		{func(c *sandbox.Call) { c.Netns = "/proc/self/ns/mnt" }, []string{"ADD"}},
		{func(c *sandbox.Call) { c.Args = "nonsense" }, []string{"ADD"}},
		{func(c *sandbox.Call) { c.Args = "=x" }, []string{"ADD"}},
		{func(c *sandbox.Call) { c.Args = "FOO=bar" }, []string{"ADD"}},
		{func(c *sandbox.Call) { c.Args = "IgnoreUnknown=maybe" }, []string{"ADD"}},
		{func(c *sandbox.Call) { c.Args = "IP=10.99.9.9" }, []string{"ADD"}},
		{func(c *sandbox.Call) { c.Args = "IP=x" }, []string{"ADD"}},
		{func(c *sandbox.Call) { c.Args = "MAC=x" }, []string{"ADD"}},
		{func(c *sandbox.Call) { c.Verb = "EAT" }, []string{"EAT"}},
		{func(c *sandbox.Call) { c.Verb = "" }, []string{""}},
	} {
		for _, verb := range bad.verbs {
			call := sandbox.Call{Verb: verb, Container: c.ID, Netns: c.Netns, IfName: "eth0", Config: config(version, bridge)}
			bad.change(&call)
			r := b.call(call)
			what := fmt.Sprintf("%s of %q in %q, %q, %q", verb, call.Container, call.Netns, call.IfName, call.Args)
			if verb == "" && r.Exit != 0 && r.Stdout == "" {
				continue // no verb: what a person sees who runs it at a shell
			}
			b.wellBehaved(what, call, r)
			if r.Exit == 0 && verb != "" {
				t.Errorf("%s: accepted", what)
				call.Verb = "DEL"
				b.good(b.call(call))
			}
		}
	}
	// Anything goes at DEL when it comes to CNI_ARGS: the attachment has to go.
	b.good(b.call(sandbox.Call{Verb: "DEL", Container: c.ID, Netns: c.Netns, Args: "FOO=bar", Config: config(version, bridge)}))
	must(t, c.Remove())
	b.same(before, "after bad environments")
}

// TestMutations damages a good configuration at random, always in the same ways.
// Whatever comes out: an error, or an attachment that DEL removes.
func TestMutations(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.used(bridge)
	c := b.container("c1")
	before := b.snapshot()
	quick, err := b.Look("link", "state", "nft")
	must(t, err)
	good := config(version, bridge, twoPorts, `"mtu": 1400, "vlan": 0, "hairpinMode": true, "macspoofchk": false, "args": {"cni": {"ips": ["10.88.3.3"]}}`)
	random := rand.New(rand.NewPCG(1, 2))
	accepted := 0
	for range 300 {
		add := sandbox.Call{Verb: "ADD", Container: c.ID, Netns: c.Netns, Config: mutate(random, good)}
		r := b.call(add)
		b.wellBehaved("mutation", add, r)
		if r.Exit != 0 {
			continue
		}
		accepted++
		del := add
		del.Verb = "DEL"
		b.wellBehaved("mutation", del, b.good(b.call(del)))
	}
	t.Logf("%d of 300 accepted", accepted)
	// A mutation may have made another network or bridge: what an attachment leaves
	// is asked for, not what a network leaves.
	after, err := b.Look("link", "state", "nft")
	must(t, err)
	for _, l := range quick.Diff(after) {
		if sharedElement.MatchString(l) && !strings.Contains(l, "veth") {
			continue
		}
		for _, of := range []string{"veth", "attachments", "leases", "used", "ports", "element"} {
			if strings.Contains(l, of) {
				t.Error("left behind", l)
			}
		}
	}
	for _, l := range before.Diff(b.snapshot()) {
		if strings.HasPrefix(l, "- ") {
			t.Error("taken away", l)
		}
	}
}

// sharedElement is what the firewall keeps for a bridge.
var sharedElement = regexp.MustCompile(`element of berth (bridges|same):`)

var pieces = []string{"null", "-1", "0", "99999999999999999999", `""`, "[]", "{}", "true", `"x"`, "1e9", `"::"`, `"0.0.0.0/0"`, "\x00", `"\ud800"`, ",", "]"}

// mutate replaces a value, drops or repeats a part, or flips a byte.
func mutate(random *rand.Rand, s string) string {
	words := strings.SplitAfter(s, ":")
	switch i := random.IntN(len(words)); random.IntN(4) {
	case 0, 1: // another value
		value, rest := words[i], ""
		if at := strings.IndexAny(value, ",}]"); at >= 0 {
			rest = value[at:]
		}
		words[i] = pieces[random.IntN(len(pieces))] + rest
		return strings.Join(words, "")
	case 2:
		from := random.IntN(len(s))
		to := min(len(s), from+random.IntN(12))
		return s[:from] + s[to:]
	default:
		at := random.IntN(len(s))
		return s[:at] + string(rune(32+random.IntN(95))) + s[at+1:]
	}
}
