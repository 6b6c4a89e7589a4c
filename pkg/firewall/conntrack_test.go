package firewall

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/nstest"
)

// TestForget fills the kernel's table and looks which flows are left.
func TestForget(t *testing.T) {
	type flow struct {
		spec      string
		add, gone bool // forgotten when the container comes, when it goes
	}
	// Published: UDP 53 on 192.0.2.1 and 8053 on all addresses, to 10.1.0.2.
	flows4 := []flow{
		{"-p udp -s 192.0.2.2 -d 192.0.2.1 --sport 1000 --dport 53", true, false},
		{"-p udp -s 192.0.2.2 -d 192.0.2.1 --sport 1001 --dport 53 --dst-nat 10.1.0.2", true, true},
		{"-p udp -s 192.0.2.2 -d 192.0.2.1 --sport 1002 --dport 53 --dst-nat 10.1.0.9", true, false},
		{"-p udp -s 10.1.0.3 -d 192.0.2.1 --sport 1003 --dport 53 --dst-nat 10.1.0.2 --src-nat 10.1.0.1", false, true},
		{"-p udp -s 192.0.2.2 -d 192.0.2.9 --sport 1004 --dport 53", false, false},
		{"-p udp -s 192.0.2.2 -d 192.0.2.9 --sport 1005 --dport 8053", true, false},
		{"-p udp -s 10.1.0.2 -d 203.0.113.1 --sport 1006 --dport 8053 --src-nat 192.0.2.1", false, false},
		{"-p udp -s 192.0.2.2 -d 192.0.2.9 --sport 1007 --dport 8053 --dst-nat 10.1.0.2", true, true},
		{"-p udp -s 192.0.2.2 -d 192.0.2.1 --sport 1008 --dport 80", false, false},
		{"-p udp -s 192.0.2.1 -d 192.0.2.2 --sport 53 --dport 1009", false, false},
		{"-p tcp -s 192.0.2.2 -d 192.0.2.1 --sport 1010 --dport 53 --state ESTABLISHED", false, false},
	}
	flows6 := []flow{
		{"-p udp -s 2001:db8::2 -d 2001:db8::1 --sport 1000 --dport 8053", true, false},
		{"-p udp -s 2001:db8::2 -d 2001:db8::1 --sport 1001 --dport 8053 --dst-nat fd00:1::2", true, true},
		{"-p udp -s 2001:db8::2 -d 2001:db8::1 --sport 1002 --dport 53", false, false},
	}
	a := attachment("a", []string{"10.1.0.2/24", "fd00:1::2/64"},
		attach.Port{HostPort: 53, ContainerPort: 53, Protocol: "udp", HostIP: netip.MustParseAddr("192.0.2.1")},
		attach.Port{HostPort: 8053, ContainerPort: 53, Protocol: "udp"},
		attach.Port{HostPort: 53, ContainerPort: 53, Protocol: "tcp"})
	for _, how := range []struct {
		name   string
		forget func(*socket, []flows) error
	}{{"kernel", (*socket).forget}, {"listed", (*socket).forgetListed}} {
		for _, gone := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/gone=%v", how.name, gone), func(t *testing.T) {
				nstest.Host(t)
				var want []string
				for _, f := range append(slices.Clone(flows4), flows6...) {
					run(t, "conntrack -I -t 100 -u SEEN_REPLY "+f.spec)
					if gone && !f.gone || !gone && !f.add {
						want = append(want, f.spec)
					}
				}
				s, err := dial()
				if err != nil {
					t.Fatal(err)
				}
				if err := how.forget(s, staleFlows(a, gone)); err != nil {
					t.Fatal(err)
				}
				left := run(t, "conntrack -L -f ipv4") + run(t, "conntrack -L -f ipv6")
				for _, f := range append(slices.Clone(flows4), flows6...) {
					w := strings.Fields(f.spec[strings.Index(f.spec, "-s "):])
					entry := fmt.Sprintf("src=%s dst=%s sport=%s dport=%s ", w[1], w[3], w[5], w[7])
					if got, want := strings.Contains(left, entry), slices.Contains(want, f.spec); got != want {
						t.Errorf("%s: left %v, want %v", f.spec, got, want)
					}
				}
			})
		}
	}
}

// TestFlowFollows has one UDP client that keeps its port while containers come
// and go.
func TestFlowFollows(t *testing.T) {
	for _, backend := range []string{NFTables, IPTables} {
		t.Run(backend, func(t *testing.T) {
			l := newLab(t, backend, false)
			r := l.network(1)
			var client, local net.Conn
			nstest.In(t, l.ns["out"], func() { client, _ = net.Dial("udp", "192.0.2.1:8080") })
			local, _ = net.Dial("udp", "127.0.0.1:8080")
			defer client.Close()
			defer local.Close()
			ask := func(want string) {
				t.Helper()
				for _, c := range []net.Conn{client, local} {
					// An earlier refusal may still wait in the socket, and is the
					// first thing a read returns.
					talk(c, 20*time.Millisecond)
					got := talk(c, 150*time.Millisecond)
					if name, _, _ := strings.Cut(got, " "); name != want {
						t.Errorf("answer %q, want one of %q", got, want)
					}
				}
			}
			ask(noAnswer)
			port := attach.Port{HostPort: 8080, ContainerPort: 80, Protocol: "udp"}
			a := l.container("a", r, 2, port)
			ask("a")
			if err := r.Del(context.Background(), a); err != nil {
				t.Fatal(err)
			}
			ask(noAnswer)
			l.container("b", r, 3, port)
			ask("b")
		})
	}
}
