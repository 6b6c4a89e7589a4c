package firewall

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall/allow"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/berth-cni/berth/pkg/steptest"
)

func attachment(name string, addrs []string, ports ...attach.Port) *attach.Attachment {
	a := &attach.Attachment{Key: attach.Key{Network: "net", Container: name, IfName: "eth0"}, Ports: ports}
	for _, s := range addrs {
		p := netip.MustParsePrefix(s)
		a.Addresses = append(a.Addresses, attach.Address{Prefix: p, Gateway: p.Masked().Addr().Next()})
	}
	return a
}

// sample is a container with all there is.
func sample(name string) *attach.Attachment {
	return attachment(name, []string{"10.1.0.2/24", "fd00:1::2/64"},
		attach.Port{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"},
		attach.Port{HostPort: 53, ContainerPort: 5353, Protocol: "udp", HostIP: netip.MustParseAddr("192.0.2.1")},
		attach.Port{HostPort: 53, ContainerPort: 5353, Protocol: "udp", HostIP: netip.MustParseAddr("2001:db8::1")},
		attach.Port{HostPort: 99, ContainerPort: 99, Protocol: "sctp", HostIP: netip.MustParseAddr("0.0.0.0")})
}

// held is all that the host's firewalls hold.
func held(t testing.TB) string {
	t.Helper()
	return run(t, "nft list ruleset") +
		run(t, "iptables-save") + run(t, "ip6tables-save") +
		run(t, "iptables-legacy-save") + run(t, "ip6tables-legacy-save")
}

// legacy puts the older flavour of iptables in front for the test.
func legacy(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"iptables", "ip6tables"} {
		path, err := exec.LookPath(name + "-legacy")
		if err != nil {
			t.Skip("no iptables-legacy here")
		}
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestConformance(t *testing.T) {
	for _, c := range []struct {
		name, backend string
		prepare       func(*testing.T)
	}{
		{"nftables", NFTables, func(*testing.T) {}},
		{"iptables-nft", IPTables, func(*testing.T) {}},
		{"iptables-legacy", IPTables, legacy},
	} {
		t.Run(c.name, func(t *testing.T) {
			nstest.Host(t)
			c.prepare(t)
			if err := Status(c.backend); err != nil {
				t.Fatal(err)
			}
			r := &Rules{Backend: c.backend, Bridge: "br1", Overlay: "vxlan1", Masquerade: true, Internal: true, Isolate: true, NoICC: true, Names: true}
			a := sample("a")
			steptest.Conform(t, r, a, steptest.Harmless, func() string { return linesWith(t, a.Hash(), "10.1.0.2", "fd00:1::2") })
			if err := RemoveNetwork(t.Context(), c.backend, "br1"); err != nil {
				t.Error(err)
			}
			for line := range strings.Lines(linesWith(t, "br1")) {
				// The tunnel's: pairs with the device, and what is behind it.
				if !strings.Contains(line, "vxlan1") && strings.TrimSpace(line) != `elements = { "br1",` {
					t.Errorf("left of the network: %s", line)
				}
			}
			if err := SyncTunnels(t.Context(), c.backend, nil, nil); err != nil {
				t.Error(err)
			}
			if left := linesWith(t, "br1", "vxlan1"); left != "" {
				t.Errorf("left of the tunnel:\n%s", left)
			}
			r.Overlay, r.Own = "", true
			steptest.Conform(t, r, a, steptest.Harmless, func() string { return linesWith(t, a.Hash(), "br1") })
		})
	}
}

// linesWith are the lines of what the firewalls hold that have one of the words.
func linesWith(t testing.TB, words ...string) string {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(held(t)) {
		if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(line, w) }) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// TestDamage has others take away parts: Check says so, Del does not mind.
func TestDamage(t *testing.T) {
	for _, c := range []struct{ backend, damage string }{
		{NFTables, "nft delete element inet berth ports4 { tcp . 8080 }"},
		{NFTables, "nft delete element inet berth own6 { fd00:1::2 . br1 }"},
		{NFTables, "nft delete element inet berth bridges { br1 }"},
		{NFTables, "nft flush chain inet berth forward"},
		{NFTables, "nft flush table inet berth"},
		{NFTables, "nft flush set inet berth masq4"},
		{NFTables, "nft delete table inet berth"},
		{NFTables, "nft flush ruleset"},
		{IPTables, "iptables -t nat -F BERTH-PUBLISH"},
		{IPTables, "ip6tables -t nat -F BERTH-HAIRPIN"},
		{IPTables, "iptables -D FORWARD -j BERTH-FORWARD"},
		{IPTables, "nft flush ruleset"},
	} {
		t.Run(c.damage, func(t *testing.T) {
			nstest.Host(t)
			ctx := context.Background()
			r := &Rules{Backend: c.backend, Bridge: "br1", Masquerade: true}
			a := sample("a")
			a.Steps = []attach.Step{r}
			harm := func() {
				t.Helper()
				if err := r.Add(ctx, &attach.Adding{Attachment: a}); err != nil {
					t.Fatal(err)
				}
				if _, err := nstest.Output("sh", "-c", strings.ReplaceAll(strings.ReplaceAll(c.damage, "{", "'{"), "}", "}'")); err != nil {
					t.Fatal(err)
				}
				if r.Check(ctx, a) == nil {
					t.Error("Check misses nothing")
				}
			}
			harm()
			if err := Rebuild(ctx, recordsOf(&[]*attach.Attachment{a})); err != nil {
				t.Fatal(err)
			}
			if err := r.Check(ctx, a); err != nil {
				t.Errorf("after Rebuild: %v", err)
			}
			harm()
			if err := r.Del(ctx, a); err != nil {
				t.Errorf("Del: %v", err)
			}
			if strings.Contains(held(t), a.Hash()) {
				t.Errorf("left:\n%s", held(t))
			}
		})
	}
}

// TestStalePort: somebody who is gone left the port to another address.
func TestStalePort(t *testing.T) {
	for _, backend := range []string{NFTables, IPTables} {
		t.Run(backend, func(t *testing.T) {
			l := newLab(t, backend, false)
			r := l.network(1)
			port := attach.Port{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}
			l.container("a", r, 2, port)
			b := l.container("b", r, 3, port)
			l.expect("the new one", "out", "tcp", "192.0.2.1:8080", "b saw 192.0.2.2")
			if err := r.Check(context.Background(), b); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestNetworkChanged takes the network's memberships along.
func TestNetworkChanged(t *testing.T) {
	for _, backend := range []string{NFTables, IPTables} {
		t.Run(backend, func(t *testing.T) {
			l := newLab(t, backend, false)
			r := l.network(1)
			r.Internal, r.Isolate, r.NoICC = true, true, true
			a := l.container("a", r, 3)
			l.expect("internal", "a", "tcp", "192.0.2.2:80", noAnswer)
			r = &Rules{Backend: backend, Bridge: "br1", Masquerade: true}
			if err := r.Add(context.Background(), &attach.Adding{Attachment: a, NetworkChanged: true}); err != nil {
				t.Fatal(err)
			}
			l.expect("not internal", "a", "tcp", "192.0.2.2:80", "out saw 192.0.2.1")
			if s := held(t); strings.Contains(s, "DROP") && strings.Contains(s, "-i br1 -o br1") {
				t.Errorf("left:\n%s", s)
			}
		})
	}
}

// TestManyAtOnce: the first containers of a host all find no table.
func TestManyAtOnce(t *testing.T) {
	ns := nstest.Namespace(t)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			nstest.In(t, ns, func() {
				r := &Rules{Backend: NFTables, Bridge: "br1", Masquerade: true}
				a := benchAttachment(i+1, r)
				if err := r.Add(context.Background(), &attach.Adding{Attachment: a}); err != nil {
					t.Error(err)
				}
				if err := r.Check(context.Background(), a); err != nil {
					t.Error(err)
				}
			})
		})
	}
	wg.Wait()
}

func TestRefusals(t *testing.T) {
	nstest.Host(t)
	ctx := context.Background()
	for _, backend := range []string{NFTables, IPTables} {
		r := &Rules{Backend: backend, Bridge: "br1"}
		before := held(t)
		for want, p := range map[string]attach.Port{
			"none of tcp, udp, sctp": {HostPort: 1, ContainerPort: 1, Protocol: "icmp"},
		} {
			a := attachment("a", []string{"10.1.0.2/24"}, p)
			if err := r.Add(ctx, &attach.Adding{Attachment: a}); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %v, want %q", backend, err, want)
			}
			if err := r.Del(ctx, a); err != nil {
				t.Errorf("%s: Del: %v", backend, err)
			}
		}
		if held(t) != before {
			t.Errorf("%s: something was made", backend)
		}
	}
	r := &Rules{Backend: NFTables, Bridge: "br1"}
	a := attachment("a", []string{"10.1.0.2/24"}, attach.Port{HostPort: 1, ContainerPort: 1, Protocol: "tcp", HostIP: netip.MustParseAddr("2001:db8::1")})
	warned := ""
	if err := r.Add(ctx, &attach.Adding{Attachment: a, Warned: func(format string, args ...any) { warned += fmt.Sprintf(format, args...) }}); err != nil || !strings.Contains(warned, "no address of that family") {
		t.Errorf("a port of a family that the container lacks: %v, %q", err, warned)
	}
	if err := errors.Join(r.Check(ctx, a), r.Del(ctx, a)); err != nil {
		t.Error(err)
	}
	if _, err := Choose("ipfw"); err == nil {
		t.Error("Choose takes any word")
	}
	if b, err := Choose("auto"); b != NFTables || err != nil {
		t.Errorf("Choose: %q, %v", b, err)
	}
	t.Setenv("PATH", "/nonexistent")
	if _, err := Choose(IPTables); err == nil || !strings.Contains(err.Error(), "Debian's package is iptables") {
		t.Errorf("Choose without iptables: %v", err)
	}
}

func TestConformanceForward(t *testing.T) {
	nstest.Host(t)
	run(t, "iptables-nft -P FORWARD DROP")
	run(t, "ip6tables-legacy -P FORWARD DROP")
	f := &allow.Forward{Bridge: "br1"}
	steptest.Conform(t, f, sample("a"), steptest.Shared, func() string { return linesWith(t, "br1") })
	if err := f.Remove(t.Context()); err != nil {
		t.Error(err)
	}
	if left := linesWith(t, "br1"); left != "" {
		t.Errorf("left:\n%s", left)
	}
}

// TestConformanceForwardOwn: a container's own interface leaves with it.
func TestConformanceForwardOwn(t *testing.T) {
	nstest.Host(t)
	run(t, "iptables-nft -P FORWARD DROP")
	run(t, "ip6tables-legacy -P FORWARD DROP")
	f := &allow.Forward{Bridge: "veth1", Own: true}
	steptest.Conform(t, f, sample("a"), steptest.Harmless, func() string { return linesWith(t, "veth1") })
}

var _ attach.Restorable = (*Rules)(nil) // and hence deleted by every rollback
