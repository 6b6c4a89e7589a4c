package schema

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestLook: what is said of a bridge's configuration. An exclamation mark is before an
// error.
func TestLook(t *testing.T) {
	for conf, want := range map[string][]string{
		// CNI's own, and what runtimes write.
		`{"cniVersion": "1.1.0", "name": "n", "type": "bridge", "capabilities": {"portMappings": true, "io.kubernetes.cri.pod-annotations": true}, "prevResult": {"ipz": 1}}`:        nil,
		`{"cni.dev/valid-attachments": [], "cni.dev/attachments": [], "cniVersions": [], "disableCheck": true, "disableGC": true, "loadOnlyInlinedPlugins": true}`:                   nil,
		`{"runtimeConfig": {"portMappings": [{"HostPort": 80, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""}], "dns": {"Servers": null, "Searches": null, "Options": null}}}`: nil,
		`{"runtimeConfig": {"io.kubernetes.cri.pod-annotations": {"a": "b"}, "bandwidth": {"ingressRate": 0}, "deviceID": "", "other": 5}}`:                                          nil,
		`{"args": {"podman_labels": {"a": "b"}, "cni": {"labels": [{"key": "a", "value": "b"}], "other": 1}}}`:                                                                       nil,
		`{"x-mycompany": 1, "_comment": "a", "//": "b", "comment": "c", "mycompany.example/vlan": 5, "nerdctlID": "a"}`:                                                              nil,
		// Names of others.
		`{"mycompany": 1}`: nil,
		// Slips.
		`{"isGatway": true}`:                {"isGatway: true: is not known, did you mean isGateway?"},
		`{"isgateway": true}`:               {"isgateway: true: is read as isGateway"},
		`{"is_gateway": true}`:              {"is_gateway: true: is not known, did you mean isGateway"},
		`{"isGatewya": true}`:               {"isGatewya: true: is not known, did you mean isGateway"},
		`{"ipMask": true}`:                  {"ipMask: true: is not known, did you mean ipMasq?"},
		`{"IPMasq": true}`:                  {"IPMasq: true: is read as ipMasq"},
		`{"hairpin": true}`:                 {`hairpin: true: does nothing here: write "hairpinMode"`},
		`{"hairpinmode": true}`:             {"hairpinmode: true: is read as hairpinMode"},
		`{"mtuu": 1400}`:                    nil,
		`{"brige": "b"}`:                    {"brige: \"b\": is not known, did you mean bridge"},
		`{"capabilites": {}}`:               {"capabilites: {}: is not known, did you mean capabilities"},
		`{"runtimeConfg": {}}`:              {"runtimeConfg"},
		`{"nammes": true}`:                  {"nammes: true: is not known, did you mean names"},
		`{"ipMasq": true, "ipMasq": false}`: {"ipMasq: false: is there twice"},
		`{"ipMasq": true, "ipmasq": false}`: {"ipmasq: false: is there twice"},
		`{"dns": {"nameserver": ["9.9.9.9"], "searches": ["a"]}}`: {`dns.nameserver: ["9.9.9.9"]: is not known, did you mean nameservers`, `dns.searches: ["a"]: does nothing here: write "search"`},
		`{"capabilities": {"portMapping": true}}`:                 {"capabilities.portMapping: true: is not known, did you mean portMappings"},
		`{"args": {"cni": {"ip": "10.1.0.2", "link": ["a"]}}}`:    {"args.cni.ip", "args.cni.link"},
		// Left out, something is open.
		`{"isolated": true}`:                                {`!isolated: true: does nothing here: write "isolate": true`},
		`{"isolated": false}`:                               nil,
		`{"isolat": true}`:                                  {"!isolat: true: is not known, did you mean isolate"},
		`{"isolat": false}`:                                 {"isolat: false: is not known, did you mean isolate"},
		`{"interal": true}`:                                 {"!interal: true: is not known, did you mean internal"},
		`{"macspoofcheck": true}`:                           {`!macspoofcheck: true: does nothing here: write "macspoofchk"`},
		`{"macspofchk": true}`:                              {"!macspofchk"},
		`{"gatewayMode": "routed"}`:                         {"!gatewayMode"},
		`{"gatewaymode_ipv4": "routed"}`:                    {"!gatewaymode_ipv4: \"routed\": is not known, did you mean gatewayModeIPv4"},
		`{"com.docker.network.bridge.enable_icc": "false"}`: {"!com.docker.network.bridge.enable_icc"},
		`{"vlanId": 5}`:                                     {`!vlanId: 5: does nothing here: write "vlan"`},
		`{"vlan_tag": 0}`:                                   nil,
		`{"ingressPolicy": "same-bridge"}`:                  {"!ingressPolicy"},
		`{"runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 80}, {"hostPort": 81, "containerPort": 1, "host_ip": "127.0.0.1"}]}}`: {`!runtimeConfig.portMappings[1].host_ip: "127.0.0.1": is not known, did you mean hostIP`},
		`{"runtimeConfig": {"portMappings": [{"hostAddress": "127.0.0.1", "proto": "udp", "Protcol": "udp", "hostIp": "127.0.0.1"}]}}`:               {"!runtimeConfig.portMappings[0].hostAddress", "!runtimeConfig.portMappings[0].proto", "!runtimeConfig.portMappings[0].Protcol"},
		// Elsewhere.
		`{"runtimeConfig": {"bandwidth": {"ingressRate": 1}, "deviceID": "0000:00:1f.6", "cgroupPath": "/x", "infinibandGUID": "c2:11"}}`: {"runtimeConfig.bandwidth", "runtimeConfig.deviceID", "runtimeConfig.cgroupPath", "runtimeConfig.infinibandGUID"},
		`{"runtimeConfig": {"portMapping": []}}`:                           {"runtimeConfig.portMapping: []: is not known, did you mean portMappings"},
		`{"subnet": "10.1.0.0/24", "portMappings": [{}], "dataDir": "/x"}`: {"subnet: ", "dataDir"},
		`{"sysctl": {"a": "b"}, "snat": true}`:                             {"sysctl", "snat"},
	} {
		compare(t, conf, Plugin("bridge").Look("", []byte(conf)), want)
	}
}

