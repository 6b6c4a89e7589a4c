package cni

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall/publish"
	"github.com/berth-cni/berth/pkg/ipam"
)

// full is a mode that gives all that can be asked for.
type full struct{ Conf }

func (c *full) Plan(r *Request) ([]attach.Step, error) {
	return []attach.Step{r.Addresses(r.IPAM), r.Ports(r.IPAM, true), r.Names("br0", c.Internal, nil)}, nil
}

// planOf plans a configuration, which is given without its name.
func planOf(m Mode, conf, args string) (*Request, []attach.Step, error) {
	r, err := m.Request(t0, &CmdArgs{StdinData: []byte(`{"name": "n", ` + strings.TrimPrefix(conf, "{")), Args: args,
		ContainerID: "c1", IfName: "eth0", Netns: "/run/netns/c1"})
	if err != nil {
		return r, nil, err
	}
	steps, err := r.Plan()
	return r, steps, err
}

var (
	fullMode = Mode{Name: "full", Chains: true, Config: func() Config { return &full{} }}
	bareMode = Mode{Name: "bare", Config: func() Config { return &bare{} }}
)

const (
	oneSubnet = `"ipam": {"subnet": "10.1.0.0/24"}`
	onePort   = `"runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 81}]}`
	before    = `"cniVersion": "1.0.0", "prevResult": {"interfaces": [{"name": "vethx"}, {"name": "eth0", "sandbox": "/run/netns/c1"}],
		"ips": [{"address": "10.9.0.2/24", "interface": 1}, {"address": "fd00::2/64", "interface": 0}]}`
)

// TestPlanSteps: what is asked for becomes steps, and nothing else does.
func TestPlanSteps(t *testing.T) {
	for _, c := range []struct{ conf, args, want string }{
		{`{"a": 1}`, "", ""},
		{`{"ipam": {}}`, "", ""},
		{`{` + oneSubnet + `}`, "", "lease"},
		{`{` + oneSubnet + `, ` + onePort + `}`, "", "lease ports"},
		{`{"ipam": {"type": "host-local"}, ` + onePort + `}`, "", "ipam ports"},
		{`{` + oneSubnet + `, "names": true}`, "IgnoreUnknown=1;K8S_POD_NAME=web", "lease names"},
		{`{` + oneSubnet + `, "args": {"cni": {"links": ["db"]}}}`, "", "lease names"},
		{`{` + before + `, ` + onePort + `}`, "", "ports"},
	} {
		_, steps, err := planOf(fullMode, c.conf, c.args)
		var kinds []string
		for _, s := range steps {
			kinds = append(kinds, s.Kind())
		}
		if got := strings.Join(kinds, " "); got != c.want || err != nil {
			t.Errorf("%s: %q, %v; want %q", c.conf, got, err, c.want)
		}
	}
}

