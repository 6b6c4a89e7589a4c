package server

import (
	"fmt"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/miekg/dns"
)

// asking is a container of a network whose server has upstreams.
type asking struct {
	box
	*Server
	br string
}

func newAsking(t testing.TB, upstreams ...*resolver) asking {
	t.Helper()
	var addrs []string
	for _, u := range upstreams {
		addrs = append(addrs, u.addr)
	}
	br := bridge(t, "10.6.0.1/24")
	a := asking{container(t, br, "10.6.0.2/24"), start(t, Config{ResolvConf: resolvConfWith(t, addrs...)}), br}
	put(t, a.Server, entry("net", "me", "eth0", br, "me", "10.6.0.2/24"))
	return a
}

func (a asking) expect(t *testing.T, name string, qtype uint16, want string) {
	t.Helper()
	if got := a.ask(t, "10.6.0.1", name, qtype); got != want {
		t.Errorf("%s: got %q, want %q", name, got, want)
	}
}

const outside = "forwarded NOERROR 192.0.2.7"

func TestForward(t *testing.T) {
	u := newResolver(t, honest)
	a := newAsking(t, u)
	q := question("WwW.example.test", dns.TypeA)
	q.SetEdns0(1232, true)
	r := a.exchange(t, "udp", gateway("10.6.0.1"), q)
	if r.Authoritative || !r.RecursionAvailable || r.Question[0].Name != "WwW.example.test." || r.IsEdns0() == nil || !r.IsEdns0().Do() || text(r) != outside {
		t.Errorf("got %v", r)
	}
	if got := u.heard(); got != "edns:www.example.test." {
		t.Errorf("the upstream heard %q", got)
	}
	// From the cache, for one who has not the same letters, but for one who wants
	// DNSSEC's records, or not.
	q.Question[0].Name = "www.EXAMPLE.test."
	if r := a.exchange(t, "tcp", gateway("10.6.0.1"), q); r.Question[0] != q.Question[0] || text(r) != outside || u.heard() != "" {
		t.Errorf("from the cache: %v", r)
	}
	a.expect(t, "www.example.test", dns.TypeA, outside)
	a.expect(t, "www.example.test", dns.TypeAAAA, "forwarded NOERROR")
	a.expect(t, "www.example.test", dns.TypeAAAA, "forwarded NOERROR")
	a.expect(t, "x.lack.test", dns.TypeA, "forwarded NXDOMAIN")
	a.expect(t, "x.lack.test", dns.TypeA, "forwarded NXDOMAIN")
	if got := u.heard(); got != "www.example.test. www.example.test. x.lack.test." {
		t.Errorf("the upstream heard %q", got)
	}
	// Names with all sorts of bytes.
	a.expect(t, `a\.b\000\255\".example.test`, dns.TypeA, outside)
	// What a resolver asks that validates, but not what a container might be called.
	a.expect(t, "test", dns.TypeDS, "forwarded NOERROR")
	a.expect(t, ".", dns.TypeNS, "forwarded NOERROR")
	a.expect(t, "9.9.9.9.in-addr.arpa", dns.TypePTR, "forwarded NOERROR")
	a.expect(t, "example.test", dns.TypeANY, `forwarded NOERROR "RFC8482" ""`)
}

// TestNothingLeaks: no question about a network's own names goes upstream
// (CVE-2025-8283).
func TestNothingLeaks(t *testing.T) {
	u := newResolver(t, honest)
	a := newAsking(t, u)
	for _, name := range []string{"me", "nobody", "me.net", "nobody.net", "a.b.nobody.net", "net", "77.0.6.10.in-addr.arpa", "2.0.6.10.in-addr.arpa", "localhost"} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeMX, dns.TypePTR, dns.TypeANY, dns.TypeSRV} {
			a.ask(t, "10.6.0.1", name, qtype)
		}
	}
	if got := u.heard(); got != "" {
		t.Errorf("the upstream heard %q", got)
	}
	a.expect(t, "nobody.example", dns.TypeA, outside)
}

