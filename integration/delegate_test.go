package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// ipamPlugin writes an IPAM plugin, a script, and returns its folder. It keeps a log of
// its commands, each with the state of the interface that it found in the container, and
// then runs body.
func (b *bed) ipamPlugin(body string) (dir string) {
	b.t.Helper()
	dir = b.t.TempDir()
	script := "#!/bin/sh\ncat >/dev/null\nif [ $CNI_COMMAND = GC ] || [ $CNI_COMMAND = STATUS ]; then exit 0; fi\n" +
		"N=$(basename $CNI_NETNS)\nlink=$(ip -n $N -o link show dev $CNI_IFNAME 2>/dev/null)\n" +
		"case $link in *,UP,*|*,UP\\>*) state=up;; ?*) state=down;; *) state=absent;; esac\n" +
		"echo $CNI_COMMAND $state $(echo $link | sed 's/.*link.ether //; s/ .*//') >>" + dir + "/log\n" + body + "\n"
	must(b.t, os.WriteFile(filepath.Join(dir, "looks"), []byte(script), 0o755))
	return dir
}

func (b *bed) log(dir string) []string {
	b.t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "log"))
	must(b.t, err)
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

func answer(result string) string { return "[ $CNI_COMMAND = ADD ] && echo '" + result + "'\ntrue" }

// delegating are the plugins that a delegated IPAM works with, with 192.0.2.0/24 behind
// the interface.
var delegating = map[string]string{
	"macvlan": `{"type": "macvlan", "master": "uplink0", %s}`,
	"shim":    `{"type": "macvlan", "master": "uplink0", "hostShim": true, %s}`,
	"bridge":  `{"type": "bridge", "bridge": "lan0", "isGateway": true, %s}`,
	"policed": `{"type": "bridge", "bridge": "lan0", "ipMasq": true, "icc": false, "hairpinMode": true, %s}`,
}

// delegatingBed is a host whose uplink has no address that a bridge could have.
func delegatingBed(t *testing.T) *bed {
	b := newBed(t)
	must(t, b.Script("ip addr flush dev uplink0"))
	return b
}

// routeKeys are those of CNI SPEC 1.1.0, section 5, each as the kernel shows it.
const routeKeys = `[
	{"dst": "0.0.0.0/0", "gw": "192.0.2.9", "mtu": 1400, "advmss": 1300, "priority": 77},
	{"dst": "198.51.100.0/24", "gw": "192.0.2.9", "table": 100},
	{"dst": "203.0.113.0/24", "scope": 253},
	{"dst": "2001:db8:7::/48", "gw": "2001:db8::9", "mtu": 1380, "priority": 99}]`

var routesInside = []string{
	"default via 192.0.2.9 dev eth0 metric 77 mtu 1400 advmss 1300",
	"198.51.100.0/24 via 192.0.2.9 dev eth0 table 100",
	"203.0.113.0/24 dev eth0 scope link",
	"2001:db8:7::/48 via 2001:db8::9 dev eth0 metric 99 mtu 1380",
}

