package firewall

import (
	"context"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/nstest"
)

// TestGolden shows what the kernel holds for a host with one network of each kind.
func TestGolden(t *testing.T) {
	for _, backend := range []string{NFTables, IPTables} {
		t.Run(backend, func(t *testing.T) {
			nstest.Host(t)
			for _, c := range goldenHost(backend) {
				if err := c.Steps[0].Add(context.Background(), &attach.Adding{Attachment: c}); err != nil {
					t.Fatal(err)
				}
			}
			tunnels := []Tunnel{tunnel(42, "192.0.2.7", "192.0.2.8"), tunnel(43, "2001:db8::7")}
			tunnels[0].Internal, tunnels[0].Isolate, tunnels[0].NoICC = true, true, true
			if err := SyncTunnels(t.Context(), backend, tunnels, nil); err != nil {
				t.Fatal(err)
			}
			got := ""
			if backend == NFTables {
				got = run(t, "nft list table inet berth")
			} else {
				got = "# iptables-save\n" + saved(run(t, "iptables-save")) + "# ip6tables-save\n" + saved(run(t, "ip6tables-save"))
			}
			file := "testdata/" + backend + ".golden"
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if backend == NFTables { // who keeps a listing must be able to load it
				run(t, "nft flush ruleset")
				run(t, "nft -f "+file)
			}
			if got != string(want) {
				t.Errorf("not as in %s (-update writes it):\n%s", file, got)
			}
		})
	}
}

func goldenHost(backend string) []*attach.Attachment {
	on := func(r Rules, a *attach.Attachment) *attach.Attachment {
		r.Backend = backend
		a.Network = r.Bridge
		a.Steps = []attach.Step{&r}
		return a
	}
	port := func(host uint16, protocol, ip string) attach.Port {
		p := attach.Port{HostPort: host, ContainerPort: 80, Protocol: protocol}
		if ip != "" {
			p.HostIP = netip.MustParseAddr(ip)
		}
		return p
	}
	return []*attach.Attachment{
		on(Rules{Bridge: "normal", Masquerade: true, Names: true}, attachment("a", []string{"10.1.0.2/24", "fd00:1::2/64"},
			port(8080, "tcp", ""), port(53, "udp", "192.0.2.1"), port(443, "tcp", "2001:db8::1"), port(3868, "sctp", "0.0.0.0"))),
		on(Rules{Bridge: "normal", Masquerade: true, Names: true}, attachment("b", []string{"10.1.0.3/24"})),
		on(Rules{Bridge: "plain"}, attachment("c", []string{"10.2.0.2/24"}, port(8081, "tcp", ""))),
		on(Rules{Bridge: "internal", Internal: true}, attachment("d", []string{"10.3.0.2/24", "fd00:3::2/64"})),
		on(Rules{Bridge: "isolated", Isolate: true, Masquerade: true}, attachment("e", []string{"10.4.0.2/24"})),
		on(Rules{Bridge: "overlay43", Overlay: "vxlan43", Masquerade: true}, attachment("g", []string{"10.43.0.2/24", "fd00:43::2/64"})),
		on(Rules{Bridge: "noicc", NoICC: true, Masquerade: true}, attachment("f", []string{"fd00:5::2/64"}, port(8086, "tcp", ""))),
	}
}

var counters = regexp.MustCompile(`\[\d+:\d+\]`)

// saved leaves out of iptables-save what tells of other chains, of time and of packets.
func saved(save string) string {
	var b strings.Builder
	for line := range strings.Lines(save) {
		if strings.HasPrefix(line, "*") || strings.Contains(line, "BERTH") {
			b.WriteString(counters.ReplaceAllString(line, "[0:0]"))
		}
	}
	return b.String()
}
