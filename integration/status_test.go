package integration

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// TestStatusRefuses: STATUS says no, with code 50, where an ADD would, and changes nothing on the
// host; and yes again when that has passed.
func TestStatusRefuses(t *testing.T) {
	t.Parallel()
	nothing := t.TempDir() // a PATH without programs
	macvlan := `{"type": "macvlan", "master": "later0", "ipam": {"ranges": [[{"subnet": "192.0.2.0/24"}]]}}`
	var full, empty strings.Builder
	for i := range 1023 {
		fmt.Fprintf(&full, "link add p%d type veth peer name q%d\nlink set p%d master berth0\n", i, i, i)
	}
	fmt.Fprint(&empty, "ip link del p7")
	for _, c := range []struct {
		name, plugin string
		damage, mend string
		path, say    string
	}{
		{name: "damaged state", plugin: bridge, damage: "mkdir -p /run/berth; touch /run/berth/lock; printf garbage > /run/berth/berth.db", mend: "rm /run/berth/berth.db", say: "berth.db"},
		{name: "empty state", plugin: bridge, damage: "mkdir -p /run/berth; touch /run/berth/lock; : > /run/berth/berth.db", mend: "rm /run/berth/berth.db", say: "berth.db"},
		{name: "damaged state, macvlan", plugin: with(`{"type": "macvlan"}`, `"master": "`+sandbox.Uplink+`"`),
			damage: "mkdir -p /run/berth; touch /run/berth/lock; printf garbage > /run/berth/berth.db", mend: "rm /run/berth/berth.db", say: "berth.db"},
		{name: "no bridge", plugin: bridge, damage: "ip link add berth0 type veth peer name there0", mend: "ip link del berth0", say: "berth0"},
		{name: "bridge full", plugin: bridge, damage: "ip link add berth0 type bridge\nip -batch - <<.\n" + full.String() + ".", mend: empty.String(), say: "1,023 ports"},
		{name: "no iptables", plugin: with(bridge, `"firewallBackend": "iptables"`), path: nothing, say: "iptables"},
		{name: "no program for iptables' FORWARD", plugin: with(bridge, `"firewallBackend": "nftables"`), damage: "iptables-nft -P FORWARD DROP", path: nothing, say: "Debian's package is iptables"},
		{name: "no program for ip6tables' FORWARD", plugin: with(bridge, `"firewallBackend": "nftables"`), damage: "ip6tables-legacy -P FORWARD DROP", path: nothing, say: "Debian's package is iptables"},
		{name: "no program for firewalld", plugin: with(bridge, `"firewallBackend": "nftables"`),
			damage: "nft add table inet firewalld", mend: "nft delete table inet firewalld", path: nothing, say: "Debian's package is firewalld"},
		{name: "no master", plugin: macvlan, mend: "ip link add later0 type veth peer name there0 && ip link set later0 up", say: "later0"},
		{name: "no parent", plugin: strings.Replace(macvlan, "later0", "later0.10", 1), say: "later0"},
		{name: "no overlay network", plugin: `{"type": "vxlan-overlay"}`, say: "does not know it yet"},
		{name: "addresses of another network", plugin: with(bridge, `"bridge": "other0"`), damage: "true", say: `network "first"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			sh := func(script string) {
				t.Helper()
				_, err := b.Output("sh", "-ec", script)
				must(t, err)
			}
			if c.name == "addresses of another network" {
				first, err := b.Network(strings.Replace(conflist(version, bridge), `"demo"`, `"first"`, 1), b.bin, b.ref)
				must(t, err)
				b.add(first, b.container("holder"))
				c.mend = "ip link del berth0"
			}
			sh(c.damage)
			kind := between(c.plugin, `"type": "`, `"`)
			call := sandbox.Call{Plugin: filepath.Join(b.bin, kind), Verb: "STATUS", Config: config(version, c.plugin)}
			if c.path != "" {
				call.Env = []string{"PATH=" + c.path}
			}
			look := func() string {
				t.Helper()
				if strings.Contains(c.name, "state") { // a snapshot would read it
					out, err := b.Output("sh", "-c", "ls -i /run/berth; cat /run/berth/berth.db; ip link; nft list ruleset")
					must(t, err)
					return out
				}
				return fmt.Sprint(b.snapshot())
			}
			before := look()
			b.refused(b.call(call), 50, c.say)
			if after := look(); after != before {
				t.Errorf("STATUS changed the host:\n%s\n%s", before, after)
			}
			box := b.container("box")
			add := call
			add.Verb, add.Container, add.Netns = "ADD", box.ID, box.Netns
			if r := b.call(add); r.Exit == 0 {
				t.Errorf("STATUS says no, and ADD works: %s", r.Stdout)
			}
			if c.path != "" {
				call.Env = nil
				if c.mend == "" {
					c.mend = "true"
				}
			}
			if c.mend == "" {
				return
			}
			sh(c.mend)
			whole := b.snapshot()
			b.good(b.call(call))
			b.same(whole, "after STATUS of what works")
			add.Env = nil
			b.good(b.call(add))
		})
	}
}

// between is what stands in a text between two others.
func between(text, from, to string) string {
	_, rest, _ := strings.Cut(text, from)
	found, _, _ := strings.Cut(rest, to)
	return found
}