// TestPlanRefused: nothing that is asked for is left out without a word.
func TestPlanRefused(t *testing.T) {
	joins := bareMode
	joins.Joins = true
	for _, c := range []struct {
		mode       Mode
		conf, args string
		want       string // empty: it is accepted
	}{
		{bareMode, `{"a": 1}`, "", ""},
		{bareMode, `{` + onePort + `}`, "", "runtimeConfig.portMappings: 1: bare publishes no ports"},
		{bareMode, `{"names": true}`, "", "names: true: this network has no gateway"},
		{bareMode, `{"args": {"cni": {"links": ["db"]}}}`, "", "no gateway"},
		{bareMode, `{"runtimeConfig": {"ips": ["10.1.0.2"]}}`, "", `runtimeConfig.ips: "10.1.0.2": the network has no ipam section`},
		{bareMode, `{"a": 1}`, "IP=10.1.0.2", `CNI_ARGS IP: "10.1.0.2": the network has no ipam section`},
		{bareMode, `{"a": 1}`, "IP=10.1.0.300", "CNI_ARGS IP: ips[0]"},
		{bareMode, `{"runtimeConfig": {"bandwidth": {"ingressRate": 1}}}`, "", ""},
		{bareMode, `{"isolated": true}`, "", `isolated: true: does nothing here: write "isolate": true`},
		{bareMode, `{"internl": true}`, "", "internl: true: is not known, did you mean internal?"},
		{fullMode, `{` + oneSubnet + `, "runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 81, "host_ip": "127.0.0.1"}]}}`, "",
			`runtimeConfig.portMappings[0].host_ip: "127.0.0.1": is not known, did you mean hostIP?`},
		{bareMode, `{"runtimeConfig": {"ipRanges": [[{"subnet": "10.1.0.0/24"}]]}}`, "", "runtimeConfig.ipRanges"},
		{bareMode, `{"ipam": {"type": "host-local"}, "runtimeConfig": {"ipRanges": [[{"subnet": "10.1.0.0/24"}]]}}`, "", "runtimeConfig.ipRanges"},
		{fullMode, `{"runtimeConfig": {"ipRanges": [[{"subnet": "10.1.0.0/24"}]]}}`, "", "runtimeConfig.ipRanges"},
		{fullMode, `{"ipam": {}, "runtimeConfig": {"ipRanges": [[{"subnet": "10.1.0.0/24"}]]}}`, "IP=10.1.0.7", ""},
		{fullMode, `{"ipam": {"type": "host-local"}, "runtimeConfig": {"ipRanges": [[{"subnet": "10.1.0.0/24"}]]}}`, "", ""},
		{fullMode, `{"ipam": {"type": "berth-ipam"}, "capabilities": {"ipRanges": true}}`, "", "ipam: has no addresses"},
		{bareMode, `{` + before + `}`, "", "prevResult: an earlier plugin of the chain has made eth0: bare cannot"},
		{bareMode, `{"cniVersion": "1.0.0", "prevResult": {"ips": 5}}`, "", "prevResult.ips: a number: want a list"},
		{joins, `{"cniVersion": "1.0.0", "prevResult": {"interfaces": [{"name": "lo"}]}}`, "", "prevResult.interfaces: 1: want bare to be the first"},
		{fullMode, `{` + onePort + `}`, "", "runtimeConfig.portMappings: 1: want an ipam section"},
		{fullMode, `{` + oneSubnet + `, "runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 81, "hostIP": "fd00::1"}]}}`, "", ""},
		{fullMode, `{` + oneSubnet + `, "runtimeConfig": {"aliases": ["a"]}}`, "", `runtimeConfig.aliases: "[\"a\"]": want "names": true`},
		{fullMode, `{` + oneSubnet + `, "names": true, "dns": {"nameservers": ["x"]}}`, "", `dns.nameservers: "x": want an address (number 0)`},
		{Mode{Name: "x", Leases: true, Config: fullMode.Config}, `{` + oneSubnet + `, ` + onePort + `, "names": true}`, "", ""},
		{Mode{Name: "lo", Unrecorded: true, Config: bareMode.Config}, `{` + before + `, ` + onePort + `}`, "IP=10.1.0.2", ""},
	} {
		_, _, err := planOf(c.mode, c.conf, c.args)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s %s %s: %v, want %q", c.mode.Name, c.conf, c.args, err, c.want)
		}
	}
}

// TestRangesOfRuntime: STATUS gets no capabilities, and so no ranges.
func TestRangesOfRuntime(t *testing.T) {
	for conf, want := range map[string]string{
		`{"name": "n", "ipam": {"type": "berth-ipam"}, "capabilities": {"ipRanges": true}}`:  "",
		`{"name": "n", "ipam": {"type": "berth-ipam"}, "capabilities": {"ipRanges": false}}`: "ipam: has no addresses",
		`{"name": "n", "ipam": {"type": "berth-ipam"}}`:                                      "ipam: has no addresses",
	} {
		r, err := fullMode.Request(t0, &CmdArgs{StdinData: []byte(conf)})
		if err == nil {
			_, err = r.Plan()
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", conf, err, want)
		}
	}
}

// TestAllProblems: they are told together.
func TestAllProblems(t *testing.T) {
	_, _, err := planOf(bareMode, `{"ipam": {"subnet": "x"}, "names": true, `+onePort+`}`, "MAC=y")
	for _, want := range []string{"ipam.subnet", "names: true", "portMappings", "CNI_ARGS MAC"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q too", err, want)
		}
	}
	if code(err).Code != 7 || strings.Contains(code(err).Msg, "\n") {
		t.Errorf("%+v", code(err))
	}
}

