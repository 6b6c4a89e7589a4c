package ipam

import (
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
)

var update = flag.Bool("update", false, "write the golden files")

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func TestParse(t *testing.T) {
	table, scope := 100, 253
	for _, c := range []struct {
		name, conf string
		want       Config
	}{
		{"absent", ``, Config{}},
		{"null", `null`, Config{}},
		{"empty", `{}`, Config{}},
		{"delegated, with keys of its own", `{"type": "other", "subnet": "usePodCidr", "ranges": 5}`, Config{Type: "other"}},
		{"host-local's other keys", `{"type": "berth-ipam", "subnet": "10.88.0.0/16", "dataDir": "/x", "resolvConf": "/y"}`,
			Config{Type: "berth-ipam", Ranges: []RangeSet{{
				{prefix("10.88.0.0/16"), addr("10.88.0.1"), addr("10.88.0.1"), addr("10.88.255.254"), nil},
			}}}},
		{"all of a range", `{"subnet": "10.88.0.0/16", "gateway": "10.88.9.9", "rangeStart": "10.88.1.0", "rangeEnd": "10.88.1.255", "exclude": ["10.88.1.7", "10.88.1.16/28"]}`,
			Config{Ranges: []RangeSet{{
				{prefix("10.88.0.0/16"), addr("10.88.9.9"), addr("10.88.1.0"), addr("10.88.1.255"),
					[]netip.Prefix{prefix("10.88.1.7/32"), prefix("10.88.1.16/28")}},
			}}}},
		{"both spellings, both families", `{"subnet": "10.1.0.0/30", "ranges": [[{"subnet": "fd00::/126"}, {"subnet": "fd01::/64", "gateway": "fe80::1"}]]}`,
			Config{Ranges: []RangeSet{
				{{prefix("10.1.0.0/30"), addr("10.1.0.1"), addr("10.1.0.1"), addr("10.1.0.2"), nil}},
				{
					{prefix("fd00::/126"), addr("fd00::1"), addr("fd00::1"), addr("fd00::3"), nil},
					{prefix("fd01::/64"), addr("fe80::1"), addr("fd01::1"), addr("fd01::ffff:ffff:ffff:ffff"), nil},
				},
			}}},
		{"one subnet, two ranges", `{"ranges": [[{"subnet": "10.1.0.0/24", "rangeEnd": "10.1.0.99"}], [{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.100"}]]}`,
			Config{Ranges: []RangeSet{
				{{prefix("10.1.0.0/24"), addr("10.1.0.1"), addr("10.1.0.1"), addr("10.1.0.99"), nil}},
				{{prefix("10.1.0.0/24"), addr("10.1.0.1"), addr("10.1.0.100"), addr("10.1.0.254"), nil}},
			}}},
		{"exclude beside ranges", `{"exclude": ["10.2.0.0/25"], "ranges": [[{"subnet": "10.1.0.0/24"}, {"subnet": "10.2.0.0/24"}]]}`,
			Config{Ranges: []RangeSet{{
				{prefix("10.1.0.0/24"), addr("10.1.0.1"), addr("10.1.0.1"), addr("10.1.0.254"), nil},
				{prefix("10.2.0.0/24"), addr("10.2.0.1"), addr("10.2.0.1"), addr("10.2.0.254"), []netip.Prefix{prefix("10.2.0.0/25")}},
			}}}},
		{"IPv4 in the long notation", `{"subnet": "10.1.0.0/24", "gateway": "::ffff:10.1.0.9"}`,
			Config{Ranges: []RangeSet{{
				{prefix("10.1.0.0/24"), addr("10.1.0.9"), addr("10.1.0.1"), addr("10.1.0.254"), nil},
			}}}},
		{"routes", `{"subnet": "10.1.0.0/24", "routes": [{"dst": "0.0.0.0/0"}, {"dst": "fd00::/8", "gw": "fd00::1", "mtu": 1400, "advmss": 1360, "priority": 10, "table": 100, "scope": 253}]}`,
			Config{
				Ranges: []RangeSet{{
					{prefix("10.1.0.0/24"), addr("10.1.0.1"), addr("10.1.0.1"), addr("10.1.0.254"), nil},
				}},
				Routes: []attach.Route{
					{Dst: prefix("0.0.0.0/0")},
					{Dst: prefix("fd00::/8"), Gateway: addr("fd00::1"), MTU: 1400, AdvMSS: 1360, Priority: 10, Table: &table, Scope: &scope},
				},
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Parse(json.RawMessage(c.conf))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(*got, c.want) {
				t.Errorf("got  %+v\nwant %+v", *got, c.want)
			}
			if e := c.want.Type == "" && len(c.want.Ranges) == 0; got.Empty() != e {
				t.Errorf("Empty() = %v", !e)
			}
			if b := c.want.Type != "other" && len(c.want.Ranges) > 0; got.BuiltIn() != b {
				t.Errorf("BuiltIn() = %v", !b)
			}
		})
	}
}

