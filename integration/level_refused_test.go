package integration

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// TestLevelRefused has configurations and hosts that the reference's plugins refuse. Ours
// do, too, with a code that says what kind of fault it is (SPEC 1.1.0, "Error": 7 for
// a configuration), and leave the container and the bridge's addresses as they were. The
// bridge itself stays, as the reference's does.
func TestLevelRefused(t *testing.T) {
	t.Parallel()
	ranges := func(r string) string {
		return `{` + onBridge + `, "isGateway": true, "ipam": {"type": "host-local", "ranges": [[` + r + `]]}}`
	}
	const gw = `, "isGateway": true`
	for name, c := range map[string]struct {
		before, conf, ifName, netns string
		code                        uint // of ours; 0: any
		delegates                   bool // the code is the delegated plugin's, if there is one
		word                        string
		accepted                    string // by the reference: why ours does not
	}{
		"a gateway outside the subnet":        {conf: ranges(`{"subnet": "10.88.0.0/16", "gateway": "10.89.0.1"}`), delegates: true, code: 7, word: "10.89.0.1"},
		"a gateway of the other family":       {conf: ranges(`{"subnet": "10.88.0.0/16", "gateway": "fd00::1"}`), delegates: true, code: 7, word: "fd00::1"},
		"rangeStart after rangeEnd":           {conf: ranges(`{"subnet": "10.88.0.0/16", "rangeStart": "10.88.0.9", "rangeEnd": "10.88.0.8"}`), delegates: true, code: 7, word: "10.88.0.9"},
		"rangeStart after the subnet's end":   {conf: ranges(`{"subnet": "10.88.0.0/16", "rangeStart": "10.89.0.9"}`), delegates: true, code: 7, word: "10.89.0.9"},
		"a subnet with host bits":             {conf: ranges(`{"subnet": "10.88.0.7/16"}`), delegates: true, code: 7, word: "10.88.0.0"},
		"a subnet without room":               {conf: ranges(`{"subnet": "10.88.0.0/31"}`), delegates: true, code: 7, word: "10.88.0.0/31"},
		"no range":                            {conf: `{` + onBridge + `, "ipam": {"type": "host-local"}}`, delegates: true, code: 7, word: "range"},
		"the bridge is a veth":                {conf: bridged(gw), before: "ip link add cni0 type veth peer name cni1", word: "cni0"},
		"another address on the bridge":       {conf: bridged(gw), before: "ip link add cni0 type bridge\nip addr add 10.99.0.1/16 dev cni0", word: "forceAddress"},
		"another address of the subnet":       {conf: bridged(gw), before: "ip link add cni0 type bridge\nip addr add 10.88.0.9/16 dev cni0", word: "forceAddress"},
		"an overlapping IPv6 subnet":          {conf: bridged(gw), before: "ip link add cni0 type bridge\nip addr add fd00:88::9/64 dev cni0 nodad", word: "forceAddress"},
		"an mtu of 65536":                     {conf: bridged(gw + `, "mtu": 65536`), code: 7, word: "65536"},
		"a negative mtu":                      {conf: bridged(gw + `, "mtu": -1`), code: 7, word: "-1", accepted: "the reference ignores it"},
		"an mtu above the master's":           {conf: `{"type": "macvlan", "mtu": 9000, ` + localRange + `}`, code: 7, word: "9000"},
		"no such master":                      {conf: `{"type": "macvlan", "master": "nobody0", ` + localRange + `}`, word: "nobody0"},
		"no such mode":                        {conf: `{"type": "macvlan", "mode": "tunnel", ` + localRange + `}`, code: 7, word: "tunnel"},
		"vlan 4095":                           {conf: bridged(`, "vlan": 4095`), code: 7, word: "4095"},
		"a trunk without maxID":               {conf: bridged(`, "vlanTrunk": [{"minID": 5}]`), code: 7, word: "vlanTrunk[0]"},
		"a trunk backwards":                   {conf: bridged(`, "vlanTrunk": [{"minID": 7, "maxID": 5}]`), code: 7, word: "vlanTrunk[0]"},
		"a trunk's id 0":                      {conf: bridged(`, "vlanTrunk": [{"id": 0}]`), code: 7, word: "vlanTrunk[0].id"},
		"hairpinMode and promiscMode":         {conf: bridged(`, "hairpinMode": true, "promiscMode": true`), code: 7, word: "hairpinMode"},
		"disableContainerInterface with ipam": {conf: bridged(`, "disableContainerInterface": true`), code: 7, word: "disableContainerInterface"},
		"a MAC that is none":                  {conf: bridged(`, "args": {"cni": {"mac": "zz:00"}}`), code: 7, word: "zz:00"},
		"an ipMasqBackend that is none":       {conf: bridged(gw + `, "ipMasq": true, "ipMasqBackend": "ipfw"`), code: 7, word: "ipfw"},
		"no namespace":                        {conf: bridged(gw), netns: "/run/netns/nobody", word: "/run/netns/nobody"},
		"an interface that is there":          {conf: bridged(gw), before: "ip -n c1 link add eth0 type veth peer name eth1", word: "eth0"},
		"an interface that is there, macvlan": {conf: `{"type": "macvlan", ` + localRange + `}`, before: "ip -n c1 link add eth0 type veth peer name eth1", word: "eth0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refuse := func(conf string, ours, built bool) {
				t.Helper()
				b := newBed(t)
				box := b.container("c1")
				must(t, b.Script(c.before))
				dir := b.ref
				if ours {
					dir = b.bin
				}
				kind := between(conf, `"type": "`, `"`)
				call := sandbox.Call{Verb: "ADD", Plugin: filepath.Join(dir, kind), Container: "c1", Netns: or(c.netns, box.Netns), Config: config("1.0.0", conf)}
				before := b.holding(box)
				r := b.call(call)
				if !ours {
					if (r.Exit == 0) != (c.accepted != "") {
						t.Errorf("the reference exits with %d: %s", r.Exit, r.Stdout)
					}
					return
				}
				code := c.code
				if c.delegates && !built {
					code = 0
				}
				b.refused(r, code, c.word)
				if diff := before.Diff(b.holding(box)); diff != nil {
					t.Errorf("it leaves\n%s", strings.Join(diff, "\n"))
				}
				b.nothingOf()
			}
			refuse(c.conf, false, false)
			refuse(c.conf, true, false)
			if built := strings.Replace(c.conf, `"host-local"`, `"berth-ipam"`, 1); built != c.conf {
				refuse(built, true, true)
			}
		})
	}
}

// holding are the addresses of the container and of the host, but for the gateway's.
func (b *bed) holding(c *sandbox.Container) sandbox.Snapshot {
	b.t.Helper()
	s, err := b.Snapshot(c.Netns)
	must(b.t, err)
	inside := "inside " + c.Netns
	gateway := func(line string) bool {
		return strings.HasPrefix(line, "cni0 inet 10.88.0.1/16 ") || strings.HasPrefix(line, "cni0 inet6 fd00:88::1/64 ")
	}
	return sandbox.Snapshot{inside: s[inside], "address": slices.DeleteFunc(s["address"], gateway)}
}
