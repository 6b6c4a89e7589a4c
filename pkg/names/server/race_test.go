package server

import (
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestLate: an answer that comes late is one, and the query is not asked for nothing.
func TestLate(t *testing.T) {
	t.Parallel()
	u := newResolver(t, honest)
	u.takes(2 * time.Second)
	a := newAsking(t, u)
	a.expect(t, "x.test", dns.TypeA, outside)
	if !a.upstream().healthy() {
		t.Error("who has answered is a suspect")
	}
}

// TestBeside: a second server is asked beside a first one that takes its time, and what
// comes first is the answer. That is remembered: the next time nobody waits.
func TestBeside(t *testing.T) {
	t.Parallel()
	first, second := newResolver(t, honest), newResolver(t, honest)
	first.takes(1200 * time.Millisecond)
	a := newAsking(t, first, second)
	a.expect(t, "x.test", dns.TypeA, outside)
	if got := first.heard() + second.heard(); got != "x.test.x.test." {
		t.Errorf("they heard %q", got)
	}
	eventually(t, "the first one is known to be slow", func() bool { return a.upstream().isSlow() })
	runners, _ := a.resolvers.host.Load().order(netip.Addr{}, time.Now())
	if len(runners) != 2 || runners[0].upstream != a.upstream() || runners[1].after != 0 {
		t.Errorf("the next race: %+v", runners)
	}
	first.takes(0)
	eventually(t, "the first one is not slow any more", func() bool {
		a.forwarder.cache.clear()
		a.expect(t, "y.test", dns.TypeA, outside)
		return !a.upstream().isSlow()
	})
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited for nothing: %s", what)
		}
	}
}

// TestOwnServerFirst: that a name is not there is not believed of a second server while
// the first, which may know more, has its time.
func TestOwnServerFirst(t *testing.T) {
	t.Parallel()
	inside, public := newResolver(t, honest), newResolver(t, lacking)
	inside.takes(700 * time.Millisecond)
	g := newGroup([]netip.AddrPort{netip.MustParseAddrPort(inside.addr + ":53"), netip.MustParseAddrPort(public.addr + ":53")}, nil,
		func(a netip.AddrPort) *upstream { return &upstream{addr: a} })
	g.patience = time.Minute // however slow the machine is
	for _, c := range []struct {
		how  manner
		want int
	}{{honest, dns.RcodeSuccess}, {honest, dns.RcodeSuccess}, {unwilling, dns.RcodeNameError}, {dead, dns.RcodeNameError}} {
		inside.be(c.how)
		r, err := g.ask(t.Context(), newExchanger(), question("x.test", dns.TypeA), netip.Addr{})
		if err != nil || r.rcode != c.want {
			t.Errorf("%s: %+v, %v", c.how, r, err)
		}
	}
}

// TestStub: the servers behind systemd-resolved's stub are asked only when it cannot be
// reached: it knows which one is to be asked.
func TestStub(t *testing.T) {
	t.Parallel()
	stub, flat := newResolverAt(t, "127.0.0.53", honest), newResolver(t, lacking)
	br := bridge(t, "10.6.0.1/24")
	a := asking{container(t, br, "10.6.0.2/24"), start(t, Config{ResolvConf: resolvConfWith(t, stub.addr)}, func(s *Server) {
		s.resolvers.resolved = resolvConfWith(t, flat.addr)
	}), br}
	put(t, a.Server, entry("net", "me", "eth0", br, "me", "10.6.0.2/24"))
	runners, _ := a.resolvers.host.Load().order(netip.Addr{}, time.Now())
	if len(runners) != 2 || runners[1].after != tryTime || !runners[1].behind {
		t.Errorf("the race: %+v", runners)
	}
	stub.be(unwilling)
	a.expect(t, "y.test", dns.TypeA, "forwarded REFUSED")
	stub.be(lacking)
	a.expect(t, "z.test", dns.TypeA, "forwarded NXDOMAIN")
	if got := flat.heard(); got != "" {
		t.Errorf("the server behind heard %q", got)
	}
	flat.be(honest)
	stub.be(dead)
	a.expect(t, "dead.test", dns.TypeA, outside)
	if got := flat.heard(); got != "dead.test." {
		t.Errorf("the server behind heard %q", got)
	}
}
