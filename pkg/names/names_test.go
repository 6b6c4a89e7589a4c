package names

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestValid(t *testing.T) {
	for _, name := range []string{"web", "Web", "a", "0", "my_app_1", "_srv", "a-b", "0123456789ab", strings.Repeat("x", 63), "my.app", "www.Shop.example", "a.b.c.d.e.f", "10.0.0",
		"localhost.example", strings.Repeat("x.", 126) + "x"} {
		if err := Valid(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", "-a", "a-", "a b", "a\x00", "ä", "a/b", "*", "*.example", strings.Repeat("x", 64), ".", ".a", "a.", "a..b",
		"a.-b", "a.b-", "localhost", "x.LocalHost", "10.0.0.1", "a." + strings.Repeat("x", 64), strings.Repeat("x.", 127) + "x"} {
		if err := Valid(name); err == nil {
			t.Errorf("%q passes", name)
		}
	}
}

func TestDomain(t *testing.T) {
	for network, want := range map[string]string{"Simon_network": "simon_network", "back.end": "back.end", "a..b": "", "a.": "", "a.-b": "", "localhost": "", "x.localhost": "",
		strings.Repeat("x", 64): "", strings.Repeat("x.", 100): ""} {
		if got := Domain(network); got != want {
			t.Errorf("%s: got %q, want %q", network, got, want)
		}
	}
}

const id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestFromArgs(t *testing.T) {
	for _, c := range []struct {
		what    string
		source  Source
		names   string
		links   map[string]string
		left    string // part of it
		problem string // parts of it, by |
	}{
		{what: "only an ID", source: Source{Container: id}, names: "0123456789ab"},
		{what: "everything", names: "web front db1 a1 a2 a3 0123456789ab",
			source: Source{Container: id, Network: "net", Args: map[string]string{"K8S_POD_NAME": "Web"}, Aliases: json.RawMessage(`["a1","A1","WEB"]`),
				CNI: json.RawMessage(`{"hostname":"front","aliases":["a2"],"labels":[{"key":"berth.alias","value":"a3"},{"key":"berth.hostname","value":"db1"},{"key":"app","value":"not a name"}]}`)}},
		{what: "of podman", source: Source{Container: id, Network: "net", Aliases: json.RawMessage(`{"net":["a1"],"other":["a2"]}`)}, names: "a1 0123456789ab"},
		{what: "of nerdctl", source: Source{Container: id, Args: map[string]string{"NERDCTL_CNI_DHCP_HOSTNAME": "nerd"}}, names: "nerd 0123456789ab"},
		{what: "nothing asked", source: Source{Container: "c", Aliases: json.RawMessage(`null`), CNI: json.RawMessage(`null`)}, names: "c"},
		{what: "names of runtimes", source: Source{Container: "a b", Args: map[string]string{"K8S_POD_NAME": "pod*"}}, left: `K8S_POD_NAME "pod*"`},
		{what: "dots", source: Source{Container: "a.b", Args: map[string]string{"K8S_POD_NAME": "My.App"}, Aliases: json.RawMessage(`["www.Shop.example.", "www.shop.example"]`)},
			names: "my.app www.shop.example a.b"},
		{what: "underscores", source: Source{Container: id, Args: map[string]string{"K8S_POD_NAME": "my_app_1"}}, names: "my_app_1 0123456789ab"},
		{what: "links", source: Source{Container: "c", CNI: json.RawMessage(`{"links":["db:Database","cache","a.b:dots","db:db.example."]}`)}, names: "c",
			links: map[string]string{"database": "db", "db": "db", "cache": "cache", "dots": "a.b", "a.b": "a.b", "db.example": "db"}},
		{what: "a link's alias before a name", source: Source{Container: "c", CNI: json.RawMessage(`{"links":["x:db","db:y"]}`)}, names: "c",
			links: map[string]string{"db": "x", "x": "x", "y": "db"}},
		{what: "bad names", source: Source{Container: "c", Aliases: json.RawMessage(`["ok","not ok","-x"]`),
			CNI: json.RawMessage(`{"aliases":["a..b"],"links":["db:no good",":x","a.-b"],"labels":[{"key":"berth.name","value":"!"}]}`)},
			problem: `runtimeConfig.aliases: "not ok"|runtimeConfig.aliases: "-x"|args.cni.aliases: "a..b"|args.cni.links: "db:no good"|args.cni.links: ":x"|args.cni.links: "a.-b"|args.cni.labels berth.name: "!"`},
		{what: "a bad capability", source: Source{Container: "c", Aliases: json.RawMessage(`7`)}, problem: "runtimeConfig.aliases: 7: want a list"},
		{what: "bad args", source: Source{Container: "c", CNI: json.RawMessage(`{"links":"x"}`)}, problem: `args.cni.links: "x": want a list of strings`},
	} {
		got, err := FromArgs(c.source)
		if c.problem != "" {
			for _, part := range strings.Split(c.problem, "|") {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("%s: %v does not say %q", c.what, err, part)
				}
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		if !slices.Equal(got.Names, strings.Fields(c.names)) || !maps.Equal(got.Links, c.links) {
			t.Errorf("%s: got %q, %v", c.what, got.Names, got.Links)
		}
		if left := strings.Join(got.Left, "\n"); (left == "") != (c.left == "") || !strings.Contains(left, c.left) {
			t.Errorf("%s: left out: %q", c.what, left)
		}
	}
}
