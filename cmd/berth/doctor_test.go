package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/agent"
)

// well is a host that nothing is wrong with.
func well() *facts {
	state := example().state
	status := healthy().Status()
	f := &facts{
		Now: noon, Listen: defaultListen, DataDir: "/var/lib/berth", Store: "etcd at http://192.0.2.9:2379",
		AgentRuns: true, Status: &status, State: state,
		Identity: &overlay.Identity{Node: "host-a", Token: "secret-host-a"},
		Devices: map[string]link.Link{"vxlan4097": {Up: true, MTU: 1450}, "overlay4097": {Up: true, MTU: 1450}, "vxlan77": {Up: true, MTU: 1400}, "overlay77": {Up: true, MTU: 1400},
			"eth0": {Up: true, MTU: 1500}},
		Forwards: map[bool]string{true: "1", false: "1"},
		Routes:   []link.HostRoute{{Dst: netip.MustParsePrefix("192.0.2.0/24"), Device: "eth0"}},
	}
	for name, mtu := range map[string]int{"blue": 1450, "green": 1400} {
		f.Locals = append(f.Locals, &overlay.Local{Network: state.Networks[name], Node: "host-a", MTU: mtu, Blocks: state.BlocksOf(name, "host-a")})
	}
	if f.Locals[0].Network.Name != "blue" {
		f.Locals[0], f.Locals[1] = f.Locals[1], f.Locals[0]
	}
	return f
}

func TestDoctor(t *testing.T) {
	var all strings.Builder
	for _, c := range []struct {
		name  string
		code  int
		spoil func(*facts)
	}{
		{"all is well", 0, func(*facts) {}},
		{"no part in overlays", 0, func(f *facts) {
			*f = facts{Now: noon, DataDir: "/var/lib/berth", StatusErr: errors.New("connection refused")}
		}},
		{"no agent", 1, func(f *facts) { f.AgentRuns, f.Status = false, nil }},
		{"agent answers elsewhere", 1, func(f *facts) { f.Status, f.StatusErr = nil, errors.New("connection refused") }},
		{"agent not ready", 1, func(f *facts) { f.Status.Ready, f.Status.Why = false, "the store has not been read yet" }},
		{"store away", 1, func(f *facts) {
			f.Status.Store = agent.StoreStatus{Away: true, Error: "no leader", Since: noon.Add(-5 * time.Minute)}
			f.State, f.StoreErr = nil, errors.New("etcd at http://192.0.2.9:2379 does not answer: context deadline exceeded")
		}},
		{"refused", 1, func(f *facts) { f.Locals[0].Refused = "node \"host-a\" is running on another host" }},
		{"another's name", 1, func(f *facts) { f.Identity.Token = "mine" }},
		{"network problem", 1, func(f *facts) { f.Status.Networks[1].Problem = "every block is owned by a node" }},
		{"device gone, device down", 1, func(f *facts) {
			delete(f.Devices, "vxlan4097")
			f.Devices["vxlan77"], f.Devices["overlay77"] = link.Link{Up: false, MTU: 1400}, link.Link{Up: false, MTU: 1400}
		}},
		{"no forwarding", 1, func(f *facts) { f.Forwards = map[bool]string{true: "0", false: "0"} }},
		{"no bridge yet", 0, func(f *facts) {
			f.Forwards[true] = "0"
			delete(f.Devices, "overlay4097")
			delete(f.Devices, "overlay77")
		}},
		{"underlay shrank", 1, func(f *facts) { f.Status.Underlay.MTU = 1400 }},
		{"device's MTU changed", 1, func(f *facts) { f.Devices["vxlan4097"] = link.Link{Up: true, MTU: 9000} }},
		{"black holes", 1, func(f *facts) {
			f.Status.Networks[0].Probes.Failing = []agent.FailedPeer{
				{Peer: "host-c", State: "small-mtu", Verdict: "packets of more than 1400 bytes do not pass", Since: noon.Add(-time.Hour)},
				{Peer: "host-b", State: "no-answer", Verdict: "no answer, though the peer is alive: is the VXLAN port blocked on the way?", Since: noon.Add(-3 * time.Hour)}}
		}},
		{"many black holes", 1, func(f *facts) {
			for i := range 1000 {
				for range 2 { // families
					f.Status.Networks[0].Probes.Failing = append(f.Status.Networks[0].Probes.Failing,
						agent.FailedPeer{Peer: fmt.Sprintf("n%03d", i), State: "no-answer", Verdict: "no answer", Since: noon.Add(-time.Minute)})
				}
			}
		}},
		{"blocks full", 1, func(f *facts) { f.Status.Networks[0].Blocks[0].Free = 2 }},
		{"subnet full", 1, func(f *facts) {
			n := f.State.Networks["blue"]
			n.NodePrefix = []int{18}
			f.State.Apply(overlay.Update{Networks: []overlay.Network{n}, Blocks: []overlay.Block{
				{Network: "blue", Prefix: netip.MustParsePrefix("10.42.128.0/18"), Node: "host-b", Token: "secret-host-b"}}})
		}},
		{"overlap", 1, func(f *facts) {
			f.Routes = append(f.Routes, link.HostRoute{Dst: netip.MustParsePrefix("10.42.8.0/21"), Device: "tun0"})
		}},
		{"bad data", 1, func(f *facts) {
			other := f.State.Networks["blue"]
			other.Name, other.Created = "cyan", noon.Add(time.Hour)
			f.State.Apply(overlay.Update{Networks: []overlay.Network{other},
				Bad: []overlay.BadKey{{Key: "/berth/v1/nodes/../x", Err: errors.New("name: want a letter or digit")}}})
		}},
		{"could not look", 2, func(f *facts) {
			f.RoutesErr, f.LocalErr = errors.New("list routes: permission denied"), errors.New("blue.json is cut off")
		}},
	} {
		f := well()
		c.spoil(f)
		r := examine(f, checks)
		var b bytes.Buffer
		r.write(&b, false)
		if got := r.code(); got != c.code {
			t.Errorf("%s: exit code %d, want %d\n%s", c.name, got, c.code, &b)
		}
		fmt.Fprintf(&all, "== %s (exit code %d)\n%s\n", c.name, c.code, notOK(b.String()))
	}
	golden(t, "doctor.txt", all.String())
}