func TestTTL(t *testing.T) {
	u := newResolver(t, honest)
	u.ttl = 2
	a := newAsking(t, u)
	q := question("x.test", dns.TypeA)
	for _, want := range []uint32{2, 1, 2} {
		if got := a.exchange(t, "udp", gateway("10.6.0.1"), q).Answer[0].Header().Ttl; got != want {
			t.Errorf("TTL %d, want %d", got, want)
		}
		time.Sleep(1050 * time.Millisecond)
	}
	if got := u.heard(); got != "x.test. x.test." {
		t.Errorf("the upstream heard %q", got)
	}
	u.be(bare)
	a.expect(t, "y.test", dns.TypeA, "forwarded NXDOMAIN")
	a.expect(t, "y.test", dns.TypeA, "forwarded NXDOMAIN")
	if got := u.heard(); got != "y.test. y.test." {
		t.Errorf("what is not to be kept was: %q", got)
	}
}

// TestFailover: a server that is dead, lies or refuses costs the first query time, and
// not the others.
func TestFailover(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		how   manner
		first time.Duration
	}{{dead, 2 * totalTime}, {lying, 2 * totalTime}, {unwilling, totalTime}} {
		t.Run(string(c.how), func(t *testing.T) {
			bad, good := newResolver(t, c.how), newResolver(t, honest)
			a := newAsking(t, bad, good)
			began := time.Now()
			a.expect(t, "first.test", dns.TypeA, outside)
			if d := time.Since(began); d > c.first {
				t.Errorf("the first query took %s", d)
			}
			began = time.Now()
			for i := range 20 {
				a.expect(t, fmt.Sprintf("n%d.test", i), dns.TypeA, outside)
			}
			if d := time.Since(began); d > 10*tryTime { // each would cost one with the bad server
				t.Errorf("the next 20 took %s", d)
			}
			if c.how == unwilling {
				return
			}
			// It comes back when it answers.
			bad.be(honest)
			bad.heard()
			u := a.resolvers.host.Load().servers[0]
			u.mu.Lock()
			u.suspect = time.Now().Add(-time.Second)
			u.mu.Unlock()
			a.expect(t, "probe.test", dns.TypeA, outside)
			for range 100 {
				if u.healthy() {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Error("a server that answers again is not trusted")
		})
	}
}

func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	a := newAsking(t, newResolver(t, dead))
	began := time.Now()
	a.expect(t, "x.test", dns.TypeA, "forwarded SERVFAIL")
	if d := time.Since(began); d < 4*time.Second || d > 4*totalTime {
		t.Errorf("it took %s", d)
	}
	began = time.Now()
	a.expect(t, "x.test", dns.TypeA, "forwarded SERVFAIL")
	if d := time.Since(began); d >= totalTime {
		t.Errorf("a failure is not remembered: %s", d)
	}
}

func TestNoServer(t *testing.T) {
	a := newAsking(t, &resolver{addr: "127.9.9.9"}) // nobody listens: the kernel says so
	began := time.Now()
	a.expect(t, "x.test", dns.TypeA, "forwarded SERVFAIL")
	if d := time.Since(began); d >= totalTime { // what it takes when nobody says so
		t.Errorf("it took %s", d)
	}
}

