package cni

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall/publish"
	"github.com/berth-cni/berth/pkg/internal/schema"
	"github.com/berth-cni/berth/pkg/ipam"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/link/netns"
	"github.com/containernetworking/cni/pkg/types"
)

// bare is the configuration of a mode that has nothing of its own.
type bare struct{ Conf }

func (*bare) Plan(*Request) ([]attach.Step, error) { return nil, nil }

func request(t testing.TB, conf, args string) *Request {
	t.Helper()
	r, err := NewRequest(&CmdArgs{StdinData: []byte(conf), Args: args, ContainerID: "c1", IfName: "eth0", Netns: "/run/netns/c1"}, &bare{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestParseArgs(t *testing.T) {
	for s, want := range map[string]string{
		"":                                  "map[]",
		"IP=10.1.0.2;MAC=02:00:00:00:00:01": "map[IP:10.1.0.2 MAC:02:00:00:00:00:01]",
		"IgnoreUnknown=1;FOO=bar":           "map[FOO:bar IgnoreUnknown:1]",
		"FOO=bar;IgnoreUnknown=true;":       "map[FOO:bar IgnoreUnknown:true]",
		"K8S_POD_NAME=a=b":                  "map[K8S_POD_NAME:a=b]",
		"FOO=bar":                           `error: CNI_ARGS: "FOO" is not known`,
		"FOO":                               `error: CNI_ARGS: "FOO": want KEY=VALUE`,
		"=x":                                `error: CNI_ARGS: "=x": want KEY=VALUE`,
		"IgnoreUnknown=maybe":               `error: CNI_ARGS: IgnoreUnknown="maybe"`,
	} {
		got, err := parseArgs(s)
		text := fmt.Sprint(got)
		if err != nil {
			text = "error: " + err.Error()
			if code(err).Code != types.ErrInvalidEnvironmentVariables {
				t.Errorf("%q: code %d", s, code(err).Code)
			}
		}
		if !strings.HasPrefix(text, want) {
			t.Errorf("%q: %s, want %s", s, text, want)
		}
	}
}

func TestPorts(t *testing.T) {
	for _, tt := range []struct {
		mappings string
		v4, v6   bool
		want     string // the ports, or what the error says
	}{
		{`{"hostPort": 8080, "containerPort": 80, "protocol": "TCP"}`, true, true, "[port 8080/tcp]"},
		{`{"HostPort": 8080, "ContainerPort": 80, "Protocol": "udp", "HostIP": "192.0.2.1"}`, true, false, "[port 192.0.2.1:8080/udp]"},
		{`{"hostPort": 8080, "containerPort": 80}`, true, false, "[port 0.0.0.0:8080/tcp]"},
		{`{"hostPort": 8080, "containerPort": 80}`, false, true, "[port [::]:8080/tcp]"},
		{`{"hostPort": 80, "containerPort": 80}, {"hostPort": 80, "containerPort": 80, "protocol": "udp"}`, true, true, "[port 80/tcp port 80/udp]"},
		{`{"hostPort": 80, "containerPort": 80}, {"hostPort": 80, "containerPort": 80}`, true, true, "[port 80/tcp]"},
		{`{"hostPort": 80, "containerPort": 80}, {"hostPort": 80, "containerPort": 81}`, true, true, "goes to container port 80 already"},
		{`{"hostPort": 80, "containerPort": 80}, {"hostPort": 80, "containerPort": 81, "hostIP": "192.0.2.1"}`, true, true, "goes to container port 80 already"},
		{`{"hostPort": 0, "containerPort": 80}`, true, true, "portMappings[0].hostPort: 0: want 1 to 65535"},
		{`{"hostPort": 65536, "containerPort": -1}`, true, true, "containerPort: -1"},
		{`{"hostPort": 80, "containerPort": 80, "range": 5}`, true, true, "one mapping for each port"},
		{`{"hostPort": 80, "containerPort": 80, "protocol": "icmp"}`, true, true, `protocol: "icmp": want tcp, udp or sctp`},
		{`{"hostPort": 80, "containerPort": 80, "hostIP": "::1"}, {"hostPort": 81, "containerPort": 80, "hostIP": "::1"}`, true, true,
			"[port [::1]:80/tcp port [::1]:81/tcp] portMappings[0].hostIP: \"::1\": the kernel drops"},
		{`{"hostPort": 80, "containerPort": 80, "hostIP": "::1"}`, true, false, "[] portMappings[0].hostIP: \"::1\": is not published"},
		{`{"hostPort": 80, "containerPort": 80, "hostIP": "0.0.0.0"}, {"hostPort": 80, "containerPort": 80, "hostIP": "::"}`, true, false,
			"[port 0.0.0.0:80/tcp] portMappings[1].hostIP: \"::\": is not published"},
		{`{"hostPort": 80, "containerPort": 80, "hostIP": "0.0.0.0"}, {"hostPort": 80, "containerPort": 80, "hostIP": "::"}`, false, true,
			"[port [::]:80/tcp] portMappings[0].hostIP: \"0.0.0.0\": is not published"},
		{`{"hostPort": 80, "containerPort": 80, "hostIP": "::ffff:0.0.0.0"}`, true, false, "[port 0.0.0.0:80/tcp]"},
		{`{"hostPort": 80, "containerPort": 80, "hostIP": "host"}`, true, true, `hostIP: "host"`},
		{`{"hostPort": 80, "containerPort": 80, "hostIP": "224.0.0.1"}`, true, true, "unicast"},
		{`{"hostPort": 80, "containerPort": 80, "hostIP": "2001:db8::1"}`, true, false, "[] portMappings[0].hostIP: \"2001:db8::1\": is not published"},
	} {
		r := request(t, `{"name": "n", "runtimeConfig": {"portMappings": [`+tt.mappings+`]}}`, "")
		got := fmt.Sprint(r.ports(tt.v4, tt.v6))
		for _, w := range r.warnings {
			got += " " + strings.TrimPrefix(w, "runtimeConfig.")
		}
		if strings.Count(got, "the kernel drops") > 1 {
			t.Errorf("%s: said more than once: %s", tt.mappings, got)
		}
		if err := errors.Join(r.problems...); err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, tt.want) {
			t.Errorf("%s: %s, want %s", tt.mappings, got, tt.want)
		}
	}
}

func TestMACs(t *testing.T) {
	for conf, want := range map[string]string{
		`{}`: "02:00:00:00:00:03",
		`{"args": {"cni": {"mac": "02:00:00:00:00:02"}}}`:                                                "02:00:00:00:00:02",
		`{"args": {"cni": {"mac": "02:00:00:00:00:02"}}, "runtimeConfig": {"mac": "02:00:00:00:00:01"}}`: "02:00:00:00:00:01",
		`{"runtimeConfig": {"mac": "01:00:00:00:00:01"}}`:                                                "error",
		`{"runtimeConfig": {"mac": "nonsense"}}`:                                                         "error",
		`{"runtimeConfig": {"mac": "00:00:00:00:00:00"}}`:                                                "error",
	} {
		r := request(t, strings.Replace(strings.Replace(conf, "{", `{"name": "n", `, 1), ", }", "}", 1), "MAC=02:00:00:00:00:03")
		got := r.mac()
		err := errors.Join(r.problems...)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%s: %s (%v), want %s", conf, got, err, want)
		}
	}
}

// GC tells a list that is null from one that is not there.
func TestValidNullIsNotAbsent(t *testing.T) {
	if r := request(t, `{"name": "n"}`, ""); r.Conf.Valid != nil {
		t.Errorf("absent: %q", r.Conf.Valid)
	}
	if r := request(t, `{"name": "n", "cni.dev/valid-attachments": null}`, ""); string(r.Conf.Valid) != "null" {
		t.Errorf("null: %q", r.Conf.Valid)
	}
}

func TestCodes(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want uint
	}{
		{badEnvironment("x"), types.ErrInvalidEnvironmentVariables},
		{fmt.Errorf("open: %w", netns.ErrNotNetns), types.ErrInvalidEnvironmentVariables},
		{configError{errors.New("x")}, types.ErrInvalidNetworkConfig},
		{fmt.Errorf("add: %w", &attach.HeldError{}), CodeTaken},
		{&publish.TakenError{}, CodeTaken},
		{fmt.Errorf("add: %w", link.ErrBridgeFull), CodeExhausted},
		{fmt.Errorf("x: %w", attach.ErrExists), CodeAttached},
		{fmt.Errorf("x: %w", attach.ErrNotFound), types.ErrUnknownContainer},
		{fmt.Errorf("%w: x", errMissing), CodeMissing},
		{fmt.Errorf("x: %w", schema.ErrSyntax), types.ErrDecodingFailure},
		{&schema.TypeError{}, types.ErrDecodingFailure},
		{configError{&schema.TypeError{}}, types.ErrInvalidNetworkConfig},
		{fmt.Errorf("x: %w", types.NewError(types.ErrTryAgainLater, "later", "")), types.ErrTryAgainLater},
		{errors.New("x"), types.ErrInternal},
	} {
		if got := code(tt.err).Code; got != tt.want {
			t.Errorf("%v: code %d, want %d", tt.err, got, tt.want)
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add(`{"name": "n", "runtimeConfig": {"portMappings": [{"hostPort": 1, "containerPort": 2}]}}`, "IP=10.0.0.1;MAC=x")
	f.Add(`{"name": "n", "prevResult": {"cniVersion": "0.2.0", "ip4": {"ip": "10.0.0.1/8"}}}`, "IgnoreUnknown=1;A=b")
	f.Add(`{"cniVersion": "1.0.0", "prevResult": {"interfaces": [{"name": "eth0", "sandbox": "/run/netns/c1"}], "ips": [{"address": "10.0.0.1/8", "interface": 7}]}}`, "")
	f.Fuzz(func(t *testing.T, conf, args string) {
		r, err := NewRequest(&CmdArgs{StdinData: []byte(conf), Args: args, IfName: "eth0", Netns: "/run/netns/c1"}, &bare{})
		if err != nil {
			return
		}
		_ = r.ports(true, true)
		if prev, err := r.previous(); err == nil && prev.chained() {
			_, _ = prev.addresses(), prev.hostIf()
		}
		_, _ = r.Plan()
	})
}

func TestDNS(t *testing.T) {
	for conf, want := range map[string]string{
		`{"name": "n"}`: "",
		`{"name": "n", "dns": {"nameservers": ["10.0.0.1"], "search": ["a"]}}`:                                                                   "10.0.0.1 a",
		`{"name": "n", "dns": {"nameservers": ["10.0.0.1"]}, "runtimeConfig": {"dns": {"Servers": null, "Searches": null, "Options": null}}}`:    "10.0.0.1",
		`{"name": "n", "dns": {"nameservers": ["10.0.0.1"]}, "runtimeConfig": {"dns": {"servers": ["10.0.0.2"], "searches": ["b"]}}, "x": null}`: "10.0.0.2 b",
	} {
		r := request(t, conf, "")
		if got := strings.Join(append(r.dns.Nameservers, r.dns.Search...), " "); got != want {
			t.Errorf("%s: %q, want %q", conf, got, want)
		}
	}
}

// TestSticky: the name that addresses are kept for.
func TestSticky(t *testing.T) {
	for _, c := range []struct{ sticky, args, conf, want string }{
		{"", "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0", ``, ""},
		{"name", "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0", ``, "web-0"},
		{"name", "", `, "args": {"cni": {"labels": [{"key": "berth.name", "value": "db"}]}}`, "db"},
		{"name", "", `, "args": {"cni": {"aliases": ["db"]}}`, ""},
		{"name", "", ``, ""},
		{"pod", "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0", ``, "shop/web-0"},
		{"pod", "K8S_POD_NAME=web-0", ``, ""},
		{"pod", "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=" + strings.Repeat("x", 2000), ``, ""},
	} {
		r := request(t, `{"name": "n"`+c.conf+`}`, c.args)
		if err := r.decodeOptional(); err != nil {
			t.Fatal(err)
		}
		if got := r.Sticky(&ipam.Config{Sticky: c.sticky}); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
