package integration

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// plainBridge leaves host ports to another plugin.
const plainBridge = `{"type": "bridge", "bridge": "berth0", "isGateway": true, "ipMasq": true, ` + ownIPAM + `}`

// TestChain puts the reference's plugins behind ours.
func TestChain(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		after []string
		ports bool
	}{
		{"portmap", []string{`{"type": "portmap", "capabilities": {"portMappings": true}}`}, true},
		{"portmap, nftables", []string{`{"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": true}}`}, true},
		{"firewall", []string{`{"type": "firewall"}`}, false},
		{"tuning", []string{`{"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.rp_filter": "2"}, "mtu": 1400}`}, false},
		{"bandwidth", []string{`{"type": "bandwidth", "ingressRate": 100000000, "ingressBurst": 1000000}`}, false},
		{"portmap, firewall and tuning", []string{`{"type": "portmap", "capabilities": {"portMappings": true}}`, `{"type": "firewall"}`,
			`{"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}}`}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBed(t)
			n, before := b.used(append([]string{plainBridge}, test.after...)...)
			c := b.container("c1")
			r, addr := b.add(n, c, tcpPort(8080, 80))
			if len(r.IPs) != 2 {
				t.Errorf("%d addresses, want 2", len(r.IPs))
			}
			serve(t, c, ":80")
			b.answers(b, addr+":80", c, gateway)
			if test.ports {
				b.answers(b.outside, sandbox.HostAddr4+":8080", c, "")
			}
			must(t, n.Check(c, tcpPort(8080, 80)))
			must(t, n.Del(c, tcpPort(8080, 80)))
			must(t, n.Del(c, tcpPort(8080, 80)))
			must(t, c.Remove())
			b.same(before, "after the chain")
		})
	}
}

// TestChained puts ours behind the reference's ptp: it adds ports and masquerade to
// the interface that is there, and makes none.
func TestChained(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	ptp := `{"type": "ptp", "ipam": {"type": "host-local", "subnet": "10.87.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]}}`
	n, before := b.used(ptp, `{"type": "bridge", "bridge": "berth0", "ipMasq": true, "capabilities": {"portMappings": true}}`)
	c := b.container("c1")
	r, _ := b.add(n, c, tcpPort(8080, 80))
	if len(r.Interfaces) != 2 || len(r.IPs) != 1 {
		t.Errorf("the result is not that of ptp: %+v", r)
	}
	serve(t, c, ":80")
	serve(t, b.outside, ":7000")
	b.answers(b.outside, sandbox.HostAddr4+":8080", c, sandbox.OutsideAddr4)
	b.answers(c, sandbox.OutsideAddr4+":7000", b.outside, sandbox.HostAddr4)
	must(t, n.Check(c, tcpPort(8080, 80)))
	must(t, n.Del(c, tcpPort(8080, 80)))
	must(t, c.Remove())
	b.same(before, "after the chain")
}

