package doctor

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/agent"
	"github.com/berth-cni/berth/pkg/overlay/overlaytest"
)

// well is a host that nothing is wrong with.
func well() *facts {
	state := overlaytest.Example(noon)
	status := healthy()
	f := &facts{
		Now: noon, Listen: "127.0.0.1:9477", DataDir: "/var/lib/berth", Store: "etcd at http://192.0.2.9:2379",
		AgentRuns: true, Status: status, State: state,
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

var update = flag.Bool("update", false, "write the golden files")

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// healthy is an agent with two networks.
func healthy() *agent.Status {
	p := netip.MustParsePrefix
	return &agent.Status{
		Node: "host-a", Ready: true,
		Underlay: agent.UnderlayStatus{Address: netip.MustParseAddr("192.0.2.1"), Device: "eth0", MTU: 1500},
		Store:    agent.StoreStatus{Registered: true, Nodes: 3},
		Networks: []agent.NetworkStatus{
			{Name: "blue", VNI: 4097, Device: "vxlan4097", Bridge: "overlay4097", MTU: 1450, Port: 4789, Peers: 2,
				Blocks:  []agent.BlockStatus{{Prefix: p("10.42.3.0/24"), Size: 253, Free: 200}},
				Repairs: map[string]uint64{"route": 3, "fdb": 1}, Probes: agent.ProbeStatus{OK: 2}},
			{Name: "green", VNI: 77, Device: "vxlan77", Bridge: "overlay77", MTU: 1400, Port: 8472,
				Blocks:  []agent.BlockStatus{{Prefix: p("10.44.0.128/25"), Size: 125, Free: 125}, {Prefix: p("fd00:44:0:7::/64"), Size: 4e18, Free: 4e18}},
				Repairs: map[string]uint64{}},
		},
		Counters: map[string]uint64{"store_updates": 7, "kernel_repairs": 4},
	}
}

// write writes a report for the golden file.
func write(w io.Writer, r *Report) {
	say := func(label, text string) {
		fmt.Fprintf(w, "        %s %s\n", label, strings.ReplaceAll(text, "\n", "\n              "))
	}
	if r.Note != "" {
		fmt.Fprintln(w, r.Note)
	}
	for _, c := range r.Checks {
		word := "BAD  "
		switch {
		case c.OK:
			word = "ok   "
		case len(c.Problems) == 0:
			word = "?    "
		}
		fmt.Fprintln(w, word, c.Check)
		if c.Error != "" {
			say("what:", "could not look: "+c.Error)
		}
		for _, p := range c.Problems {
			say("what:", p.What)
			say("why: ", p.Why)
			say("mend:", p.Mend)
			if all := append(p.Networks, p.Containers...); len(all) > 0 {
				say("of:  ", strings.Join(all, " "))
			}
		}
	}
}

// code is 0 when all is well, 1 with problems, else 2 where it could not look.
func code(r *Report) (code int) {
	for _, c := range r.Checks {
		switch {
		case len(c.Problems) > 0:
			return 1
		case c.Error != "":
			code = 2
		}
	}
	return code
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
		{"store empty", 1, func(f *facts) {
			s := &f.Status.Store
			s.Broken, s.BrokenSince = "the store is another one: its incarnation is \"B\", and was \"A\"", noon.Add(-2*time.Minute)
			s.LostNetworks, s.LostNodes, s.LostBlocks = []string{"blue", "green"}, []string{"host-b"}, 3
		}},
		{"deleted by hand", 1, func(f *facts) {
			f.Status.Store.LostNetworks, f.Status.Store.LostNodes = []string{"blue"}, []string{"host-b"}
		}},
		{"lost, no agent", 1, func(f *facts) {
			f.AgentRuns, f.Status = false, nil
			f.State.Apply(overlay.Update{GoneNetworks: []string{"blue"}})
		}},
		{"removed under containers", 1, func(f *facts) {
			f.State.Apply(overlay.Update{GoneNetworks: []string{"blue"}, Removed: []overlay.Removal{{Network: "blue", ID: "id-blue", By: "root@host-b", At: noon}}})
			f.Locals[0].Refused = overlay.RefusedRemoved + " by \"root@host-b\""
		}},
		{"in another's way", 1, func(f *facts) {
			f.Locals[0].Refused = overlay.RefusedConflict + "vni: 4097: is that of network \"cyan\""
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
		{"a way back by another device", 1, func(f *facts) {
			f.Status.Dropped = map[string]uint64{"injected": 30}
			f.Status.Networks[0].Probes.Failing = []agent.FailedPeer{{Peer: "host-b", State: "no-answer", Verdict: "no answer", Since: noon.Add(-time.Minute)}}
		}},
		{"a key that others may read", 1, func(f *facts) {
			f.Status.Networks[0].Problem = "key " + f.DataDir + "/wireguard/private.key: mode 0644: others may have read it: want 0600, and a new key"
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
				Bad: []overlay.BadKey{{Key: "/berth/v1/networks/red", Err: errors.New("vni: 0")}, {Key: "/berth/v1/nodes/../x", Err: errors.New("name: want a letter or digit")}}})
		}},
		{"could not look", 2, func(f *facts) {
			f.RoutesErr, f.LocalErr = errors.New("list routes: permission denied"), errors.New("blue.json is cut off")
		}},
	} {
		f := well()
		c.spoil(f)
		r := examine(f, checks)
		var b bytes.Buffer
		write(&b, r)
		if got := code(r); got != c.code {
			t.Errorf("%s: exit code %d, want %d\n%s", c.name, got, c.code, &b)
		}
		fmt.Fprintf(&all, "== %s (exit code %d)\n%s\n", c.name, c.code, notOK(b.String()))
	}
	const path = "testdata/doctor.txt"
	if *update {
		if err := os.WriteFile(path, []byte(all.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(path); err != nil || all.String() != string(want) {
		t.Errorf("%v, or not as in %s (-update writes it):\n%s", err, path, &all)
	}
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

func TestQuote(t *testing.T) {
	if got := quote("x'; reboot; '"); got != `'x'\''; reboot; '\'''` {
		t.Error(got)
	}
}
