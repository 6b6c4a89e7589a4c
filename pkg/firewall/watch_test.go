package firewall

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/nstest"
)

// TestWatch: damage is told soon, and nothing else is.
func TestWatch(t *testing.T) {
	nstest.Host(t)
	ctx, cancel := context.WithCancel(t.Context())
	damaged, err := Watch(ctx)
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
	r := &Rules{Backend: NFTables, Bridge: "br1", Masquerade: true}
	a := benchAttachment(1, r)
	for what, do := range map[string]func() error{
		"a container comes": func() error { return r.Add(t.Context(), &attach.Adding{Attachment: a}) },
		"a container goes":  func() error { return r.Del(t.Context(), a) },
		"tunnels come":      func() error { return SyncTunnels(t.Context(), NFTables, manyPeers(), nil) },
		"tunnels go":        func() error { return SyncTunnels(t.Context(), NFTables, nil, nil) },
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
		if err := SyncTunnels(t.Context(), NFTables, nil, nil); err != nil {
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
