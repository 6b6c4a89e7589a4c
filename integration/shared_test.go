package integration

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/sandbox"
)

// damages are what somebody else does to what the containers of a host share, after
// they were added.
var damages = []struct{ name, script string }{
	{"FORWARD drops", "iptables-nft -P FORWARD DROP\nip6tables-nft -P FORWARD DROP"},
	{"FORWARD drops, legacy", "iptables-legacy -P FORWARD DROP\nip6tables-legacy -P FORWARD DROP"},
	{"FORWARD is flushed", "iptables-nft -P FORWARD DROP\nip6tables-nft -P FORWARD DROP\niptables-nft -F FORWARD\nip6tables-nft -F FORWARD"},
	{"the table is flushed", "nft flush ruleset"},
	{"bridge deleted", "ip link del berth0"},
	{"bridge down", "ip link set berth0 down"},
	{"addresses flushed", "ip addr flush dev berth0 scope global"},
	{"route gone", "ip route del 10.88.0.0/16"},
	{"IPv6 route gone", "ip -6 route del fd00:88::/64 dev berth0"},
	{"forwarding off", "sysctl -qw net.ipv4.ip_forward=0\nsysctl -qw net.ipv6.conf.all.forwarding=0"},
	{"route_localnet off", "sysctl -qw net.ipv4.conf.berth0.route_localnet=0"},
	{"IPv6 off", "sysctl -qw net.ipv6.conf.berth0.disable_ipv6=1"},
}

// TestSharedIsLookedAfter: whatever somebody does to it, CHECK and the doctor say so,
// and the next ADD, a reload, the doctor and an agent each put it back for the containers
// that are there and for new ones.
func TestSharedIsLookedAfter(t *testing.T) {
	t.Parallel()
	for _, backend := range []string{"nftables", "iptables"} {
		for _, d := range damages {
			for _, by := range []string{"ADD", "reload", "doctor", "agent"} {
				if backend == "iptables" && (d.name == "the table is flushed" || by == "doctor") {
					continue // what is each container's is a reload's, and doctor's --fix is that
				}
				if backend == "nftables" && d.name == "the table is flushed" && by == "ADD" {
					continue // TestFlushed has it
				}
				t.Run(backend+", "+d.name+", "+by, func(t *testing.T) {
					t.Parallel()
					sharedIsLookedAfter(t, backend, d.script, by)
				})
			}
		}
	}
}

func sharedIsLookedAfter(t *testing.T, backend, damage, by string) {
	b := newBed(t)
	n := b.network(with(bridge, `"firewallBackend": "`+backend+`"`))
	one := b.container("one")
	_, addr := b.add(n, one, tcpPort(8080, 80))
	serve(t, one, ":80")
	serve(t, b.outside, ":7000")
	works := func(c *sandbox.Container) error {
		for _, ask := range []struct {
			who interface{ Ask(string) (string, error) }
			at  string
		}{
			{c, sandbox.OutsideAddr4 + ":7000"}, {c, "[" + sandbox.OutsideAddr6 + "]:7000"},
			{b.outside, sandbox.HostAddr4 + ":8080"}, {b.outside, "[" + sandbox.HostAddr6 + "]:8080"},
			{b, "127.0.0.1:8080"}, {b, addr + ":80"},
		} {
			if _, err := ask.who.Ask(ask.at); err != nil {
				return fmt.Errorf("ask %s: %w", ask.at, err)
			}
		}
		return nil
	}
	b.soon(func() error { return works(one) })
	must(t, n.Check(one, tcpPort(8080, 80)))
	if by == "agent" {
		b.agent()
	}
	must(t, b.Script(damage))
	berth := func(args ...string) (string, error) {
		return b.Output(filepath.Join(b.bin, "berth"), args...)
	}
	if by != "agent" {
		if err := n.Check(one, tcpPort(8080, 80)); err == nil {
			t.Error("CHECK finds all in order")
		}
		if out, err := berth("doctor"); err == nil {
			t.Errorf("the doctor finds all in order:\n%s", out)
		}
	}
	switch by {
	case "reload":
		out, err := berth("reload")
		t.Log(out)
		must(t, err)
	case "doctor":
		out, err := berth("doctor", "--fix")
		t.Log(out)
		must(t, err)
	case "agent":
		b.soon(func() error { return works(one) })
	}
	two := b.container("two")
	_, err := n.Add(two, tcpPort(8081, 80))
	must(t, err)
	b.soon(func() error { return works(one) }) // nobody but the one that is tested puts anything back
	b.soon(func() error { return works(two) })
	must(t, n.Check(one, tcpPort(8080, 80)))
	if out, err := berth("doctor"); err != nil {
		t.Errorf("the doctor: %v\n%s", err, out)
	}
}

// soon waits until there is no error any more.
func (b *bed) soon(try func() error) {
	b.t.Helper()
	var err error
	for range 300 {
		if err = try(); err == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	b.t.Fatalf("still: %v", err)
}
