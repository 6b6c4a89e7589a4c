package integration

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// laterParty is what another party does in a container after ADD, and to the result that the
// runtime keeps, or not.
type laterParty struct {
	what   string
	inside string // commands in the container's namespace, one a line
	result func(r map[string]any)
	want   string // of CHECK's error; empty: it is no fault
}

func first(r map[string]any, list string) map[string]any { return r[list].([]any)[0].(map[string]any) }

func lacking(list string) func(map[string]any) {
	return func(r map[string]any) { delete(r, list) }
}

// inContainer is the result's interface of the container, the last one.
func inContainer(r map[string]any) map[string]any {
	all := r["interfaces"].([]any)
	return all[len(all)-1].(map[string]any)
}

var laterParties = []laterParty{
	{"nothing", "", nil, ""},
	{"Multus takes the default route out", "ip route del default", lacking("routes"), ""},
	{"somebody takes the default route out", "ip route del default", nil, "lacks its route to 0.0.0.0/0"},
	{"Multus gives another default route", "ip route replace default via 192.0.2.5", func(r map[string]any) { first(r, "routes")["gw"] = "192.0.2.5" }, ""},
	{"the result has a route that is not there", "", func(r map[string]any) { first(r, "routes")["dst"] = "198.51.100.0/24" }, "lacks its route to 198.51.100.0/24"},
	{"route-override adds a route", "ip route add 198.51.100.0/24 via 192.0.2.1", func(r map[string]any) {
		r["routes"] = append(r["routes"].([]any), map[string]any{"dst": "198.51.100.0/24", "gw": "192.0.2.1"})
	}, ""},
	{"a route of a later plugin is gone", "", func(r map[string]any) {
		r["routes"] = append(r["routes"].([]any), map[string]any{"dst": "198.51.100.0/24", "gw": "192.0.2.1"})
	}, "lacks its route to 198.51.100.0/24"},
	{"sbr moves a route to a table", "ip route del default\nip route add default via 192.0.2.1 dev eth0 table 100", nil, ""},
	{"an address is taken away", "ip addr del ADDR dev eth0", func(r map[string]any) {
		delete(r, "ips")
		delete(r, "routes") // the kernel takes them with it
	}, ""},
	{"an address is taken away without a word", "ip addr del ADDR dev eth0", func(r map[string]any) { delete(r, "routes") }, "lacks its address"},
	{"an address is exchanged", "ip addr del ADDR dev eth0\nip addr add 192.0.2.250/24 dev eth0", func(r map[string]any) {
		first(r, "ips")["address"] = "192.0.2.250/24"
		delete(r, "routes")
	}, ""},
	{"an address is added", "ip addr add 192.0.2.250/24 dev eth0", func(r map[string]any) {
		r["ips"] = append(r["ips"].([]any), map[string]any{"address": "192.0.2.250/24", "interface": first(r, "ips")["interface"]})
	}, ""},
	{"an address of the result is not there", "", func(r map[string]any) {
		r["ips"] = append(r["ips"].([]any), map[string]any{"address": "192.0.2.250/24", "interface": first(r, "ips")["interface"]})
	}, "lacks its address 192.0.2.250/24"},
	{"tuning changes the MAC", "ip link set eth0 address 02:00:00:00:00:99", func(r map[string]any) { inContainer(r)["mac"] = "02:00:00:00:00:99" }, ""},
	{"the MAC is not the result's", "ip link set eth0 address 02:00:00:00:00:99", nil, "has the MAC 02:00:00:00:00:99"},
	{"tuning changes MTU and more", "ip link set eth0 mtu 1400\nip link set eth0 promisc on\nip link set eth0 allmulticast on", nil, ""},
	{"tuning sets a sysctl", "sysctl -qw net.ipv4.conf.eth0.arp_notify=0 net.ipv4.conf.eth0.accept_redirects=0", nil, ""},
	{"it is set down", "ip link set eth0 down", nil, "is down"},
	{"the result lacks the interface", "", lacking("interfaces"), "prevResult has no interface eth0"},
	{"it is gone", "ip link del eth0", nil, "no such device"},
}

