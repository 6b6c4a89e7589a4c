package cni

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/ipam"
	"github.com/berth-cni/berth/pkg/link/netns"
	"github.com/containernetworking/cni/pkg/types"
)

// made is an ADD that has gone well.
func made(steps ...attach.Step) *attach.Adding {
	gw := netip.MustParseAddr("10.1.0.1")
	return &attach.Adding{
		Attachment: &attach.Attachment{
			Key: attach.Key{Network: "n", Container: "c1", IfName: "eth0"}, Netns: "/run/netns/c1", Steps: steps,
			Addresses: []attach.Address{{Prefix: netip.MustParsePrefix("10.1.0.2/24"), Gateway: gw}},
			Routes:    []attach.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: gw, MTU: 1400}},
		},
		Interfaces: []attach.Interface{{Name: "br0", MAC: "02:00:00:00:00:01", MTU: 1500},
			{Name: "eth0", MAC: "02:00:00:00:00:02", MTU: 1500, Sandbox: "/run/netns/c1"}},
	}
}

const (
	mtus = `{"cniVersion":"1.1.0","interfaces":[{"name":"br0","mac":"02:00:00:00:00:01","mtu":1500},{"name":"eth0","mac":"02:00:00:00:00:02","mtu":1500,"sandbox":"/run/netns/c1"}],` +
		`"ips":[{"interface":1,"address":"10.1.0.2/24","gateway":"10.1.0.1"}],"routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1","mtu":1400}]}`
	plain = `"interfaces":[{"name":"br0","mac":"02:00:00:00:00:01"},{"name":"eth0","mac":"02:00:00:00:00:02","sandbox":"/run/netns/c1"}],` +
		`"ips":[{"interface":1,"address":"10.1.0.2/24","gateway":"10.1.0.1"}],"routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1","mtu":1400}]`
)

func TestResult(t *testing.T) {
	joined := made(&netns.Rebind{})
	joined.Interfaces = joined.Interfaces[1:]
	joined.Interfaces[0].Name = "up0"
	layer2 := made()
	layer2.Addresses, layer2.Routes = nil, nil
	delegate := &ipam.Delegate{Type: "x", DNS: types.DNS{Nameservers: []string{"10.1.0.53"}}}
	for _, c := range []struct {
		what string
		mode Mode
		conf string
		a    *attach.Adding
		want string // the answer, or what the error says
	}{
		{"1.1.0", fullMode, `{"cniVersion": "1.1.0"}`, made(), mtus},
		{"1.0.0", fullMode, `{"cniVersion": "1.0.0"}`, made(), `{"cniVersion":"1.0.0",` + plain + `}`},
		{"0.4.0", fullMode, `{"cniVersion": "0.4.0"}`, made(), `"cniVersion": "0.4.0"`},
		{"0.4.0 has families", fullMode, `{"cniVersion": "0.4.0"}`, made(), `"version": "4"`},
		{"0.2.0", fullMode, `{"cniVersion": "0.2.0"}`, made(), `"ip4": {`},
		{"no version is 0.1.0", fullMode, `{"a": 1}`, made(), `"cniVersion": "0.1.0"`},
		{"0.2.0 without an address", fullMode, `{"cniVersion": "0.2.0"}`, layer2, "cannot convert: no valid IP addresses"},
		{"layer 2", fullMode, `{"cniVersion": "1.0.0"}`, layer2, `{"cniVersion":"1.0.0","interfaces":[{"name":"br0","mac":"02:00:00:00:00:01"},{"name":"eth0","mac":"02:00:00:00:00:02","sandbox":"/run/netns/c1"}]}`},
		{"joined, of another name", fullMode, `{"cniVersion": "1.0.0"}`, joined, `"ips":[{"address":"10.1.0.2/24","gateway":"10.1.0.1"}]`},
		{"behind another plugin", fullMode, `{"cniVersion": "1.0.0", "prevResult": {"interfaces": [{"name": "lo", "sandbox": "/run/netns/c1"}], "dns": {"domain": "d"}}}`, made(),
			`"ips":[{"interface":2,"address":"10.1.0.2/24","gateway":"10.1.0.1"}],"routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1","mtu":1400}],"dns":{"domain":"d"}`},
		{"chained", fullMode, `{` + before + `}`, made(), `{"cniVersion":"1.0.0","interfaces":[{"name":"vethx"},{"name":"eth0","sandbox":"/run/netns/c1"}],"ips":[{"interface":1,"address":"10.9.0.2/24"},{"interface":0,"address":"fd00::2/64"}]}`},
		{"beside others", Mode{Unrecorded: true, Config: bareMode.Config}, `{"cniVersion": "1.0.0", "prevResult": {"interfaces": [{"name": "eth9", "sandbox": "/x"}]}}`, made(),
			`{"cniVersion":"1.0.0","interfaces":[{"name":"eth9","sandbox":"/x"}]}`},
		{"the network's DNS", fullMode, `{"cniVersion": "1.0.0", "dns": {"search": ["s"]}}`, made(delegate), `"dns":{"search":["s"]}`},
		{"the IPAM's DNS", fullMode, `{"cniVersion": "1.0.0"}`, made(delegate), `"dns":{"nameservers":["10.1.0.53"]}`},
		{"with names, the gateway", fullMode, `{"cniVersion": "1.0.0", "names": true, ` + oneSubnet + `, "dns": {"nameservers": ["192.0.2.53"]}}`, made(),
			`"dns":{"nameservers":["10.1.0.1"],"search":["n"]}`},
	} {
		r, _, err := planOf(c.mode, c.conf, "IgnoreUnknown=1;K8S_POD_NAME=web")
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		var b bytes.Buffer
		if err := r.print(&b, c.a); err != nil {
			b.WriteString(err.Error())
		}
		if !strings.Contains(b.String(), c.want) || strings.HasPrefix(c.want, "{") && strings.TrimSpace(b.String()) != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.what, b.String(), c.want)
		}
	}
}

