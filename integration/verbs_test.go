package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// TestVerbs walks through all verbs by libcni, and through the ways in which two
// containers, the host and the outside reach each other, with each firewall backend.
func TestVerbs(t *testing.T) {
	t.Parallel()
	for _, backend := range []string{"auto", "nftables", "iptables"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			verbs(t, with(bridge, `"firewallBackend": "`+backend+`"`))
		})
	}
}

func verbs(t *testing.T, plugin string) {
	b := newBed(t)
	n, before := b.used(plugin)
	web, client := b.container("web"), b.container("client")
	must(t, n.Status())
	_, addr := b.add(n, web, tcpPort(8080, 80))
	_, clientAddr := b.add(n, client)
	serve(t, web, ":80")
	serve(t, b.outside, ":7000")

	b.answers(client, addr+":80", web, clientAddr)
	b.answers(b, addr+":80", web, gateway)
	b.answers(client, sandbox.OutsideAddr4+":7000", b.outside, sandbox.HostAddr4)
	b.answers(client, "["+sandbox.OutsideAddr6+"]:7000", b.outside, sandbox.HostAddr6)
	for _, from := range []struct {
		who interface {
			Ask(string) (string, error)
		}
		at, peer string
	}{
		{b.outside, sandbox.HostAddr4, sandbox.OutsideAddr4},
		{b.outside, "[" + sandbox.HostAddr6 + "]", sandbox.OutsideAddr6},
		{b, sandbox.HostAddr4, ""}, {b, gateway, ""}, {b, "127.0.0.1", ""},
		{b, "[" + sandbox.HostAddr6 + "]", ""},
		{client, sandbox.HostAddr4, ""}, {client, gateway, ""},
		{web, sandbox.HostAddr4, ""}, {web, gateway, ""},
	} {
		b.answers(from.who, from.at+":8080", web, from.peer)
	}

	must(t, n.Check(web, tcpPort(8080, 80)))
	must(t, n.GC(web, client))
	b.answers(b.outside, sandbox.HostAddr4+":8080", web, "")
	must(t, n.GC(client))
	if answer, err := b.outside.Ask(sandbox.HostAddr4 + ":8080"); err == nil {
		t.Errorf("a collected container answers %q", answer)
	}
	if err := n.Check(web, tcpPort(8080, 80)); err == nil {
		t.Error("CHECK finds a collected container in order")
	}
	must(t, n.Del(web, tcpPort(8080, 80)))
	must(t, n.Del(client))
	must(t, web.Remove())
	must(t, client.Remove())
	b.same(before, "after all verbs")
}

// TestCnitool walks through the verbs as a person at a shell does.
func TestCnitool(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	_, before := b.used(bridge)
	conf := t.TempDir()
	must(t, os.WriteFile(filepath.Join(conf, "demo.conflist"), []byte(conflist(version, bridge)), 0o644))
	c := b.container("c1")
	tool := func(args ...string) string {
		t.Helper()
		env := []string{"NETCONFPATH=" + conf, "CNI_PATH=" + b.bin, `CAP_ARGS={"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}`,
			filepath.Join(b.ref, "cnitool")}
		out, err := b.Output("env", append(env, args...)...)
		must(t, err)
		return out
	}
	tool("status", "demo", c.Netns)
	out := tool("add", "demo", c.Netns)
	var r result
	if err := json.Unmarshal([]byte(out), &r); err != nil || len(r.IPs) != 2 || r.CNIVersion != version {
		t.Fatalf("cnitool add printed %s: %v", out, err)
	}
	serve(t, c, ":80")
	b.answers(b.outside, sandbox.HostAddr4+":8080", c, "")
	tool("check", "demo", c.Netns)
	tool("del", "demo", c.Netns)
	tool("add", "demo", c.Netns)
	tool("gc", "demo", c.Netns)
	tool("del", "demo", c.Netns)
	must(t, c.Remove())
	b.same(before, "after cnitool")
}

// versions are those of the specification.
var versions = []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}

// TestVersions runs ADD, CHECK and DEL with every version of the specification: the
// result has that version's shape, and the reference's keys.
func TestVersions(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	_, before := b.used(bridge)
	for _, v := range versions {
		c := b.container("v" + v)
		call := sandbox.Call{Verb: "ADD", Container: c.ID, Netns: c.Netns, Config: config(v, bridge)}
		out := b.good(b.call(call)).Stdout
		if got, want := shape(t, out), wantShape(v); !slices.Equal(got, want) {
			t.Errorf("%s: the result has the keys\n%s, want\n%s", v, strings.Join(got, " "), strings.Join(want, " "))
		}
		var r result
		must(t, json.Unmarshal([]byte(out), &r))
		if r.CNIVersion != v {
			t.Errorf("%s: the result says %q", v, r.CNIVersion)
		}
		call.Config = config(v, bridge, `"prevResult": `+out)
		if v >= "0.4.0" {
			call.Verb = "CHECK"
			b.good(b.call(call))
		}
		call.Verb = "DEL"
		if out := b.good(b.call(call)).Stdout; out != "" {
			t.Errorf("%s: DEL wrote %q", v, out)
		}
		must(t, c.Remove())
	}
	b.same(before, "after all versions")

	out := b.good(b.call(sandbox.Call{Verb: "VERSION", Config: `{"cniVersion": "1.1.0"}`})).Stdout
	var says struct{ SupportedVersions []string }
	must(t, json.Unmarshal([]byte(out), &says))
	if !slices.Equal(says.SupportedVersions, versions) {
		t.Errorf("VERSION says %v, want %v", says.SupportedVersions, versions)
	}
	b.refused(b.call(sandbox.Call{Verb: "ADD", Container: "x", Netns: "/run/netns/x", Config: config("2.0.0", bridge)}), 1)
}

// shape lists the paths of a JSON object's keys; elements of lists are one.
func shape(t *testing.T, text string) []string {
	t.Helper()
	var v any
	must(t, json.Unmarshal([]byte(text), &v))
	var paths []string
	var walk func(string, any)
	walk = func(at string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, x := range v {
				walk(strings.TrimPrefix(at+"."+k, "."), x)
			}
		case []any:
			for _, x := range v {
				walk(at, x)
			}
		default:
			paths = append(paths, at)
		}
	}
	walk("", v)
	slices.Sort(paths)
	return slices.Compact(paths)
}

func wantShape(version string) []string {
	if version < "0.3.0" {
		return []string{"cniVersion", "ip4.gateway", "ip4.ip", "ip4.routes.dst", "ip6.gateway", "ip6.ip", "ip6.routes.dst"}
	}
	keys := []string{"cniVersion", "interfaces.mac", "interfaces.name", "interfaces.sandbox",
		"ips.address", "ips.gateway", "ips.interface", "routes.dst"}
	if version < "1.0.0" {
		keys = append(keys, "ips.version")
	}
	if version >= "1.1.0" {
		keys = append(keys, "interfaces.mtu")
	}
	slices.Sort(keys)
	return keys
}
