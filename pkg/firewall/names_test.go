package firewall

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/nstest"
)

// TestQuestions: what containers ask of their network's gateway gets to the agent; what they
// ask of another address of the host, of the same interface too, gets to the host's own
// server there, or to the container that publishes the port.
func TestQuestions(t *testing.T) {
	for _, backend := range []string{NFTables, IPTables} {
		t.Run(backend, func(t *testing.T) {
			t.Setenv(attach.DirEnv, t.TempDir())
			l := newLab(t, backend, false)
			r := l.network(1)
			r.Names = true
			l.ip("addr add 10.1.0.77/24 dev br1")
			l.ip("addr add fd00:1::77/64 dev br1 nodad")
			l.container("a", r, 2)
			mute := l.network(2)
			l.container("m", mute, 2)
			l.bind("10.1.0.1", "10.1.0.77", "10.2.0.1", "192.0.2.1", "fd00:1::1", "fd00:1::77", "2001:db8:a::1")
			serve(t, "agent", ":10053")
			serve(t, "moved", ":4711")
			ask := func(agent string) {
				t.Helper()
				for _, network := range []string{"udp", "tcp"} {
					for _, c := range []struct{ from, to, want string }{
						{"a", "10.1.0.1:53", agent + " saw 10.1.0.2"}, {"a", "[fd00:1::1]:53", agent + " saw fd00:1::2"},
						{"a", "10.1.0.77:53", "bind saw 10.1.0.2"}, {"a", "[fd00:1::77]:53", "bind saw fd00:1::2"},
						{"a", "192.0.2.1:53", "bind saw 10.1.0.2"}, {"a", "[2001:db8:a::1]:53", "bind saw fd00:1::2"},
						{"a", "10.2.0.1:53", "bind saw 10.1.0.2"}, {"m", "10.1.0.1:53", "bind saw 10.2.0.2"}, {"m", "10.2.0.1:53", "bind saw 10.2.0.2"},
						{"out", "192.0.2.1:53", "bind saw 192.0.2.2"},
					} {
						l.expectSoon("names", c.from, network, c.to, c.want)
					}
				}
				l.answers()
			}
			ask("agent")
			move := func(port uint16) {
				t.Helper()
				if err := MoveNames(port); err != nil {
					t.Fatal(err)
				}
			}
			if backend == IPTables {
				refuseMove(t, 4711)
			}
			move(4711)
			ask("moved")
			if err := Rebuild(t.Context(), func(context.Context) ([]*attach.Attachment, error) { return l.made, nil }); err != nil {
				t.Fatal(err)
			}
			ask("moved")
			for _, a := range l.made {
				if err := RulesOf(a).Check(t.Context(), a); err != nil {
					t.Error(err)
				}
			}
			l.container("b", r, 3) // one that comes afterwards
			l.expect("names", "b", "udp", "10.1.0.1:53", "moved saw 10.1.0.3")
			move(10053)
			ask("agent")

			published := attach.Port{HostPort: 53, ContainerPort: 80, Protocol: "udp", HostIP: netip.MustParseAddr("192.0.2.1")}
			l.container("dns", r, 4, published)
			l.expect("a published port", "a", "udp", "192.0.2.1:53", "dns saw 10.1.0.1")
			l.expect("a published port", "a", "udp", "10.1.0.1:53", "agent saw 10.1.0.2")

			for _, a := range l.made {
				if err := RulesOf(a).Del(t.Context(), a); err != nil {
					t.Error(err)
				}
			}
			if err := RemoveNetwork(t.Context(), backend, "br1"); err != nil {
				t.Error(err)
			}
			if left := held(t); strings.Contains(left, "br1") || strings.Contains(left, "4711") {
				t.Errorf("left:\n%s", left)
			}
		})
	}
}

// refuseMove has iptables fail as the redirection is to lead to another port: it does not
// count as moved.
func refuseMove(t *testing.T, port uint16) {
	t.Helper()
	real, err := exec.LookPath("iptables")
	if err != nil {
		t.Fatal(err)
	}
	dir, path := t.TempDir(), os.Getenv("PATH")
	script := "#!/bin/sh\ncase \"$*\" in *\" -A \"*REDIRECT*|*\" -I \"*REDIRECT*) exit 4;; esac\nexec " + real + " \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "iptables"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+path)
	if err := MoveNames(port); err == nil || answerPort() != 10053 {
		t.Errorf("iptables failed: %v, and the port is %d", err, answerPort())
	}
	t.Setenv("PATH", path)
}