// TestCompare: a result without the interface is none of the attachment. What the
// interface has in it is for [previous.expected].
func TestCompare(t *testing.T) {
	const eth0 = `"interfaces": [{"name": "eth0", "sandbox": "/run/netns/c1"}, {"name": "x"}]`
	for _, c := range []struct {
		prev string
		own  bool
		want string // empty: it has all
	}{
		{`null`, true, ""},
		{`{` + eth0 + `, "ips": [{"address": "10.1.0.2/24", "interface": 0}, {"address": "10.7.0.2/24"}]}`, true, ""},
		{`{` + eth0 + `, "ips": [{"address": "10.1.0.2/24"}]}`, true, ""},
		{`{` + eth0 + `, "ips": [{"address": "10.1.0.2/24", "interface": 1}]}`, true, ""},
		{`{` + eth0 + `, "ips": [{"address": "10.1.0.2/16", "interface": 0}]}`, true, ""},
		{`{"interfaces": [{"name": "up0", "sandbox": "/x"}], "ips": [{"address": "10.1.0.2/16", "interface": 0}]}`, false, "lacks the address 10.1.0.2/24"},
		{`{"ips": [{"address": "10.1.0.2/24"}]}`, true, "no interface eth0 in /run/netns/c1"},
		{`{"ips": [{"address": "10.1.0.2/24"}]}`, false, ""},
		{`{"interfaces": [{"name": "up0", "sandbox": "/x"}], "ips": [{"address": "10.1.0.2/24", "interface": 0}]}`, false, ""},
		{`{}`, false, "lacks the address"},
	} {
		r := request(t, `{"name": "n", "cniVersion": "1.0.0", "prevResult": `+c.prev+`}`, "")
		prev, err := r.previous()
		if err != nil {
			t.Fatal(err)
		}
		err = prev.compare(made().Attachment, c.own)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s, own %v: %v, want %q", c.prev, c.own, err, c.want)
		}
	}
	// The namespace has been attached by another path.
	r := request(t, `{"name": "n", "cniVersion": "1.0.0", "prevResult": {"interfaces": [{"name": "eth0", "sandbox": "/proc/7/ns/net"}]}}`, "")
	if prev, err := r.previous("/proc/7/ns/net"); err != nil || !prev.chained() {
		t.Errorf("another path: %+v, %v", prev, err)
	}
}

// TestExpected: CHECK holds the container against what the runtime remembers.
func TestExpected(t *testing.T) {
	a := &attach.Attachment{Routes: []attach.Route{{Dst: netip.MustParsePrefix("fd05::1/128"), Gateway: netip.MustParseAddr("fe80::2")}}}
	for prev, want := range map[string]string{
		`null`: "the record",
		`{"interfaces": [{"name": "eth0", "sandbox": "/run/netns/c1"}], "routes": [{"dst": "fd05::1/128", "gw": "fe80::1"}]}`: "up  [] [fd05::1/128 by fe80::2]",
		`{"interfaces": [{"name": "eth0", "sandbox": "/run/netns/other"}], "ips": [{"address": "10.1.0.2/24"}]}`:              "the record",
		`{"interfaces": [{"name": "eth0", "sandbox": "/run/netns/c1"}]}`:                                                      "up  [] []",
		`{"interfaces": [{"name": "br0"}, {"name": "eth0", "mac": "02:00:00:00:00:0A", "sandbox": "/run/netns/c1"}]}`:         "up 02:00:00:00:00:0a [] []",
		`{"interfaces": [{"name": "eth0", "mac": "?", "sandbox": "/run/netns/c1"}], "routes": [{"dst": "10.9.1.2/16"}]}`:      "up  [] [10.9.0.0/16 by invalid IP]",
		`{"interfaces": [{"name": "eth0", "sandbox": "/run/netns/c1"}, {"name": "eth1", "sandbox": "/run/netns/c1"}],
			"ips": [{"address": "10.1.0.9/24", "interface": 0}, {"address": "10.2.0.9/24", "interface": 1}, {"address": "fd00::9/64"}],
			"routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}, {"dst": "fd01::/16", "gw": "fd00::1"}]}`: "up  [10.1.0.9/24 fd00::9/64] [0.0.0.0/0 by 10.1.0.1 fd01::/16 by fd00::1]",
	} {
		prevResult, err := request(t, `{"name": "n", "cniVersion": "1.0.0", "prevResult": `+prev+`}`, "").previous()
		if err != nil {
			t.Fatal(err)
		}
		got := "the record"
		if e := prevResult.expected(a); e != nil {
			var routes []string
			for _, r := range e.Routes {
				routes = append(routes, fmt.Sprint(r.Dst, " by ", r.Gateway))
			}
			got = fmt.Sprintf("%s %s %v %v", map[bool]string{true: "up", false: "?"}[e.Up], e.MAC, e.Addresses, routes)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", prev, got, want)
		}
	}
}
