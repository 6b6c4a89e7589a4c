package doctor

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/link"
)

// mystery is a step of a later version.
type mystery struct{}

func (mystery) Kind() string                                    { return "mystery" }
func (mystery) Add(context.Context, *attach.Adding) error       { return nil }
func (mystery) Del(context.Context, *attach.Attachment) error   { return nil }
func (mystery) Check(context.Context, *attach.Attachment) error { return nil }

// TestUnreadable: what has a record that nobody can read is not taken for a stray.
func TestUnreadable(t *testing.T) {
	w := newHost(t)
	b := &attach.Attachment{Key: attach.Key{Network: "web", Container: "later", IfName: "eth0"}}
	b.Steps = []attach.Step{mystery{}}
	err := w.Store.Add(t.Context(), &attach.Adding{Attachment: b})
	if err != nil {
		t.Fatal(err)
	}
	w.Sh("ip link add " + b.HostIfName() + " type veth peer name other")
	if code, bad := w.doctor(); code != problems || !strings.Contains(bad[inStateFile], "mystery") || bad[inStrangers] != "" {
		t.Errorf("%d, %q", code, bad)
	}
}

// TestIPTables is the other backend: what is of nobody, and what is missing.
func TestIPTables(t *testing.T) {
	w := newHost(t)
	for _, key := range []string{"c1", "c2"} {
		if err := w.Store.Del(t.Context(), attach.Key{Network: "web", Container: key, IfName: "eth0"}); err != nil {
			t.Fatal(err)
		}
	}
	w.Backend = firewall.IPTables
	a := w.Container(3, false)
	if code, bad := w.doctor(); code != allWell {
		t.Errorf("%d, %q", code, bad)
	}
	stray := attach.Key{Network: "web", Container: "stray"}.Hash()
	w.Sh("iptables -t nat -A BERTH-PUBLISH -p tcp -d 192.0.2.7 -m comment --comment " + stray + " -j RETURN")
	if code, bad := w.doctor(); code != problems || !strings.Contains(bad[inStrangers], stray) {
		t.Errorf("%d, %q", code, bad)
	}
	if code, bad := w.doctor("--fix"); code != allWell {
		t.Errorf("%d, %q", code, bad)
	}
	w.Sh("nft flush ruleset") // iptables of today keeps its rules there
	if code, bad := w.doctor(); code != problems || !strings.Contains(bad[inFaults], "iptables has no rule with its mark "+a.Hash()) {
		t.Errorf("%d, %q", code, bad)
	}
	if code, bad := w.doctor("--fix"); code != allWell {
		t.Errorf("%d, %q", code, bad)
	}
	if err := attach.Check(t.Context(), a); err != nil {
		t.Error(err)
	}
}

// What a container has of its own is its fault, and what it shares that of its network.
func TestSubject(t *testing.T) {
	a := &attach.Attachment{Key: attach.Key{Network: "blue", Container: "c1"}, Steps: []attach.Step{&link.Bridge{}, &link.Veth{}}}
	for kind, want := range map[string]about{"bridge": {network: "blue"}, "veth": {container: "c1"}} {
		if got := subject(host.Fault{Attachment: a, Kind: kind}); got != want {
			t.Errorf("%s: %+v, want %+v", kind, got, want)
		}
	}
	p := problem("what", "why", "mend", about{network: "blue"}, about{container: "c1"}, about{}, about{network: "blue"})
	if !slices.Equal(p.Networks, []string{"blue"}) || !slices.Equal(p.Containers, []string{"c1"}) {
		t.Errorf("%+v", p)
	}
}