// bind is the host's own DNS server on addresses of the host.
func (l *lab) bind(addrs ...string) {
	for _, addr := range addrs {
		serve(l.t, "bind", net.JoinHostPort(addr, "53"))
	}
}

// TestForeignBridge: the host's LAN is behind a bridge that somebody else made, whose address
// is the network's gateway as well. What the LAN asks of the host is the host's, and what
// containers ask the agent's.
func TestForeignBridge(t *testing.T) {
	for _, backend := range []string{NFTables, IPTables} {
		t.Run(backend, func(t *testing.T) {
			t.Setenv(attach.DirEnv, t.TempDir())
			l := newLab(t, backend, false)
			r := l.network(1)
			r.Names, r.Foreign = true, true
			a, b := l.container("a", r, 2), l.container("b", r, 3)
			l.node("lan", "10.1.0.9/24", "fd00:1::9/64", "10.1.0.1", "fd00:1::1")
			l.ip("link set v-lan master br1")
			l.bind("10.1.0.1", "fd00:1::1")
			serve(t, "agent", ":10053")
			ask := func(a string) {
				t.Helper()
				for _, network := range []string{"udp", "tcp"} {
					l.expectSoon("names", "a", network, "10.1.0.1:53", a+" saw 10.1.0.2")
					l.expectSoon("names", "a", network, "[fd00:1::1]:53", a+" saw fd00:1::2")
					l.expectSoon("names", "b", network, "10.1.0.1:53", "agent saw 10.1.0.3")
					l.expectSoon("names", "lan", network, "10.1.0.1:53", "bind saw 10.1.0.9")
					l.expectSoon("names", "lan", network, "[fd00:1::1]:53", "bind saw fd00:1::9")
				}
				l.answers()
			}
			ask("agent")
			for _, one := range []*attach.Attachment{a, b} {
				if err := RulesOf(one).Check(t.Context(), one); err != nil {
					t.Error(err)
				}
			}
			held, err := ListHeld(t.Context())
			if h := held[a.Hash()]; err != nil || h == nil || !h.Names || !h.Foreign {
				t.Errorf("held: %+v, %v", h, err)
			}
			if err := RulesOf(a).Del(t.Context(), a); err != nil {
				t.Error(err)
			}
			ask("bind")
		})
	}
}

