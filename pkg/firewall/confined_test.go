package firewall

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/nstest"
)

// TestConfined has addresses of an encrypted network where they do not belong: behind a
// link of the host that does not encrypt. Nothing goes there, nor comes from there; by the
// network's own devices it does. In Docker's encrypted overlay what came in without
// encryption was accepted (CVE-2023-28840, CVE-2023-28842).
func TestConfined(t *testing.T) {
	for _, brNetfilter := range []bool{false, true} {
		l := newLab(t, NFTables, brNetfilter)
		c := Confined{Device: "wg41", Bridge: "overlay41", Subnets: []netip.Prefix{netip.MustParsePrefix("10.41.0.0/17"), netip.MustParsePrefix("fd00:41::/49")}}
		l.outside("wrong", "203.0.113", "2001:db8:c")
		for _, a := range []string{"10.41.7.2", "10.41.128.2", "fd00:41:0:7::2", "fd00:41:0:8000::2"} {
			l.ip("-n " + l.id("wrong") + " addr add " + a + " dev eth0 ")
		}
		for _, route := range []string{"10.41.0.0/16 via 203.0.113.2", "fd00:41::/48 via 2001:db8:c::2"} {
			l.ip("route add " + route)
		}
		reached := func(what string, in, beside bool) {
			t.Helper()
			for to, want := range map[string]bool{"10.41.7.2": in, "[fd00:41:0:7::2]": in, "10.41.128.2": beside, "[fd00:41:0:8000::2]": beside} {
				answer := noAnswer
				if want {
					answer = "wrong saw " + map[bool]string{true: "203.0.113.1", false: "2001:db8:c::1"}[to[0] == '1']
				}
				l.expect(what, "host", "tcp", to+":80", answer)
				if want {
					answer = "wrong saw " + map[bool]string{true: "192.0.2.2", false: "2001:db8:a::2"}[to[0] == '1']
				}
				l.expect(what+", forwarded", "out", "tcp", to+":80", answer)
			}
		}
		reached("not confined", true, true)
		sync := func(all ...Confined) {
			t.Helper()
			for range 2 {
				if err := SyncConfined(t.Context(), all); err != nil {
					t.Fatal(err)
				}
			}
		}
		sync(c)
		reached("confined", false, true)
		l.ip("link set v-wrong down")
		l.ip("link set v-wrong name overlay41")
		l.ip("link set overlay41 up")
		l.ip("addr replace 2001:db8:c::1/64 dev overlay41 nodad")
		for _, route := range []string{"10.41.0.0/16 via 203.0.113.2", "fd00:41::/48 via 2001:db8:c::2"} {
			l.ip("route replace " + route)
		}
		reached("by its bridge", true, true)
		other := c
		other.Bridge = "overlay43"
		sync(other)
		reached("by another bridge", false, true)
		if err := c.Check(t.Context(), nil); err == nil {
			t.Error("CHECK passes with the rules of another bridge")
		}
		if err := other.Check(t.Context(), nil); err != nil {
			t.Error(err)
		}
		l.nft("flush table inet " + confinedPrefix + "wg41")
		if err := other.Check(t.Context(), nil); err == nil {
			t.Error("CHECK passes without rules")
		}
		reached("flushed", true, true)
		if err := other.Add(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		reached("put back", false, true)
		one := c
		one.Device, one.Bridge = "wg9", "overlay9"
		sync(one, c)
		if out, _ := nstest.Output("nft", "list", "tables"); strings.Count(out, confinedPrefix) != 2 {
			t.Errorf("tables of two networks:\n%s", out)
		}
		sync()
		reached("no more", true, true)
		if out, _ := nstest.Output("nft", "list", "tables"); strings.Contains(out, confinedPrefix) {
			t.Errorf("left:\n%s", out)
		}
	}
}

// TestConfinedReceives has a stranger send from addresses of an encrypted network, without
// encryption.
func TestConfinedReceives(t *testing.T) {
	l := newLab(t, NFTables, false)
	serve(t, "host", ":7000")
	from := func(addr, to, want string) {
		t.Helper()
		nstest.In(t, l.ns["out"], func() {
			got := ""
			d := net.Dialer{Timeout: 300 * time.Millisecond, LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
			c, err := d.Dial("tcp", net.JoinHostPort(to, "7000"))
			if err == nil {
				got = talk(c, time.Second)
				c.Close()
			}
			if got != want {
				t.Errorf("from %s: %q, want %q (%v)", addr, got, want, err)
			}
		})
	}
	for _, a := range []string{"10.41.7.2/32", "fd00:41:0:7::2/128"} {
		l.ip("-n " + l.id("out") + " addr add " + a + " dev eth0")
	}
	l.ip("route add 10.41.7.2 via 192.0.2.2")
	l.ip("route add fd00:41:0:7::2 via 2001:db8:a::2")
	from("10.41.7.2", "192.0.2.1", "host saw 10.41.7.2")
	from("fd00:41:0:7::2", "2001:db8:a::1", "host saw fd00:41:0:7::2")
	c := Confined{Device: "wg41", Bridge: "overlay41", Subnets: []netip.Prefix{netip.MustParsePrefix("10.41.0.0/16"), netip.MustParsePrefix("fd00:41::/48")}}
	if err := c.Add(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	from("10.41.7.2", "192.0.2.1", "")
	from("fd00:41:0:7::2", "2001:db8:a::1", "")
}