// TestParseErrors compares what is said about each mistake with a golden file.
func TestParseErrors(t *testing.T) {
	confs, err := os.ReadFile(filepath.Join("testdata", "refused.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(confs)) {
		line = strings.TrimSpace(line)
		_, err := Parse(json.RawMessage(line))
		if err == nil {
			t.Errorf("accepted: %s", line)
			continue
		}
		out.WriteString(line + "\n\t" + strings.ReplaceAll(err.Error(), "\n", "\n\t") + "\n")
	}
	golden := filepath.Join("testdata", "refused.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("go test -update writes the file anew; got:\n%s", out.String())
	}
}

func TestSubnets(t *testing.T) {
	c := parse(t, `{"subnet": "10.1.0.0/24", "rangeEnd": "10.1.0.9", "ranges": [[{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.10"}], [{"subnet": "fd00::/64"}]]}`)
	if got, want := c.Subnets(), []netip.Prefix{prefix("10.1.0.0/24"), prefix("fd00::/64")}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestRuntimeRanges: what a runtime gives comes first, as in host-local, and is read as
// carefully.
func TestRuntimeRanges(t *testing.T) {
	for _, c := range []struct{ name, conf, runtime, want string }{
		{"none", `{"subnet": "10.1.0.0/24"}`, ``, "10.1.0.1-10.1.0.254"},
		{"alone", `{"type": "berth-ipam"}`, `[[{"subnet": "10.33.0.0/24"}], [{"subnet": "fd00::/64", "rangeStart": "fd00::10", "rangeEnd": "fd00::20"}]]`,
			"10.33.0.1-10.33.0.254 | fd00::10-fd00::20"},
		{"of an empty section", `{}`, `[[{"subnet": "10.33.0.0/24"}]]`, "10.33.0.1-10.33.0.254"},
		{"beside routes alone", `{"routes": [{"dst": "0.0.0.0/0"}]}`, `[[{"subnet": "10.33.0.0/24"}]]`, "10.33.0.1-10.33.0.254"},
		{"before the network's", `{"subnet": "10.1.0.0/24", "ranges": [[{"subnet": "fd00::/64"}]]}`, `[[{"subnet": "10.33.0.0/24"}]]`,
			"10.33.0.1-10.33.0.254 | 10.1.0.1-10.1.0.254 | fd00::1-fd00::ffff:ffff:ffff:ffff"},
		{"two of one list", `{}`, `[[{"subnet": "10.33.0.0/24"}, {"subnet": "10.34.0.0/24"}]]`, "10.33.0.1-10.33.0.254, 10.34.0.1-10.34.0.254"},
		{"excluded", `{"exclude": ["10.33.0.9"]}`, `[[{"subnet": "10.33.0.0/24", "gateway": "10.33.0.254"}]]`, "10.33.0.1-10.33.0.254"},
		{"a delegate's own", `{"type": "host-local"}`, `[[{"subnet": 5}]]`, ""},
		{"no section", ``, `[[{"subnet": "10.33.0.0/24"}]]`, ""},
		{"host bits", `{}`, `[[{"subnet": "10.33.0.1/24"}]]`, `error: runtimeConfig.ipRanges[0][0].subnet: "10.33.0.1/24": has host bits set`},
		{"a number", `{}`, `[[{"subnet": 5}]]`, "error: runtimeConfig.ipRanges"},
		{"an empty list", `{}`, `[[{"subnet": "10.33.0.0/24"}], []]`, "error: runtimeConfig.ipRanges[1]: is empty"},
		{"overlap", `{"subnet": "10.33.0.0/25"}`, `[[{"subnet": "10.33.0.0/24"}]]`, "error: ipam.subnet: \"10.33.0.0/25\": its range 10.33.0.1-10.33.0.126 overlaps"},
		{"neither", `{"type": "berth-ipam"}`, ``, "error: ipam: has no addresses"},
	} {
		conf, err := ParseWith([]byte(c.conf), []byte(c.runtime))
		var got []string
		if err == nil {
			for _, set := range conf.Ranges {
				got = append(got, set.String())
			}
		} else {
			got = []string{"error: " + err.Error()}
		}
		text := strings.Join(got, " | ")
		if text != c.want && !(strings.HasPrefix(c.want, "error: ") && strings.HasPrefix(text, c.want)) {
			t.Errorf("%s: %s, want %s", c.name, text, c.want)
		}
	}
}

func TestParseRequested(t *testing.T) {
	got, err := ParseRequested([]string{"10.1.2.3", "10.1.2.4/24", "::ffff:10.1.2.5", "fd00::7/64"})
	if err != nil {
		t.Fatal(err)
	}
	if want := []netip.Addr{addr("10.1.2.3"), addr("10.1.2.4"), addr("10.1.2.5"), addr("fd00::7")}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	_, err = ParseRequested([]string{"10.1.2.3", "10.1.2", "", "fe80::1%eth0", "10.1.2.3/33"})
	want := `ips[1]: "10.1.2": want an address such as 10.88.0.7 or 10.88.0.7/16
ips[2]: "": want an address such as 10.88.0.7 or 10.88.0.7/16
ips[3]: "fe80::1%eth0": want an address such as 10.88.0.7 or 10.88.0.7/16
ips[4]: "10.1.2.3/33": want an address such as 10.88.0.7 or 10.88.0.7/16`
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}

// FuzzParse: no input panics, and what is accepted keeps its promises.
func FuzzParse(f *testing.F) {
	confs, err := os.ReadFile(filepath.Join("testdata", "refused.jsonl"))
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(confs)) {
		f.Add([]byte(line))
	}
	f.Add([]byte(`{"ranges": [[{"subnet": "fd00::/16", "rangeEnd": "fd00:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}], [{"subnet": "255.255.0.0/16", "exclude": ["255.255.255.0/24"]}]]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := Parse(raw)
		if err != nil || !c.BuiltIn() {
			return
		}
		for _, set := range c.Ranges {
			for _, s := range set.spans(c.gateways()) {
				for _, a := range []netip.Addr{s.from, s.to} {
					if !s.in.Subnet.Contains(a) || s.in.reserved(a) != "" || a == s.in.Gateway || (span{s.in.Start, s.in.End, s.in}).contains(a) == false {
						t.Errorf("%s may be given out of %s, %s", a, s.in.Subnet, s.in)
					}
				}
				if s.from.Compare(s.to) > 0 {
					t.Errorf("span %s-%s", s.from, s.to)
				}
			}
			if len(set.spans(c.gateways())) == 0 {
				t.Errorf("nothing to give out of %s", set)
			}
		}
	})
}

func parse(t testing.TB, conf string) *Config {
	t.Helper()
	c, err := Parse(json.RawMessage(conf))
	if err != nil {
		t.Fatal(err)
	}
	return c
}