// TestLong: an answer that UDP does not hold is had by TCP, from upstream and by the
// client.
func TestLong(t *testing.T) {
	u := newResolver(t, cutting)
	a := newAsking(t, u)
	r := a.exchange(t, "udp", gateway("10.6.0.1"), question("x.test", dns.TypeTXT))
	if !r.Truncated || len(r.Answer) != (512-24)/213 || len(r.Question) != 1 {
		t.Errorf("by UDP: %v", r)
	}
	r = a.exchange(t, "tcp", gateway("10.6.0.1"), question("x.test", dns.TypeTXT))
	if r.Truncated || len(r.Answer) != 10 {
		t.Errorf("by TCP: %v", r)
	}
	if got := u.heard(); got != "x.test. tcp:x.test." {
		t.Errorf("the upstream heard %q", got)
	}
	u.be(cut)
	if r := a.exchange(t, "udp", gateway("10.6.0.1"), question("z.test", dns.TypeA)); !r.Truncated || r.Rcode != dns.RcodeSuccess {
		t.Errorf("of a server without TCP: %v", r)
	}
	u.be(old)
	q := question("y.test", dns.TypeA)
	q.SetEdns0(1232, false)
	if got := text(a.exchange(t, "udp", gateway("10.6.0.1"), q)); got != outside {
		t.Errorf("of a server without EDNS: %s", got)
	}
}

// TestInternal: an internal network has no way out by DNS (CVE-2024-29018), unless it
// has upstreams of its own.
func TestInternal(t *testing.T) {
	u, own := newResolver(t, honest), newResolver(t, honest)
	a := newAsking(t, u)
	e := entry("net", "me", "eth0", a.br, "me", "10.6.0.2/24")
	e.Internal = true
	put(t, a.Server, e)
	a.expect(t, "secret.evil.test", dns.TypeA, "forwarded NXDOMAIN")
	a.expect(t, "secret.evil.test", dns.TypeANY, "forwarded NXDOMAIN")
	a.expect(t, "evil", dns.TypeDS, "forwarded NXDOMAIN")
	a.expect(t, "me", dns.TypeA, "NOERROR 10.6.0.2")
	e.Upstreams = addrs(own.addr)
	put(t, a.Server, e)
	a.expect(t, "x.test", dns.TypeA, outside)
	if got := own.heard(); got != "x.test." {
		t.Errorf("its own upstream heard %q", got)
	}
	if got := u.heard(); got != "" {
		t.Errorf("the host's upstream heard %q", got)
	}
	// A container that has another network, too, may ask by that one.
	br := bridge(t, "10.7.0.1/24")
	e.Upstreams = nil
	put(t, a.Server, e, entry("open", "me", "eth1", br, "me", "10.7.0.2/24"))
	a.expect(t, "z.test", dns.TypeA, outside)
	if got := u.heard(); got != "z.test." {
		t.Errorf("the host's upstream heard %q", got)
	}
}

// TestLoop: a query is not sent to ourselves, nor back to a resolver in a container
// that has asked.
func TestLoop(t *testing.T) {
	u := newResolver(t, honest)
	a := newAsking(t, &resolver{addr: "10.6.0.1"}, &resolver{addr: "10.6.0.2"}, u)
	a.Server.sweep(nil) // which sees the bridge
	if got := a.Status().Upstreams; len(got) != 2 || got[0] != "10.6.0.2" {
		t.Errorf("upstreams: %v", got)
	}
	began := time.Now()
	a.expect(t, "x.test", dns.TypeA, outside)
	if d := time.Since(began); d >= totalTime { // what it takes when nobody says so
		t.Errorf("it took %s", d)
	}
}

// TestHostResolvers: the host's file is read again when it changes, and what others
// have answered is forgotten.
func TestHostResolvers(t *testing.T) {
	first, second := newResolver(t, honest), newResolver(t, unwilling)
	file := resolvConfWith(t, first.addr)
	br := bridge(t, "10.6.0.1/24")
	a := asking{container(t, br, "10.6.0.2/24"), start(t, Config{ResolvConf: file}), br}
	put(t, a.Server, entry("net", "me", "eth0", br, "me", "10.6.0.2/24"))
	a.expect(t, "x.test", dns.TypeA, outside)
	// As editors and DHCP clients do it.
	writeResolvers(t, file+".new", second.addr)
	if err := nstest.Run("mv", file+".new", file); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if a.ask(t, "10.6.0.1", "x.test", dns.TypeA) == "forwarded REFUSED" {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("the change was not seen")
}
