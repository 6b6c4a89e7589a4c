package host

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
)

func TestReload(t *testing.T) {
	w := newHost(t)
	dead := w.Container(3, false)
	w.Sh("ip netns del " + filepath.Base(dead.Netns))
	w.Ended(dead)
	first := attach.Key{Network: "web", Container: "c1", IfName: "eth0"}
	w.Sh("ip link del " + first.HostIfName() + "; nft flush ruleset")
	out, err := w.reload("web")
	for _, want := range []string{
		"left container c3 (network web, eth0): its namespace " + dead.Netns + " is gone\n",
		"put back: container c1 (network web, eth0): ",
		"put back: the firewall, for 2 containers: ",
	} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%v, want %q in\n%s", err, want, out)
		}
	}
	all, err := w.Store.List(t.Context(), "web")
	for _, a := range all {
		if a.Key != dead.Key {
			if err := attach.Check(t.Context(), a); err != nil {
				t.Error(err)
			}
		}
	}
	if err != nil || len(all) != 3 {
		t.Errorf("%d records, %v", len(all), err)
	}
	if out, err := w.reload("nobody"); err == nil || !strings.Contains(err.Error(), "no container of this host is on nobody") {
		t.Errorf("%v, %s", err, out)
	}
}

// TestReloadGoesOn: what cannot be put back for one keeps nothing from the others.
func TestReloadGoesOn(t *testing.T) {
	w := newHost(t)
	first, second := attach.Key{Network: "web", Container: "c1", IfName: "eth0"}, attach.Key{Network: "web", Container: "c2", IfName: "eth0"}
	a, err := w.Store.Get(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	w.Sh("ip link del " + first.HostIfName() + "; ip link del " + second.HostIfName())
	w.Sh("ip netns exec " + filepath.Base(a.Netns) + " ip link add eth0 type bridge") // in the way
	out, err := w.reload()
	if err == nil || !strings.Contains(out, "NOT put back: container c1 (network web, eth0): ") || !strings.Contains(out, "put back: container c2 (network web, eth0): ") ||
		err.Error() != "1 could not be put back" {
		t.Errorf("%v\n%s", err, out)
	}
	w.Sh("ip netns exec " + filepath.Base(a.Netns) + " ip link del eth0")
	if out, err := w.reload(); err != nil || !strings.Contains(out, "put back: container c1") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestReloadSettings: a network whose settings have changed has those of its newest
// container, whatever an older one was added with.
func TestReloadSettings(t *testing.T) {
	w := newHost(t)
	first := attach.Key{Network: "web", Container: "c1", IfName: "eth0"}
	a, err := w.Store.Get(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Store.Del(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	a.Created = a.Created.Add(time.Minute)
	firewall.RulesOf(a).Isolate = false
	a.Leases = nil
	a.Steps = append([]attach.Step{&attach.Network{Name: "web", Plugin: "bridge", Link: "br-web"}}, a.Steps...)
	if err := w.Store.Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if isolated := w.Sh("nft list set inet berth isolated"); strings.Contains(isolated, "br-web") {
			t.Errorf("the older container's setting is back:\n%s", isolated)
		}
		w.Sh("nft flush ruleset")
		if out, err := w.reload(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
}