// TestDelegate has other IPAM plugins give the addresses, and give them back when
// ADD fails.
func TestDelegate(t *testing.T) {
	t.Parallel()
	for name, ipam := range map[string]string{
		"host-local": `"ipam": {"type": "host-local", "ranges": [[` + subnet + `], [` + subnet6 + `]], "routes": [{"dst": "0.0.0.0/0"}]}`,
		"static":     `"ipam": {"type": "static", "addresses": [{"address": "10.88.0.7/16", "gateway": "10.88.0.1"}], "routes": [{"dst": "0.0.0.0/0"}]}`,
		"berth-ipam": `"ipam": {"type": "berth-ipam", "ranges": [[` + subnet + `]], "routes": [{"dst": "0.0.0.0/0"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			plugin := `{` + noIPAM + `, ` + ipam + `}`
			n, before := b.used(plugin)
			c := b.container("c1")
			_, addr := b.add(n, c, tcpPort(8080, 80))
			serve(t, c, ":80")
			b.answers(b, addr+":80", c, gateway)
			b.answers(b.outside, sandbox.HostAddr4+":8080", c, sandbox.OutsideAddr4)
			must(t, n.Status())
			must(t, n.Check(c, tcpPort(8080, 80)))
			must(t, n.GC(c))
			must(t, n.Check(c, tcpPort(8080, 80)))
			must(t, n.Del(c, tcpPort(8080, 80), sandbox.Netns("")))
			must(t, c.Remove())
			b.same(before, "after DEL")

			full := b.container("full") // its eth0 is somebody else's
			_, err := full.Output("ip", "link", "add", "eth0", "type", "bridge")
			must(t, err)
			if _, err := n.Add(full); err == nil {
				t.Error("ADD over an interface that is there works")
			}
			must(t, full.Remove())
			b.same(before, "after a rollback")

			stale := b.container("stale")
			b.add(n, stale)
			must(t, n.GC())
			must(t, n.DropCache())
			must(t, stale.Remove())
			b.same(before, "after GC")
		})
	}
}

// TestDelegateFails has an IPAM plugin fail: its error comes through, and nothing
// stays.
func TestDelegateFails(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	_, before := b.used(bridge)
	c := b.container("c1")
	call := sandbox.Call{Verb: "ADD", Container: c.ID, Netns: c.Netns}
	call.Config = config(version, `{`+noIPAM+`, "ipam": {"type": "nobody"}}`)
	b.refused(b.call(call), 0, "nobody")
	call.Config = config(version, `{`+noIPAM+`, "ipam": {"type": "static", "addresses": [{"address": "nonsense"}]}}`)
	b.refused(b.call(call), 0, "nonsense")
	call.Config = config(version, `{`+noIPAM+`, "ipam": {"type": "../bridge"}}`)
	b.refused(b.call(call), 7, "ipam.type")
	must(t, c.Remove())
	b.same(before, "after a delegate's failure")
}

// TestOurIPAM has the reference's bridge take its addresses from berth-ipam.
func TestOurIPAM(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	list := conflist(version, `{"type": "bridge", "bridge": "ref0", "isGateway": true, "ipam": {"type": "berth-ipam", "subnet": "10.88.0.0/16"}}`)
	n, err := b.Network(list, b.ref, b.bin)
	must(t, err)
	first, c := b.container("first"), b.container("c1")
	b.add(n, first)
	must(t, n.Del(first))
	before := b.snapshot()
	_, addr := b.add(n, c)
	serve(t, c, ":80")
	b.answers(b, addr+":80", c, "")
	must(t, n.Check(c))
	must(t, n.GC(c))
	must(t, n.Check(c))
	must(t, n.Del(c))
	b.same(before, "after berth-ipam")
}

// TestSwap runs one conflist with the reference's bridge and with ours: results and
// the kernel's state are the same but for names and MACs.
func TestSwap(t *testing.T) {
	t.Parallel()
	conf := `{"type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "hairpinMode": true, "mtu": 1450,
		"ipam": {"type": "host-local", "ranges": [[` + subnet + `], [` + subnet6 + `]], "routes": [{"dst": "198.51.100.0/24"}]},
		"dns": {"nameservers": ["192.0.2.53"]}}`
	look := func(first string) []string {
		b := newBed(t)
		dirs := []string{b.bin, b.ref}
		if first != b.bin {
			dirs = []string{b.ref}
		}
		n, err := b.Network(conflist("1.0.0", conf), dirs...)
		must(t, err)
		c := b.container("c1")
		text, err := n.AddJSON(c)
		must(t, err)
		seen := []string{normal(t, text)}
		for _, args := range []string{"-4 addr show dev eth0", "-6 addr show dev eth0 scope global", "-4 route", "-6 route"} {
			out, err := c.Output("ip", append([]string{"-o"}, strings.Fields(args)...)...)
			must(t, err)
			seen = append(seen, "inside ip "+args+": "+normal(t, out))
		}
		for _, args := range []string{"-4 addr show dev cni0", "-6 addr show dev cni0 scope global", "-4 route"} {
			out, err := b.Output("ip", append([]string{"-o"}, strings.Fields(args)...)...)
			must(t, err)
			seen = append(seen, "host ip "+args+": "+normal(t, out))
		}
		out, err := b.Output("bridge", "-d", "link")
		must(t, err)
		hairpin := regexp.MustCompile(`(hairpin|isolated|learning|flood) (on|off)`).FindAllString(out, -1)
		seen = append(seen, strings.Join(hairpin, " "))
		for _, name := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
			out, err := b.Output("cat", "/proc/sys/"+name)
			must(t, err)
			seen = append(seen, name+" "+out)
		}
		must(t, n.Check(c))
		must(t, n.Del(c))
		return seen
	}
	bin, err := sandbox.Binaries()
	must(t, err)
	theirs, ours := look(""), look(bin)
	for i := range theirs {
		if theirs[i] != ours[i] {
			t.Errorf("the reference:\n%s\nours:\n%s", theirs[i], ours[i])
		}
	}
}

var volatile = []*regexp.Regexp{
	regexp.MustCompile(`veth[0-9a-z]+`), regexp.MustCompile(`([0-9a-f]{2}:){5}[0-9a-f]{2}`), regexp.MustCompile(`\b\d+: |if\d+`),
	regexp.MustCompile(`fe80::[0-9a-f:]+`), regexp.MustCompile(` (tentative|nodad|linkdown)`), regexp.MustCompile(`[\\\t ]+`),
}

// normal takes out what differs between two runs of one program.
func normal(t *testing.T, text string) string {
	t.Helper()
	var v any
	if json.Unmarshal([]byte(text), &v) == nil {
		data, err := json.Marshal(v)
		must(t, err)
		text = string(data)
	}
	for _, re := range volatile {
		text = re.ReplaceAllString(text, " ")
	}
	return strings.TrimSpace(text)
}

// TestSwapLive replaces the binary under a running container: ours deletes what the
// reference made, as far as a DEL without a record can.
func TestSwapLive(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	conf := conflist(version, `{"type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": {"type": "host-local", "subnet": "10.88.0.0/16"}}`)
	theirs, err := b.Network(conf, b.ref)
	must(t, err)
	ours, err := b.Network(conf, b.bin, b.ref)
	must(t, err)
	c := b.container("c1")
	b.add(theirs, c)
	must(t, ours.Del(c))
	out, err := b.Output("sh", "-c", "ls /var/lib/cni/networks/demo")
	must(t, err)
	if strings.Contains(out, "10.88.") {
		t.Errorf("DEL of a container of the reference keeps its lease: %s", out)
	}
	must(t, c.Remove())
	next := b.container("c2")
	b.add(ours, next)
	must(t, ours.Del(next))
}