func TestAddresses(t *testing.T) {
	r, steps, err := planOf(fullMode, `{`+oneSubnet+`, "runtimeConfig": {"ips": ["10.1.0.7/24"]}}`, "IP=10.1.0.8")
	if err != nil {
		t.Fatal(err)
	}
	if l := steps[0].(*ipam.Lease); l.Conf != r.IPAM || fmt.Sprint(l.Wanted) != "[10.1.0.7]" {
		t.Errorf("%+v", l)
	}
	if d := r.delegate(); d != nil {
		t.Errorf("the built-in IPAM is delegated: %+v", d)
	}
	_, steps, err = planOf(fullMode, `{"ipam": {"type": "static"}}`, "IP=10.1.0.8")
	if err != nil {
		t.Fatal(err)
	}
	if d := steps[0].(*ipam.Delegate); d.Type != "static" || d.Args != "IP=10.1.0.8" || !strings.Contains(string(d.Conf), `"static"`) {
		t.Errorf("%+v", d)
	}
}

// TestPortFamilies: a port without an address is published in the families that the
// container has.
func TestPortFamilies(t *testing.T) {
	for conf, want := range map[string]string{
		oneSubnet:                         "[port 0.0.0.0:80/tcp]",
		`"ipam": {"subnet": "fd00::/64"}`: "[port [::]:80/tcp]",
		`"ipam": {"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]]}`: "[port 80/tcp]",
		`"ipam": {"type": "dhcp"}`: "[port 80/tcp]",
		before:                     "[port 0.0.0.0:80/tcp]",
	} {
		_, steps, err := planOf(fullMode, `{`+conf+`, `+onePort+`}`, "")
		if err != nil {
			t.Errorf("%s: %v", conf, err)
			continue
		}
		if got := fmt.Sprint(steps[len(steps)-1].(*publish.Ports).Ports); got != want {
			t.Errorf("%s: %s, want %s", conf, got, want)
		}
	}
}

func TestChained(t *testing.T) {
	r, _, err := planOf(fullMode, `{`+before+`}`, "")
	if err != nil {
		t.Fatal(err)
	}
	if !r.Chained() || r.HostIfName() != "vethx" || fmt.Sprint(r.prev.prefixes()) != "[10.9.0.2/24]" {
		t.Errorf("chained %v, %s, %v", r.Chained(), r.HostIfName(), r.prev.prefixes())
	}
	for _, conf := range []string{`{"a": 1}`, `{"cniVersion": "1.0.0", "prevResult": null}`,
		`{"cniVersion": "1.0.0", "prevResult": {"interfaces": [{"name": "eth0"}, {"name": "eth0", "sandbox": "/run/netns/other"}]}}`} {
		if r, _, err = planOf(fullMode, conf, ""); err != nil || r.Chained() {
			t.Errorf("%s: chained %v, %v", conf, r.Chained(), err)
		}
	}
}

func TestMTU(t *testing.T) {
	for _, c := range []struct {
		mtu     int
		subnets string
		want    string
	}{
		{0, "fd00::/64", ""}, {68, "10.1.0.0/24", ""}, {1280, "fd00::/64", ""}, {9000, "10.1.0.0/24", ""},
		{67, "10.1.0.0/24", "mtu: 67: want 68 to 9000 bytes, or 0 for the master's"},
		{-1, "10.1.0.0/24", "mtu: -1"}, {9001, "fd00::/64", "want 68 to 9000"},
		{1279, "fd00::/64", "mtu: 1279: want at least 1280 bytes for IPv6"},
	} {
		r := request(t, `{"name": "n"}`, "")
		conf, err := ipam.Parse([]byte(`{"subnet": "` + c.subnets + `"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.ValidMTU(c.mtu, 9000, "the master's", conf.Subnets())
		if got := fmt.Sprint(r.problems); !strings.Contains(got, c.want) || c.want == "" && r.Refused() {
			t.Errorf("%d on %s: %s, want %q", c.mtu, c.subnets, got, c.want)
		}
	}
}