// TestLaterParty: CHECK holds the container against what the runtime remembers, and a reload
// and the doctor leave alone what somebody has changed in it, while they mend what is on
// the host.
func TestLaterParty(t *testing.T) {
	t.Parallel()
	const routed = `"ipam": {"subnet": "192.0.2.0/24", "gateway": "192.0.2.1", "rangeStart": "192.0.2.77", "routes": [{"dst": "0.0.0.0/0"}]}`
	for name, plugin := range map[string]string{
		"macvlan": `{"type": "macvlan", "master": "uplink0", ` + routed + `}`,
		"bridge":  `{"type": "bridge", "bridge": "lan0", "isGateway": true, "ipMasq": true, ` + routed + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			must(t, b.Script("ip addr flush dev uplink0"))
			for _, l := range laterParties {
				t.Run(l.what, func(t *testing.T) { b.afterwards(t, filepath.Join(b.bin, name), plugin, l) })
			}
		})
	}
}

func (b *bed) afterwards(t *testing.T, binary, plugin string, l laterParty) {
	here := *b
	here.t = t
	b = &here
	c := b.container("c1")
	call := sandbox.Call{Plugin: binary, Verb: "ADD", Container: c.ID, Netns: c.Netns, Config: config(version, plugin)}
	added := b.good(b.call(call))
	r, addr := parse(t, added.Stdout)
	for line := range strings.Lines(l.inside) {
		words := strings.Fields(strings.ReplaceAll(line, "ADDR", addr+"/24"))
		_, err := c.Output(words[0], words[1:]...)
		must(t, err)
	}
	result := map[string]any{}
	must(t, json.Unmarshal([]byte(added.Stdout), &result))
	if l.result != nil {
		l.result(result)
	}
	prev, err := json.Marshal(result)
	must(t, err)
	call.Verb, call.Config = "CHECK", config(version, plugin, `"prevResult": `+string(prev))
	if reply := b.call(call); l.want == "" {
		b.good(reply)
	} else {
		b.refused(reply, 103, l.want)
	}
	if l.what != "it is gone" { // which is the host's: the interface as such is put back
		before := b.inside(t, c)
		if len(r.Interfaces) > 1 { // something of the host is missing, too
			must(t, b.Script("ip link set "+r.Interfaces[1].Name+" nomaster"))
		}
		for _, mend := range [][]string{{"doctor", "--fix"}, {"reload"}} {
			if out, err := b.Output(filepath.Join(b.bin, "berth"), mend...); err != nil {
				t.Errorf("%s: %v\n%s", mend, err, out)
			}
			if after := b.inside(t, c); !slices.Equal(before, after) {
				t.Errorf("%s has changed the container:\n%s\nit was:\n%s", mend, strings.Join(after, "\n"), strings.Join(before, "\n"))
			}
		}
		if len(r.Interfaces) > 1 {
			out, err := b.Output("ip", "-o", "link", "show", "dev", r.Interfaces[1].Name)
			if must(t, err); !strings.Contains(out, "master lan0") {
				t.Errorf("the host's end is not back on its bridge: %s", out)
			}
		}
	}
	call.Verb = "DEL"
	b.good(b.call(call))
	must(t, c.Remove())
}

// inside is what a container's interface is.
func (b *bed) inside(t *testing.T, c *sandbox.Container) []string {
	t.Helper()
	var all []string
	for _, of := range []string{"link show dev eth0", "addr show dev eth0", "-4 route show table all", "-6 route show table all"} {
		out, err := c.Output("ip", append([]string{"-o"}, strings.Fields(of)...)...)
		must(t, err)
		for line := range strings.Lines(out) { // the carrier comes and goes with the port
			for _, flag := range []string{"NO-CARRIER,", ",LOWER_UP", "M-DOWN,", " state UP", " state DOWN", " state LOWERLAYERDOWN", " linkdown"} {
				line = strings.ReplaceAll(line, flag, "")
			}
			all = append(all, strings.TrimSpace(line))
		}
	}
	return all
}
