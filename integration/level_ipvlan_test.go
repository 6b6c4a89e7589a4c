package integration

import (
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// hasIPVlan tells whether the kernel has ipvlans.
func (b *bed) hasIPVlan() bool {
	_, err := b.Output("ip", "link", "add", "link", sandbox.Uplink, "name", "probe", "type", "ipvlan", "mode", "l2")
	if err != nil {
		return false
	}
	must(b.t, b.Script("ip link del probe"))
	return true
}

// ipvlan skips the test where the kernel has none.
func (b *bed) ipvlan() {
	b.t.Helper()
	if !b.hasIPVlan() {
		b.t.Skip("this kernel has no ipvlan (CONFIG_IPVLAN)")
	}
}

// TestLevelIPVlan has the keys of the reference's ipvlan.
func TestLevelIPVlan(t *testing.T) {
	t.Parallel()
	newBed(t).ipvlan()
	const addresses = `"ipam": {"type": "host-local", "ranges": [[` + subnet + `], [` + subnet6 + `]], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}`
	const inContainer = "ip -n c1 link add cable0 type veth peer name cable1\nip -n c1 link set cable0 up"
	on := func(more string) string { return `{"type": "ipvlan"` + more + `, ` + addresses + `}` }
	for name, l := range map[string]level{
		"master":          {conf: on(`, "master": "uplink0"`)},
		"no master":       {conf: on("")},
		"mtu":             {conf: on(`, "mtu": 1400`)},
		"linkInContainer": {conf: on(`, "linkInContainer": true, "master": "cable0"`), before: inContainer},
		"dns":             {conf: on(`, "dns": {"nameservers": ["192.0.2.53"]}`)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if strings.Contains(l.conf, "ipam") {
				l.differs = map[string]string{"accept_dad": noDAD}
			}
			l.test(t)
		})
	}
}

// TestIPVlanMissing: on a kernel without ipvlans the plugin says so, and leaves nothing.
func TestIPVlanMissing(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	if b.hasIPVlan() {
		t.Skip("this kernel has ipvlan")
	}
	n := b.network(`{"type": "ipvlan", "ipam": {"subnet": "192.0.2.0/24"}}`)
	first := b.container("c0")
	_, added := n.AddJSON(first) // what a host remembers of a network stays
	must(t, first.Remove())
	before := b.snapshot()
	c := b.container("c1")
	_, again := n.AddJSON(c)
	for verb, err := range map[string]error{"STATUS": n.Status(), "ADD": added, "ADD again": again} {
		if err == nil || !strings.Contains(err.Error(), "this kernel has no ipvlan (CONFIG_IPVLAN)") {
			t.Errorf("%s: %v", verb, err)
		}
	}
	must(t, n.Del(c))
	must(t, n.GC())
	must(t, c.Remove())
	b.same(before, "after ADD was refused")
}
