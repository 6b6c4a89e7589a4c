package former

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

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