// TestRouteKeys: what a delegate answers with, and what ipam.routes says, reaches the
// interface and the result.
func TestRouteKeys(t *testing.T) {
	t.Parallel()
	const dual = `"ips": [{"address": "192.0.2.77/24", "gateway": "192.0.2.9"}, {"address": "192.0.2.78/24"}, {"address": "2001:db8::77/64", "gateway": "2001:db8::9"}]`
	ipams := map[string]string{
		"delegate": `"ipam": {"type": "looks"}`,
		"built-in": `"ipam": {"ranges": [[{"subnet": "192.0.2.0/24", "gateway": "192.0.2.9", "rangeStart": "192.0.2.77"}], [{"subnet": "2001:db8::/64", "gateway": "2001:db8::9", "rangeStart": "2001:db8::77"}]], "routes": ` + routeKeys + `}`,
	}
	for name, plugin := range delegating {
		for kind, ipam := range ipams {
			t.Run(name+" "+kind, func(t *testing.T) {
				t.Parallel()
				b := delegatingBed(t)
				dir := b.ipamPlugin(answer(`{"cniVersion": "1.1.0", ` + dual + `, "routes": ` + routeKeys + `, "dns": {"nameservers": ["192.0.2.53"], "search": ["a.example"]}}`))
				n, err := b.Network(conflist(version, fmt.Sprintf(plugin, ipam)), b.bin, dir)
				must(t, err)
				c := b.container("c1")
				text, err := n.AddJSON(c)
				must(t, err)
				b.hasRoutes(c.Netns, routesInside)
				var result struct{ Routes any }
				must(t, json.Unmarshal([]byte(text), &result))
				var want any
				must(t, json.Unmarshal([]byte(routeKeys), &want))
				if got := fmt.Sprint(result.Routes); !strings.HasPrefix(got, strings.TrimSuffix(fmt.Sprint(want), "]")) {
					t.Errorf("routes of the result:\n%v\nwant\n%v", got, want)
				}
				must(t, n.Check(c))
				r, _ := parse(t, text)
				if kind == "delegate" {
					if len(r.IPs) != 3 || len(r.DNS.Nameservers) != 1 || len(r.DNS.Search) != 1 {
						t.Errorf("the result lacks something: %s", text)
					}
					inside, err := c.Output("ip", "-o", "addr", "show", "dev", "eth0")
					must(t, err)
					for _, ip := range r.IPs {
						if !strings.Contains(inside, ip.Address) {
							t.Errorf("no %s in\n%s", ip.Address, inside)
						}
					}
				}
				must(t, n.Del(c))
				if kind == "delegate" {
					mac := r.Interfaces[len(r.Interfaces)-1].Mac
					if got, want := b.log(dir), []string{"ADD down " + mac, "CHECK up " + mac, "DEL up " + mac}; !slices.Equal(got, want) {
						t.Errorf("the plugin saw %q, want %q", got, want)
					}
				}
			})
		}
	}
}

// hasRoutes fails the test unless the namespace has the routes, with their words in the
// order of ip(8).
func (b *bed) hasRoutes(netns string, want []string) {
	b.t.Helper()
	name := filepath.Base(netns)
	v4, err := b.Output("ip", "-n", name, "-4", "route", "show", "table", "all")
	must(b.t, err)
	v6, err := b.Output("ip", "-n", name, "-6", "route", "show", "table", "all")
	must(b.t, err)
	for _, w := range want {
		words := strings.Fields(w)
		if !slices.ContainsFunc(strings.Split(v4+v6, "\n"), func(line string) bool {
			have := strings.Fields(line)
			at := 0
			for _, word := range words { // others may be in between
				i := slices.Index(have[min(at, len(have)):], word)
				if i < 0 {
					return false
				}
				at += i + 1
			}
			return have[0] == words[0]
		}) {
			b.t.Errorf("no route %q in\n%s", w, v4+v6)
		}
	}
}

