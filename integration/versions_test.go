package integration

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
	"github.com/containernetworking/cni/pkg/types/create"
)

// allVersions runs ADD, CHECK and DEL of the plugin in every version. The result has
// the version's keys, and the CNI library reads it.
func (b *bed) allVersions(name, plugin string, keys func(version string) []string) {
	b.t.Helper()
	before := b.snapshot()
	for _, v := range versions {
		c := b.container("v" + v)
		call := sandbox.Call{Verb: "ADD", Plugin: filepath.Join(b.bin, name), Container: c.ID, Netns: c.Netns, Config: config(v, plugin)}
		out := b.good(b.call(call)).Stdout
		if got, want := shape(b.t, out), keys(v); !slices.Equal(got, want) {
			b.t.Errorf("%s: the result has the keys\n%v, want\n%v", v, got, want)
		}
		readable(b.t, v, out)
		call.Config = config(v, plugin, `"prevResult": `+out)
		if call.Verb = "CHECK"; v >= "0.4.0" {
			b.good(b.call(call))
		}
		call.Verb = "DEL"
		if out := b.good(b.call(call)).Stdout; out != "" {
			b.t.Errorf("%s: DEL wrote %q", v, out)
		}
		must(b.t, c.Remove())
		b.same(before, "after "+name+" in "+v)
	}
}

// readable fails the test unless the CNI library reads the result as one of that
// version, which it names.
func readable(t *testing.T, version, out string) {
	t.Helper()
	var says result
	if must(t, json.Unmarshal([]byte(out), &says)); says.CNIVersion != version {
		t.Errorf("%s: the result says %q", version, says.CNIVersion)
	}
	if _, err := create.Create(version, []byte(out)); err != nil {
		t.Errorf("%s: the library does not read the result: %v", version, err)
	}
}

// without is the version's shape of a result that lacks some keys, named by their ends.
func without(ends ...string) func(string) []string {
	return func(v string) []string {
		return slices.DeleteFunc(wantShape(v), func(k string) bool {
			return slices.ContainsFunc(ends, func(end string) bool { return strings.HasSuffix(k, end) })
		})
	}
}

// TestNoneVersions: lo has addresses, so that every version can say what there is.
func TestNoneVersions(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.settledNetwork("demo", none)
	b.allVersions("none", none, without("gateway", "routes.dst", "mtu"))
}

// TestShareVersions has the owner's result in every version.
func TestShareVersions(t *testing.T) {
	t.Parallel()
	b, n, _, owner, _ := shared(t)
	b.settledNetwork("demo", share("web"))
	b.allVersions("container-share", share("web"), wantShape)
	must(t, n.Check(owner, tcpPort(8080, 80)))
}

// TestVersionsWithoutAddress attaches at layer 2 only. Before 0.3.0 a result cannot be
// without an address: ADD says so, and leaves nothing.
func TestVersionsWithoutAddress(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	n, _ := b.settledNetwork("layer2", `{"type": "bridge", "bridge": "berth2"}`)
	owner := b.container("flat")
	b.add(n, owner)
	_, before := b.settledNetwork("demo", share("flat"))
	bare := without("address", "gateway", "interface", "version", "routes.dst")
	for _, v := range versions {
		c := b.container("v" + v)
		call := sandbox.Call{Verb: "ADD", Plugin: filepath.Join(b.bin, "container-share"), Container: c.ID, Netns: c.Netns, Config: config(v, share("flat"))}
		r := b.call(call)
		if v < "0.3.0" {
			b.refused(r, 0, "cannot convert: no valid IP addresses")
			b.leads(c, false)
		} else if got, want := shape(t, b.good(r).Stdout), bare(v); !slices.Equal(got, want) {
			t.Errorf("%s: the result has the keys %v, want %v", v, got, want)
		} else {
			readable(t, v, r.Stdout)
			call.Verb = "DEL"
			b.good(b.call(call))
		}
		must(t, c.Remove()) // without a DEL after the refusal
		b.same(before, "without an address in "+v)
	}
	must(t, n.Check(owner))
}
