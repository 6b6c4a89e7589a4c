package former

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFind(t *testing.T) {
	nstest.Host(t)
	dir := t.TempDir()
	h := &Host{Caches: []string{filepath.Join(dir, "*", "results"), filepath.Join(dir, "none")}, Leases: filepath.Join(dir, "networks"), Alive: []string{"ours"}}
	write(t, filepath.Join(dir, "libcni", "results", "demo-alive-eth0"), "{}")
	for ip, holder := range map[string]string{"10.88.0.2": "alive\r\neth0", "10.88.0.3": "gone\r\neth0", "10.88.0.4": "ours\r\neth0", "fd00::3": "gone",
		"lock": "", "last_reserved_ip.0": "10.88.0.4"} {
		write(t, filepath.Join(h.Leases, "demo", ip), holder)
	}
	rules := filepath.Join(dir, "rules")
	write(t, rules, `table inet cni_plugins_masquerade {
	chain masq_checks {
		ip saddr 10.88.0.2 masquerade comment "0123456789abcdef-0123456789abcdef, net: demo, if: eth0, id: alive"
		ip saddr 10.88.0.3 masquerade comment "0123456789abcdef-fedcba9876543210, net: demo, if: eth0, id: gone"
	}
}`)
	if err := nstest.Run("nft", "-f", rules); err != nil {
		t.Fatal(err)
	}
	all, err := h.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range all {
		got = append(got, l.What)
	}
	want := "rules of container gone (network demo): nftables inet cni_plugins_masquerade masq_checks\n" +
		"address 10.88.0.3 of container gone (network demo) in " + h.Leases + "\n" +
		"address fd00::3 of container gone (network demo) in " + h.Leases
	if strings.Join(got, "\n") != want {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
	write(t, filepath.Join(h.Leases, "demo", "fd00::3"), "next") // given away meanwhile
	for _, l := range all {
		if err := l.Remove(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(h.Leases, "demo", "fd00::3")); err != nil {
		t.Errorf("the lease of another container: %v", err)
	}
	all, err = h.Find(t.Context())
	if err != nil || len(all) != 1 || !strings.Contains(all[0].What, "container next") {
		t.Errorf("after it was removed: %d, %v", len(all), err)
	}
	if all, err := (&Host{Leases: filepath.Join(dir, "none")}).Find(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("without folders: %d, %v", len(all), err)
	}
}

// TestUsed: a container that no cache has is alive while its address is on an interface in
// another namespace, and not by an address that is one of our records'.
func TestUsed(t *testing.T) {
	nstest.Host(t)
	ns := nstest.Namespace(t)
	for _, addr := range []string{"10.88.0.5/16", "10.88.0.6/16", "fd00::5/64"} {
		if err := nstest.Run("ip", "-n", filepath.Base(ns), "address", "add", addr, "dev", "lo"); err != nil {
			t.Fatal(err)
		}
	}
	if err := nstest.Run("ip", "address", "add", "10.88.0.7/16", "dev", "lo"); err != nil {
		t.Fatal(err)
	}
	ours := &attach.Attachment{Key: attach.Key{Container: "ours"}, Addresses: []attach.Address{{Prefix: netip.MustParsePrefix("10.88.0.6/16")}}}
	h := On(nil, []string{ns, ns, filepath.Join(t.TempDir(), "gone"), "/proc/thread-self/ns/net"}, []*attach.Attachment{ours})
	h.Leases = t.TempDir()
	for ip, holder := range map[string]string{"10.88.0.5": "four\r\neth0", "10.88.0.6": "given-to-ours", "10.88.0.7": "the-host-has-it", "10.88.0.8": "nobody", "fd00::5": "six"} {
		write(t, filepath.Join(h.Leases, "demo", ip), holder)
	}
	all, err := h.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range all {
		got = append(got, strings.Fields(l.What)[1])
	}
	if want := "10.88.0.6 10.88.0.7 10.88.0.8"; strings.Join(got, " ") != want {
		t.Errorf("left over: %v, want %s", got, want)
	}
}