// TestDelegates: kinds of IPAM plugins, on each plugin that delegates.
func TestDelegates(t *testing.T) {
	t.Parallel()
	const one = `"ips": [{"address": "192.0.2.77/24", "gateway": "192.0.2.1"}]`
	for _, k := range []struct {
		name, body, ipam string
		want             string // the addresses, or the error when it begins with "refused: "
	}{
		{"answers in another version", answer(`{"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "192.0.2.77/24", "gateway": "192.0.2.1"}], "routes": [{"dst": "198.51.100.0/24"}]}`), "", "192.0.2.77/24"},
		{"answers without a version", answer(`{` + one + `}`), "", "192.0.2.77/24"},
		{"sets the interface up", "ip -n $N link set $CNI_IFNAME up\n" + answer(`{"cniVersion": "1.1.0", `+one+`}`), "", "192.0.2.77/24"},
		{"sets it up, and answers IPv6", "ip -n $N link set $CNI_IFNAME up\n" + answer(`{"cniVersion": "1.1.0", "ips": [{"address": "2001:db8::77/64"}]}`), "", "2001:db8::77/64"},
		{"has a route by no router", answer(`{"cniVersion": "1.1.0", ` + one + `, "routes": [{"dst": "198.51.100.0/24", "gw": "0.0.0.0"}]}`), "", "192.0.2.77/24"},
		{"fails", `[ $CNI_COMMAND = ADD ] && { echo '{"cniVersion": "1.1.0", "code": 11, "msg": "no server"}'; exit 1; }; true`, "", "refused: no server"},
		{"fails without a word", "[ $CNI_COMMAND = ADD ] && exit 3; true", "", "refused: exit status 3"},
		{"answers nonsense", answer("hello"), "", "refused: result of ipam plugin looks"},
		{"answers without an address", answer(`{"cniVersion": "1.1.0"}`), "", "refused: has no address"},
		{"answers what cannot be put on", answer(`{"cniVersion": "1.1.0", ` + one + `, "routes": [{"dst": "198.51.100.0/24", "gw": "203.0.113.1"}]}`), "", "refused: add route to 198.51.100.0/24"},
		{"takes the interface away", "ip -n $N link del $CNI_IFNAME\n" + answer(`{"cniVersion": "1.1.0", `+one+`}`), "", "refused: eth0"},
		{"static", "", `{"type": "static", "addresses": [{"address": "192.0.2.77/24", "gateway": "192.0.2.1"}, {"address": "192.0.2.78/24"}, {"address": "2001:db8::77/64"}], "dns": {"nameservers": ["192.0.2.53"]}}`,
			"192.0.2.77/24 192.0.2.78/24 2001:db8::77/64"},
		{"host-local", "", `{"type": "host-local", "ranges": [[{"subnet": "192.0.2.0/24", "rangeStart": "192.0.2.77"}], [{"subnet": "2001:db8::/64", "rangeStart": "2001:db8::77"}]]}`,
			"192.0.2.78/24 2001:db8::78/64"}, // the next ones
	} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			for name, plugin := range delegating {
				t.Run(name, func(t *testing.T) {
					b := delegatingBed(t)
					dir := b.ipamPlugin(k.body)
					ipam := k.ipam
					if ipam == "" {
						ipam = `{"type": "looks"}`
					}
					n, err := b.Network(conflist(version, fmt.Sprintf(plugin, `"ipam": `+ipam)), b.bin, dir, b.ref)
					must(t, err)
					c := b.container("c1")
					refusal, refused := strings.CutPrefix(k.want, "refused: ")
					if !refused {
						b.add(n, c)
						must(t, n.Del(c))
					} else if _, err := n.Add(c); err == nil {
						t.Fatal("is not refused")
					}
					before := b.snapshot()
					text, err := n.AddJSON(c)
					switch {
					case refused && (err == nil || !strings.Contains(err.Error(), refusal)):
						t.Fatalf("%v, want %q", err, refusal)
					case !refused:
						must(t, err)
						b.hasAddresses(text, c.Netns, strings.Fields(k.want))
						must(t, n.Check(c))
						must(t, n.Del(c))
					}
					if out, err := c.Output("ip", "-o", "link"); err != nil || strings.Contains(out, "eth0") {
						t.Errorf("inside: %v\n%s", err, out)
					}
					if k.ipam == "" {
						if log := b.log(dir); !strings.HasPrefix(log[len(log)-1], "DEL ") {
							t.Errorf("no DEL at the end of %q", log)
						}
					}
					b.same(before, "after it")
				})
			}
		})
	}
}

// hasAddresses fails the test unless result and interface have these addresses alone; of
// IPv6's link-local ones there may be one where there is IPv6.
func (b *bed) hasAddresses(text, netns string, want []string) {
	b.t.Helper()
	r, _ := parse(b.t, text)
	var said []string
	for _, ip := range r.IPs {
		said = append(said, ip.Address)
	}
	out, err := b.Output("ip", "-n", filepath.Base(netns), "-o", "addr", "show", "dev", "eth0")
	must(b.t, err)
	var have []string
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); !strings.HasPrefix(f[3], "fe80:") || !strings.Contains(strings.Join(want, ""), ":") {
			have = append(have, f[3])
		}
	}
	if !slices.Equal(said, want) || !slices.Equal(have, want) {
		b.t.Errorf("the result says %q, the interface has %q, want %q", said, have, want)
	}
}
