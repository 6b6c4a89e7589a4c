package integration

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// TestLevelCheck damages attachments: what CHECK of the reference sees, that of ours does.
func TestLevelCheck(t *testing.T) {
	t.Parallel()
	const layer2 = `{` + onBridge + `}`
	const port = "ip -o link show master cni0 | sed -n '1s/^[0-9]*: \\([^@]*\\)@.*/\\1/p'"
	for name, c := range map[string]struct{ conf, damage, differs string }{
		"sound, layer 2":                 {conf: layer2, damage: "true"},
		"no interface, layer 2":          {conf: layer2, damage: "ip -n c1 link del eth0"},
		"out of the bridge, layer 2":     {conf: layer2, damage: "ip link set $(" + port + ") nomaster"},
		"another MAC, layer 2":           {conf: layer2, damage: "ip -n c1 link set eth0 address 02:00:00:00:00:09"},
		"another kind, layer 2":          {conf: layer2, damage: "ip -n c1 link del eth0; ip -n c1 link add eth0 type bridge"},
		"no bridge, layer 2":             {conf: layer2, damage: "ip link del cni0"},
		"sound":                          {conf: bridged(`, "isGateway": true`), damage: "true"},
		"no interface":                   {conf: bridged(`, "isGateway": true`), damage: "ip -n c1 link del eth0"},
		"no address":                     {conf: bridged(`, "isGateway": true`), damage: "ip -n c1 addr flush dev eth0"},
		"no route":                       {conf: bridged(`, "isGateway": true`), damage: "ip -n c1 route del 198.51.100.0/24"},
		"no lease":                       {conf: bridged(`, "isGateway": true`), damage: "rm /var/lib/cni/networks/demo/10.88.0.2 /var/lib/cni/networks/demo/fd00:88::2"},
		"promiscuous without being told": {conf: layer2, damage: "ip link set cni0 promisc on", differs: "a sniffer on the host is no fault of the attachment"},
		"not promiscuous":                {conf: `{` + onBridge + `, "promiscMode": true}`, damage: "ip link set cni0 promisc off"},
		"an interface down":              {conf: layer2, damage: "ip -n c1 link set eth0 down", differs: "it cannot send"},
		"another gateway":                {conf: bridged(`, "isGateway": true`), damage: "ip addr flush dev cni0", differs: "the containers' way out is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check := func(ours bool) error {
				t.Helper()
				b := newBed(t)
				dirs := []string{b.ref}
				if ours {
					dirs = []string{b.bin, b.ref}
				}
				n, err := b.Network(conflist("1.0.0", c.conf), dirs...)
				must(t, err)
				box := b.container("c1")
				b.add(n, box)
				_, err = b.Output("sh", "-ec", c.damage)
				must(t, err)
				return n.Check(box)
			}
			theirs, ours := check(false), check(true)
			if same := (theirs == nil) == (ours == nil); same != (c.differs == "") {
				t.Errorf("the reference: %v; ours: %v; want them to differ because %q", theirs, ours, c.differs)
			}
		})
	}
}

// leases are the addresses that host-local keeps for the network.
func (b *bed) leases() []string {
	b.t.Helper()
	out, err := b.Output("sh", "-c", "ls /var/lib/cni/networks/demo")
	must(b.t, err)
	return slices.DeleteFunc(strings.Fields(out), func(name string) bool { return name == "lock" || strings.HasPrefix(name, "last_") })
}

// TestLevelGC has host-local's leases of containers that went without a DEL, also of one
// that the reference's bridge attached. Its own bridge hands GC to no IPAM plugin.
func TestLevelGC(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	plugin := bridged(`, "isGateway": true`)
	conf := conflist("1.1.0", plugin)
	theirs, err := b.Network(conf, b.ref)
	must(t, err)
	n, err := b.Network(conf, b.bin, b.ref)
	must(t, err)
	kept, old, lost := b.container("kept"), b.container("old"), b.container("lost")
	b.add(theirs, old)
	b.add(n, kept)
	b.add(n, lost)
	must(t, n.DropCache())
	must(t, old.Remove())
	must(t, lost.Remove())
	if have := b.leases(); len(have) != 6 {
		t.Fatalf("leases before: %v", have)
	}
	gc := func(valid string) {
		t.Helper()
		b.good(b.call(sandbox.Call{Verb: "GC", Config: config("1.1.0", plugin, `"cni.dev/valid-attachments": `+valid)}))
	}
	gc(`[{"containerID": "kept", "ifname": "eth0"}]`)
	if have := b.leases(); !slices.Equal(have, []string{"10.88.0.3", "fd00:88::3"}) {
		t.Errorf("leases of the container that stays: %v", have)
	}
	serve(t, kept, ":80")
	b.answers(b, "10.88.0.3:80", kept, "")
	gc(`[]`)
	if have := b.leases(); len(have) > 0 {
		t.Errorf("leases without a container: %v", have)
	}
	if _, err := kept.Output("ip", "link", "show", "dev", "eth0"); err == nil {
		t.Error("GC leaves the interface of a container that is not valid")
	}
	b.nothingOf()
}

// TestLevelStatus asks networks whether an ADD could work.
func TestLevelStatus(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		conf string
		fine bool
	}{
		"host-local":       {bridged(`, "isGateway": true`), true},
		"layer 2":          {`{` + onBridge + `}`, true},
		"no IPAM plugin":   {`{` + onBridge + `, "ipam": {"type": "nobody"}}`, false},
		"macvlan":          {`{"type": "macvlan", ` + localRange + `}`, true},
		"macvlan, layer 2": {`{"type": "macvlan"}`, true},
		"macvlan, no IPAM": {`{"type": "macvlan", "ipam": {"type": "nobody"}}`, false},
		"loopback":         {`{"type": "loopback"}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			kind := between(c.conf, `"type": "`, `"`)
			for who, dir := range map[string]string{"the reference": b.ref, "ours": b.bin} {
				r := b.call(sandbox.Call{Plugin: filepath.Join(dir, kind), Verb: "STATUS", Path: b.ref, Config: config("1.1.0", c.conf)})
				if (r.Exit == 0) != c.fine {
					t.Errorf("%s: exit %d: %s%s", who, r.Exit, r.Stdout, r.Stderr)
				}
			}
		})
	}
}