// TestForeignBridgeBefore: a container of an earlier version, whose record does not say that
// somebody else made the bridge, is beside one whose record does. Both are answered, and
// neither has anything to be mended that the other's Check would find amiss.
func TestForeignBridgeBefore(t *testing.T) {
	t.Setenv(attach.DirEnv, t.TempDir())
	l := newLab(t, NFTables, false)
	r := l.network(1)
	r.Names = true
	a := l.container("a", r, 2)
	now := *r
	now.Foreign = true
	b := l.container("b", &now, 3)
	serve(t, "agent", ":10053")
	l.expectSoon("names", "a", "udp", "10.1.0.1:53", "agent saw 10.1.0.2")
	l.expectSoon("names", "b", "udp", "10.1.0.1:53", "agent saw 10.1.0.3")
	l.answers()
	for range 2 {
		for _, one := range []*attach.Attachment{a, b} {
			if err := attach.Reload(t.Context(), &attach.Adding{Attachment: one}); err != nil {
				t.Error(err)
			}
			if err := RulesOf(one).Check(t.Context(), one); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestQuestionsOfGroup: on a network without a bridge many interfaces have the gateway's
// address.
func TestQuestionsOfGroup(t *testing.T) {
	t.Setenv(attach.DirEnv, t.TempDir())
	l := newLab(t, NFTables, false)
	l.bind("192.0.2.1", "2001:db8:a::1")
	serve(t, "agent", ":10053")
	var all []*attach.Attachment
	for i, name := range []string{"a", "b"} {
		v4, v6 := "10.5.0."+string(rune('2'+i)), "fd00:5::"+string(rune('2'+i))
		l.node(name, v4+"/32", v6+"/128", "", "")
		for _, args := range []string{"addr add 10.5.0.1/32 dev v-NAME", "route add V4 dev v-NAME src 10.5.0.1", "addr add fe80::1/64 dev v-NAME nodad", "-6 route add V6 dev v-NAME",
			"-n NS route add 10.5.0.1 dev eth0", "-n NS route add default via 10.5.0.1", "-n NS -6 route add default via fe80::1 dev eth0", "link set v-NAME group 77"} {
			l.ip(strings.NewReplacer("NAME", name, "V4", v4, "V6", v6, "NS", l.id(name)).Replace(args))
		}
		a := attachment(name, []string{v4 + "/32", v6 + "/128"})
		a.Addresses[0].Gateway, a.Addresses[1].Gateway = netip.MustParseAddr("10.5.0.1"), netip.MustParseAddr("fe80::1")
		a.Steps = []attach.Step{&Rules{Backend: NFTables, Bridge: "v-" + name, Group: 77, Names: true}}
		if err := RulesOf(a).Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
			t.Fatal(err)
		}
		all = append(all, a)
	}
	for _, name := range []string{"a", "b"} {
		number := map[string]string{"a": "2", "b": "3"}[name]
		for _, network := range []string{"udp", "tcp"} {
			l.expectSoon("names", name, network, "10.5.0.1:53", "agent saw 10.5.0."+number)
			got := ""
			for end := time.Now().Add(30 * time.Second); got == "" && time.Now().Before(end); { // the container makes itself its link-local address
				got = l.ask(name, network, "[fe80::1%eth0]:53", time.Second)
			}
			if !strings.HasPrefix(got, "agent saw fe80:") {
				t.Errorf("%s by %s: %q", name, network, got)
			}
			l.expectSoon("the host's own", name, network, "192.0.2.1:53", "bind saw 10.5.0."+number)
			l.expectSoon("the host's own", name, network, "[2001:db8:a::1]:53", "bind saw fd00:5::"+number)
		}
	}
	l.answers()
	for _, a := range all {
		if err := RulesOf(a).Del(t.Context(), a); err != nil {
			t.Error(err)
		}
	}
	if left := held(t); strings.Contains(left, "v-a") || strings.Contains(left, "v-b") {
		t.Errorf("left:\n%s", left)
	}
}

// TestMoveNames: where the redirection leads is remembered where there is nothing of ours yet,
// and forgotten when it leads where it usually does.
func TestMoveNames(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(attach.DirEnv, dir)
	nstest.Host(t)
	if err := MoveNames(4711); err != nil || answerPort() != 4711 {
		t.Errorf("without a table: %d, %v", answerPort(), err)
	}
	a := on(&Rules{Backend: NFTables, Bridge: "br1", Names: true}, 1)
	if err := RulesOf(a).Add(t.Context(), &attach.Adding{Attachment: a, All: func(context.Context) ([]*attach.Attachment, error) { return []*attach.Attachment{a}, nil }}); err != nil {
		t.Fatal(err)
	}
	expect := func(want string) {
		t.Helper()
		out, err := nstest.Output("nft", "list", "map", "inet", "berth", "names_ports")
		_, elements, _ := strings.Cut(out, "elements = ")
		elements, _, _ = strings.Cut(elements, "\n")
		if err != nil || strings.TrimSpace(elements) != want {
			t.Errorf("got %q, want %q, %v", elements, want, err)
		}
	}
	expect("{ tcp : 4711, udp : 4711 }")
	for _, port := range []uint16{4712, 4712, 10053, 10053} {
		if err := MoveNames(port); err != nil {
			t.Fatal(err)
		}
		expect(map[uint16]string{4712: "{ tcp : 4712, udp : 4712 }"}[port])
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	for _, bad := range []string{"", "0", "x", "70000"} {
		if err := os.WriteFile(portFile(), []byte(bad), 0o600); err != nil || answerPort() != 10053 {
			t.Errorf("%q: %d, %v", bad, answerPort(), err)
		}
	}
}
