package firewall

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/berth-cni/berth/pkg/firewall/allow"
	"github.com/berth-cni/berth/pkg/nstest"
)

// TestAdmit has another firewall drop what it does not know.
func TestAdmit(t *testing.T) {
	for _, flavour := range []string{"nft", "legacy"} {
		t.Run(flavour, func(t *testing.T) {
			l := newLab(t, NFTables, false)
			serve(t, "host", ":4789")
			serve(t, "host", ":8472")
			for _, program := range []string{"iptables-", "ip6tables-"} {
				run(t, program+flavour+" -P INPUT DROP")
			}
			run(t, "ip6tables-"+flavour+" -A INPUT -p icmpv6 -j ACCEPT") // neighbours
			expect := func(what, at4789, at8472 string) {
				t.Helper()
				defer l.answers()
				l.expectSoon(what, "out", "udp", "192.0.2.1:4789", at4789)
				l.expectSoon(what, "out", "udp", "192.0.2.1:8472", at8472)
				l.expectSoon(what, "out", "udp", "[2001:db8:a::1]:4789", map[bool]string{true: "host saw 2001:db8:a::2"}[at4789 != noAnswer])
				l.expectSoon(what+", TCP", "out", "tcp", "192.0.2.1:4789", noAnswer)
			}
			const answer = "host saw 192.0.2.2"
			for _, c := range []struct {
				what           string
				ports          []int
				at4789, at8472 string
			}{
				{"none", nil, noAnswer, noAnswer},
				{"both", []int{4789, 8472}, answer, answer},
				{"again", []int{8472, 4789}, answer, answer},
				{"one", []int{4789}, answer, noAnswer},
				{"none again", nil, noAnswer, noAnswer},
			} {
				if err := allow.VXLAN(t.Context(), c.ports); err != nil {
					t.Fatal(err)
				}
				expect(c.what, c.at4789, c.at8472)
			}
			if left := linesWith(t, "berth-vxlan"); left != "" {
				t.Errorf("left:\n%s", left)
			}
		})
	}
}

// TestAdmitFirewalld has a program in firewalld's place that writes down how it was
// called, and answers as firewall-cmd does.
func TestAdmitFirewalld(t *testing.T) {
	nstest.Host(t)
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	script := `#!/bin/sh
echo "$@" >> ` + log + `
case "$1" in
--get-default-zone) echo public ;;
--get-active-zones) printf 'internal (active)\n  interfaces: eth1\npublic\n  interfaces: eth0\n' ;;
esac
`
	if err := os.WriteFile(filepath.Join(dir, "firewall-cmd"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "nft add table inet firewalld")
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for _, ports := range [][]int{{4789, 8472}, nil} {
		if err := allow.VXLAN(t.Context(), ports); err != nil {
			t.Fatal(err)
		}
	}
	got, _ := os.ReadFile(log)
	want := `--get-default-zone
--get-active-zones
--zone=internal --add-port=4789/udp --add-port=8472/udp
--zone=public --add-port=4789/udp --add-port=8472/udp
`
	if string(got) != want {
		t.Errorf("called with\n%s\nwant\n%s", got, want)
	}
}
