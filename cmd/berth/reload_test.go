package main

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/nstest"
)

func TestReload(t *testing.T) {
	w := newWard(t)
	dead := w.container(3, false)
	w.sh("ip netns del " + filepath.Base(dead.Netns))
	time.Sleep(100 * time.Millisecond)
	first := attach.Key{Network: "web", Container: "c1", IfName: "eth0"}
	w.sh("ip link del " + first.HostIfName() + "; nft flush ruleset")
	code, out := w.berth("reload", "web")
	for _, want := range []string{
		"left:     container c3 (network web, eth0): its namespace " + dead.Netns + " is gone\n",
		"put back: container c1 (network web, eth0): ",
		"put back: the firewall, for 2 containers: ",
	} {
		if code != exitDone || !strings.Contains(out, want) {
			t.Errorf("%d, want %q in\n%s", code, want, out)
		}
	}
	all, err := w.store.List(t.Context(), "web")
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
	if code, out := w.berth("reload", "nobody"); code != exitFailed || !strings.Contains(out, "no container of this host is on nobody") {
		t.Errorf("%d, %s", code, out)
	}
}

// TestReloadGoesOn: what cannot be put back for one keeps nothing from the others.
func TestReloadGoesOn(t *testing.T) {
	w := newWard(t)
	first, second := attach.Key{Network: "web", Container: "c1", IfName: "eth0"}, attach.Key{Network: "web", Container: "c2", IfName: "eth0"}
	a, err := w.store.Get(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	w.sh("ip link del " + first.HostIfName() + "; ip link del " + second.HostIfName())
	w.sh("ip netns exec " + filepath.Base(a.Netns) + " ip link add eth0 type bridge") // in the way
	code, out := w.berth("reload")
	if code != exitFailed || !strings.Contains(out, "NOT put back: container c1 (network web, eth0): ") || !strings.Contains(out, "put back: container c2 (network web, eth0): ") ||
		!strings.Contains(out, "berth: 1 could not be put back") {
		t.Errorf("%d\n%s", code, out)
	}
	w.sh("ip netns exec " + filepath.Base(a.Netns) + " ip link del eth0")
	if code, out := w.berth("reload"); code != exitDone || !strings.Contains(out, "put back: container c1") {
		t.Errorf("%d\n%s", code, out)
	}
}

// TestReloadSettings: a network whose settings have changed has those of its newest
// container, whatever an older one was added with.
func TestReloadSettings(t *testing.T) {
	w := newWard(t)
	first := attach.Key{Network: "web", Container: "c1", IfName: "eth0"}
	a, err := w.store.Get(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.store.Del(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	a.Created = a.Created.Add(time.Minute)
	firewall.RulesOf(a).Isolate = false
	a.Leases = nil
	a.Steps = append([]attach.Step{&attach.Network{Name: "web", Plugin: "bridge", Link: "br-web"}}, a.Steps...)
	if err := w.store.Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if code, bad := w.doctor(); code != exitDone {
			t.Errorf("%d, %q", code, bad)
		}
		if isolated := w.sh("nft list set inet berth isolated"); strings.Contains(isolated, "br-web") {
			t.Errorf("the older container's setting is back:\n%s", isolated)
		}
		w.sh("nft flush ruleset")
		if code, out := w.berth("reload"); code != exitDone {
			t.Errorf("%d\n%s", code, out)
		}
	}
}

// TestIPTables is the other backend: what is of nobody, and what is missing.
func TestIPTables(t *testing.T) {
	w := newWard(t)
	for _, key := range []string{"c1", "c2"} {
		if err := w.store.Del(t.Context(), attach.Key{Network: "web", Container: key, IfName: "eth0"}); err != nil {
			t.Fatal(err)
		}
	}
	w.backend = firewall.IPTables
	a := w.container(3, false)
	if code, bad := w.doctor(); code != exitDone {
		t.Errorf("%d, %q", code, bad)
	}
	stray := attach.Key{Network: "web", Container: "stray"}.Hash()
	w.sh("iptables -t nat -A BERTH-PUBLISH -p tcp -d 192.0.2.7 -m comment --comment " + stray + " -j RETURN")
	if code, bad := w.doctor(); code != exitFailed || !strings.Contains(bad[inStrangers], stray) {
		t.Errorf("%d, %q", code, bad)
	}
	if code, bad := w.doctor("--fix"); code != exitDone {
		t.Errorf("%d, %q", code, bad)
	}
	w.sh("nft flush ruleset") // iptables of today keeps its rules there
	if code, bad := w.doctor(); code != exitFailed || !strings.Contains(bad[inFaults], "iptables has no rule with its mark "+a.Hash()) {
		t.Errorf("%d, %q", code, bad)
	}
	if code, bad := w.doctor("--fix"); code != exitDone {
		t.Errorf("%d, %q", code, bad)
	}
	if err := attach.Check(t.Context(), a); err != nil {
		t.Error(err)
	}
}

// BenchmarkDoctor is a look at a healthy host with 1,000 containers.
func BenchmarkDoctor(b *testing.B) {
	nstest.Host(b)
	b.Setenv(attach.DirEnv, b.TempDir())
	b.Setenv("BERTH_DATA_DIR", b.TempDir())
	s := attach.New("", cni.Decode)
	rules := &firewall.Rules{Backend: firewall.NFTables, Bridge: "br-web", Masquerade: true}
	for i := range 1000 {
		ns := nstest.Namespace(b)
		n, err := link.OpenNetns(ns)
		if err != nil {
			b.Fatal(err)
		}
		cookie, _ := n.Cookie()
		n.Close()
		gw := netip.MustParseAddr("10.81.0.1")
		addr := netip.AddrFrom4([4]byte{10, 81, byte((i + 2) >> 8), byte(i + 2)})
		a := &attach.Attachment{Key: attach.Key{Network: "web", Container: fmt.Sprintf("c%d", i), IfName: "eth0"}, Plugin: "bridge",
			Netns: ns, Cookie: cookie, Created: noon, Addresses: []attach.Address{{Prefix: netip.PrefixFrom(addr, 16), Gateway: gw}},
			Routes: []attach.Route{link.DefaultRoute(gw)}, Leases: []netip.Addr{addr},
			Ports: []attach.Port{{HostPort: uint16(10000 + i), ContainerPort: 80, Protocol: "tcp"}}}
		a.MAC = link.MAC(a)
		a.Steps = []attach.Step{&attach.Network{Name: "web", Plugin: "bridge", Link: "br-web"},
			&link.Forwarding{Gateway: true}, &link.Bridge{Name: "br-web", Gateway: true}, &link.Veth{Bridge: "br-web"}, rules}
		err = s.Update(b.Context(), func(tx *attach.Tx) error { return tx.Lease(addr, a.Key) })
		if err == nil {
			err = s.Add(b.Context(), &attach.Adding{Attachment: a})
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	p := &program{now: func() time.Time { return noon }, out: io.Discard}
	p.settings.dataDir, p.settings.stateDir, p.settings.listen = os.Getenv("BERTH_DATA_DIR"), s.Dir(), "127.0.0.1:1"
	for b.Loop() {
		if err := p.diagnose(b.Context(), true, false); err != nil {
			b.Fatal(err)
		}
	}
}
