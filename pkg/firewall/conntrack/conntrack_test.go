package conntrack

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"github.com/berth-cni/berth/pkg/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func run(t *testing.T, line string) string {
	t.Helper()
	f := strings.Fields(line)
	out, err := nstest.Output(f[0], f[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

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
	flows := func(gone bool) []Flows {
		here, to4, to6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("fd00:1::2")
		return []Flows{{"udp", 17, here, 53, to4, gone}, {"udp", 17, netip.IPv4Unspecified(), 8053, to4, gone}, {"udp", 17, netip.IPv6Unspecified(), 8053, to6, gone}}
	}
	for _, how := range []struct {
		name   string
		forget func(*nftnl.Socket, []Flows) error
	}{{"kernel", Forget}, {"listed", forgetListed}} {
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
				s, err := nftnl.Dial()
				if err != nil {
					t.Fatal(err)
				}
				if err := how.forget(s, flows(gone)); err != nil {
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

// TestCount counts a connection once for each address of it.
func TestCount(t *testing.T) {
	nstest.Host(t)
	for _, spec := range []string{
		"-p udp -s 10.1.0.2 -d 10.1.0.3 --sport 1000 --dport 53",
		"-p udp -s 10.1.0.2 -d 203.0.113.1 --sport 1001 --dport 53 --src-nat 192.0.2.1",
		"-p udp -s 192.0.2.2 -d 192.0.2.1 --sport 1002 --dport 53 --dst-nat 10.1.0.2",
		"-p udp -s 2001:db8::2 -d 2001:db8::1 --sport 1003 --dport 53",
	} {
		run(t, "conntrack -I -t 600 "+spec)
	}
	got, err := Count()
	if err != nil {
		t.Fatal(err)
	}
	for a, want := range map[string]int{"10.1.0.2": 3, "10.1.0.3": 1, "203.0.113.1": 1, "192.0.2.1": 1, "192.0.2.2": 1, "2001:db8::2": 1, "192.0.2.9": 0} {
		if n := got[netip.MustParseAddr(a)]; n != want {
			t.Errorf("%s: %d, want %d", a, n, want)
		}
	}
}