func compare(t *testing.T, conf string, found []Finding, want []string) {
	t.Helper()
	var got []string
	for _, f := range found {
		mark := ""
		if f.Opens {
			mark = "!"
		}
		got = append(got, mark+f.String())
	}
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("%s:\n%s\nwant:\n%s", conf, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestLookIPAM(t *testing.T) {
	for conf, want := range map[string][]string{
		`{"type": "berth-ipam", "subnet": "10.1.0.0/24", "ranges": [[{"subnet": "fd00::/64", "exclude": []}]], "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1", "mtu": 1400}]}`: nil,
		`{"rangestart": "10.1.0.9"}`:                            {"ipam.rangestart: \"10.1.0.9\": is read as rangeStart"},
		`{"range_start": "10.1.0.9", "range_end": "10.1.0.10"}`: {"ipam.range_start: \"10.1.0.9\": is not known, did you mean rangeStart", "ipam.range_end"},
		`{"range": "10.1.0.0/24", "subnets": ["a"]}`:            {"ipam.range: ", "ipam.subnets: "},
		`{"subnets": [], "subnt": "10.1.0.0/24"}`:               {"ipam.subnt: \"10.1.0.0/24\": is not known, did you mean subnet"},
		`{"dataDir": "/x", "resolvConf": "/etc/resolv.conf", "dns": {"nameservers": ["9.9.9.9"]}, "addresses": [{"address": "10.1.0.7/24"}]}`: {"ipam.dataDir", "ipam.resolvConf", "ipam.dns", "ipam.addresses"},
		`{"ranges": [[{"subnet": "a"}, {"start": "b"}], [{"rangeStrat": "c"}]]}`:                                                              {`ipam.ranges[0][1].start: "b": does nothing here: write "rangeStart"`, `ipam.ranges[1][0].rangeStrat`},
		`{"routes": [{"dst": "a"}, {"destination": "b", "via": "c", "metric": 5}]}`:                                                           {"ipam.routes[1].destination", "ipam.routes[1].via", "ipam.routes[1].metric"},
		`{"gw": "10.1.0.1", "excludes": ["10.1.0.2"]}`:                                                                                        {"ipam.gw", "ipam.excludes"},
		`[]`: nil, `null`: nil, ``: nil,
	} {
		compare(t, conf, IPAM.Look("ipam", []byte(conf)), want)
	}
}

// TestLookOthers: a key of one plugin does nothing in another, and the others' own are
// no slips of ours.
func TestLookOthers(t *testing.T) {
	for conf, want := range map[string]string{
		`{"type": "macvlan", "master": "eth0", "mode": "bridge", "mac": "a", "bcqueuelen": 5}`:  "",
		`{"type": "ipvlan", "master": "eth0", "mode": "l3", "flag": "vepa", "enabledad": true}`: "",
		`{"type": "ipvlan", "mac": "a"}`:               "mac",
		`{"type": "ipvlan", "hostShim": true}`:         "hostShim",
		`{"type": "ipvlan", "portIsolation": true}`:    "!portIsolation",
		`{"type": "macvlan", "flag": "private"}`:       "!flag",
		`{"type": "macvlan", "isGateway": true}`:       "isGateway",
		`{"type": "macvlan", "ipMasq": true}`:          "ipMasq",
		`{"type": "macvlan", "mod": "private"}`:        "!mod",
		`{"type": "macvlan", "modes": "private"}`:      "!modes",
		`{"type": "bridge", "master": "eth0"}`:         "master",
		`{"type": "vxlan-overlay", "bridge": "br0"}`:   "", // refused elsewhere
		`{"type": "vxlan-overlay", "isGateway": true}`: "isGateway",
		`{"type": "container-share", "containr": "a"}`: "containr",
		`{"type": "host", "isolated": true}`:           "!isolated",
		`{"type": "none", "intrenal": true}`:           "!intrenal",
	} {
		var c struct{ Type string }
		if err := json.Unmarshal([]byte(conf), &c); err != nil {
			t.Fatal(err)
		}
		var list []string
		if want != "" {
			list = []string{want}
		}
		compare(t, conf, Plugin(c.Type).Look("", []byte(conf)), list)
	}
}

// TestExamples: nothing is said of the examples.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../../conf-examples/*.conflist")
	if err != nil || len(files) == 0 {
		t.Fatal("no examples", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var list struct {
			Plugins []json.RawMessage
		}
		if err := json.Unmarshal(data, &list); err != nil {
			t.Fatal(err)
		}
		for _, raw := range list.Plugins {
			var c struct {
				Type string
				IPAM json.RawMessage
			}
			if err := json.Unmarshal(raw, &c); err != nil {
				t.Fatal(err)
			}
			if table := Plugin(c.Type); table != nil {
				k := Key{Kind: Object, Of: table}
				if errs := k.mistyped("", raw); len(errs) > 0 {
					t.Errorf("%s: %v", file, errs)
				}
				compare(t, file, table.Look("", raw), nil)
			}
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"mtu", "mtu", 0}, {"isgatway", "isgateway", 1}, {"ipmask", "ipmasq", 1}, {"isgatewya", "isgateway", 1}, {"gateway", "isgateway", 2}, {"abc", "", 3}, {"vlan", "vxlan", 1}} {
		for _, pair := range [][2]string{{c.a, c.b}, {c.b, c.a}} {
			if got := distance(pair[0], pair[1], 5); got != c.want {
				t.Errorf("%q: %d, want %d", pair, got, c.want)
			}
		}
	}
	if got := distance("a", "abcdef", 2); got <= 2 {
		t.Errorf("far away: %d", got)
	}
}

// FuzzMembers compares the scanner with encoding/json.
func FuzzMembers(f *testing.F) {
	for _, s := range []string{`{"a": 1, "b\"\\": [1, {"c": "]}"}], "": null}`, ` { "a" : { } , "b" : "\u0041" } `, `[1, "a,b", {"c": []}]`, `5`, `{"a":-1e5,"a":true}`, `{"a`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got := map[string]json.RawMessage{}
		members(raw, func(key string, value []byte) { got[key] = value })
		n := 0
		elements(raw, func(int, []byte) { n++ })
		_ = Plugin("bridge").Look("", raw)
		var want map[string]json.RawMessage
		if json.Unmarshal(raw, &want) == nil && want != nil {
			if len(got) != len(want) {
				t.Fatalf("%s: %d members, want %d", raw, len(got), len(want))
			}
			for key, value := range want {
				if string(got[key]) != string(value) {
					t.Errorf("%s: %q is %q, want %q", raw, key, got[key], value)
				}
			}
		}
		var list []json.RawMessage
		if json.Unmarshal(raw, &list) == nil && len(list) != n {
			t.Errorf("%s: %d elements, want %d", raw, n, len(list))
		}
	})
}