// notOK drops the checks that are fine, unless all are.
func notOK(s string) string {
	var kept []string
	for line := range strings.Lines(s) {
		if !strings.HasPrefix(line, "ok ") {
			kept = append(kept, line)
		}
	}
	if len(kept) == 0 {
		return s
	}
	return strings.Join(kept, "")
}

func TestDoctorColours(t *testing.T) {
	r := &report{Checks: []finding{{Check: "a", OK: true}, {Check: "b", Problems: []problem{{"x", "y", "z"}}}, {Check: "c", Error: "e"}}}
	var b bytes.Buffer
	r.write(&b, true)
	for _, want := range []string{green + "ok" + plain, red + "BAD" + plain, yellow + "?" + plain} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in %q", want, b.String())
		}
	}
}

// On a real host: what is there is found, by an agent that answers.
func TestDoctorLooks(t *testing.T) {
	nstest.Host(t)
	for _, args := range [][]string{{"link", "add", "vxlan4097", "mtu", "1450", "type", "vxlan", "id", "4097", "dstport", "4789", "local", "127.0.0.1"}} {
		if err := nstest.Run("ip", args...); err != nil {
			t.Fatal(err)
		}
	}
	m := example()
	t.Setenv("BERTH_STATE_DIR", t.TempDir())
	dir := t.TempDir()
	local := &overlay.Local{Network: m.state.Networks["blue"], Node: "host-a", MTU: 1450, Blocks: m.state.BlocksOf("blue", "host-a")}
	if err := local.Write(dir); err != nil {
		t.Fatal(err)
	}
	code, out, errs := berth(t, m, "doctor", "--format", "json", "--data-dir", dir, "--listen", "127.0.0.1:1")
	var r report
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitFailed || len(r.Checks) != len(checks) {
		t.Fatalf("%d, %v\n%s%s", code, err, out, errs)
	}
	bad := map[string]string{}
	for _, c := range r.Checks {
		for _, p := range c.Problems {
			bad[c.Check] += p.What
		}
		if c.Error != "" {
			t.Errorf("%s: %s", c.Check, c.Error)
		}
	}
	if len(bad) != 2 || bad["the agent runs"] != "no agent runs on this host" || bad["VXLAN devices are there and up"] != "network blue: device vxlan4097 is down" {
		t.Errorf("%q", bad)
	}
}

// On a host without an overlay the doctor does not wait for a store that nobody has
// named.
func TestDoctorUnused(t *testing.T) {
	nstest.Host(t)
	code, out, _ := berth(t, nil, "doctor", "--listen", "127.0.0.1:1")
	if code != exitDone || !strings.Contains(out, "takes no part in overlay networks") {
		t.Errorf("%d, %s", code, out)
	}
	code, out, _ = berth(t, nil, "doctor", "--listen", "127.0.0.1:1", "--etcd-endpoints", "http://192.0.2.9:2379")
	if code != exitFailed || !strings.Contains(out, "this program cannot use the store: this test has no store") {
		t.Errorf("%d, %s", code, out)
	}
}

func TestAskAgent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := serve(l, healthy(), func(err error) { t.Error(err) })
	s, err := askAgent(t.Context(), l.Addr().String())
	if err != nil || s.Node != "host-a" {
		t.Errorf("%+v, %v", s, err)
	}
	server.Close()
	if _, err := askAgent(t.Context(), l.Addr().String()); err == nil {
		t.Error("an agent that has ended answers")
	}
	l, err = net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	other := &http.Server{Handler: http.NotFoundHandler()}
	go other.Serve(l)
	defer other.Close()
	if _, err := askAgent(t.Context(), l.Addr().String()); err == nil || !strings.Contains(err.Error(), "is it another program?") {
		t.Error(err)
	}
}

func TestReachable(t *testing.T) {
	for listen, want := range map[string]string{"127.0.0.1:9477": "127.0.0.1:9477", "0.0.0.0:1": "127.0.0.1:1", "[::]:1": "[::1]:1", "192.0.2.1:1": "192.0.2.1:1"} {
		if got := reachable(listen); got != want {
			t.Errorf("%s: %s, want %s", listen, got, want)
		}
	}
}
