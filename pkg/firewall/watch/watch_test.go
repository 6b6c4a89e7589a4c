package watch

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func run(t *testing.T, line string) {
	t.Helper()
	f := strings.Fields(line)
	if err := nstest.Run(f[0], f[1:]...); err != nil {
		t.Fatal(err)
	}
}

// tunnels are some with many peers.
func tunnels() (all []firewall.Tunnel) {
	for vni := range 4 {
		t := firewall.Tunnel{Device: fmt.Sprint("vxlan", vni+1), Bridge: fmt.Sprint("overlay", vni+1), Port: 4789, VNI: vni + 1}
		for i := range 5000 {
			block := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(20 + vni), byte(i >> 8), byte(i)}), 24)
			t.Peers = append(t.Peers, firewall.VTEP{Address: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), Blocks: []netip.Prefix{block}})
		}
		all = append(all, t)
	}
	return all
}

// TestRules: damage is told soon, and nothing else is.
func TestRules(t *testing.T) {
	nstest.Host(t)
	ctx, cancel := context.WithCancel(t.Context())
	damaged, err := Rules(ctx)
	if err != nil {
		t.Fatal(err)
	}
	told := func() bool {
		select {
		case _, ok := <-damaged:
			return ok
		case <-time.After(100 * time.Millisecond):
			return false
		}
	}
	r := &firewall.Rules{Backend: firewall.NFTables, Bridge: "br1", Masquerade: true}
	a := &attach.Attachment{Key: attach.Key{Network: "web", Container: "a", IfName: "eth0"}, Steps: []attach.Step{r},
		Addresses: []attach.Address{{Prefix: netip.MustParsePrefix("10.1.0.2/24")}}, Ports: []attach.Port{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}}}
	for what, do := range map[string]func() error{
		"a container comes": func() error { return r.Add(t.Context(), &attach.Adding{Attachment: a}) },
		"a container goes":  func() error { return r.Del(t.Context(), a) },
		"tunnels come":      func() error { return firewall.SyncTunnels(t.Context(), firewall.NFTables, tunnels(), nil) },
		"tunnels go":        func() error { return firewall.SyncTunnels(t.Context(), firewall.NFTables, nil, nil) },
		"others": func() error {
			for _, line := range []string{"nft add table inet other", "nft add set inet other bridges { type ifname; }", "nft delete table inet other"} {
				run(t, line)
			}
			return nil
		},
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
		if told() {
			t.Errorf("%s: told of damage", what)
		}
	}
	for _, damage := range []string{
		"nft flush ruleset", "nft delete table inet berth", "nft flush table inet berth",
		"nft flush chain inet berth input", "nft delete chain inet berth input",
	} {
		if err := firewall.SyncTunnels(t.Context(), firewall.NFTables, nil, nil); err != nil {
			t.Fatal(err)
		}
		told() // that a damaged table was replaced
		run(t, damage)
		if !told() {
			t.Errorf("%s: not told", damage)
		}
	}
	for _, change := range []string{
		"nft add table inet firewalld", "nft delete table inet firewalld",
		"iptables-nft -P FORWARD DROP", "ip6tables-nft -P INPUT DROP", "iptables-nft -F", "ip6tables-nft -D INPUT -j ACCEPT",
	} {
		if strings.HasPrefix(change, "iptables-nft -F") {
			run(t, "iptables-nft -A FORWARD -i br1 -j ACCEPT")
		}
		if strings.Contains(change, "-D INPUT") {
			run(t, "ip6tables-nft -A INPUT -j ACCEPT")
		}
		for told() {
		}
		run(t, change)
		if !told() {
			t.Errorf("%s: not told", change)
		}
	}
	cancel()
	select {
	case _, ok := <-damaged:
		if ok {
			t.Error("told of damage at the end")
		}
	case <-time.After(5 * time.Second):
		t.Error("the channel is not closed")
	}
}
