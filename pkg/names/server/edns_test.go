package server

import (
	"fmt"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestPlain: who asks without EDNS has upstreams asked without, whatever they make of it.
func TestPlain(t *testing.T) {
	u := newResolver(t, honest)
	a := newAsking(t, u)
	for _, how := range []manner{dropped, old, notimp, servfail, refuse, mangled, garbled, noOPT, letters} {
		u.be(how)
		a.expect(t, string(how)+"-X.test", dns.TypeA, outside)
		a.expect(t, string(how)+"-X.test", dns.TypeAAAA, "forwarded NOERROR")
		if got, want := u.heard(), fmt.Sprintf("%[1]s-x.test. %[1]s-x.test.", how); got != want {
			t.Errorf("%s: the upstream heard %q, want %q", how, got, want)
		}
	}
}

// TestEDNS: who asks with EDNS gets an answer of a server that has none, too, which is not
// asked so again.
func TestEDNS(t *testing.T) {
	for _, how := range []manner{dropped, old, notimp, servfail, refuse, mangled, garbled} {
		t.Run(string(how), func(t *testing.T) {
			u := newResolver(t, how)
			a := newAsking(t, u)
			for i := range 3 {
				q := question(fmt.Sprintf("n%d.test", i), dns.TypeA)
				q.SetEdns0(1232, i == 2)
				if r := a.exchange(t, "udp", gateway("10.6.0.1"), q); text(r) != outside || r.IsEdns0() == nil {
					t.Errorf("got %v", r)
				}
			}
			if got := u.heard(); got != "edns:n0.test. n0.test. n1.test. n2.test." {
				t.Errorf("the upstream heard %q", got)
			}
			if _, good := a.upstream().ability(time.Now()); good {
				t.Error("its EDNS is taken for good")
			}
		})
	}
	u := newResolver(t, honest)
	a := newAsking(t, u)
	for _, c := range []struct {
		how   manner
		heard string
		plain bool
	}{
		{honest, "edns:honest.test.", false},
		{servfail, "edns:servfail.test. servfail.test.", false}, // it may be for another reason
		{servfail, "edns:servfail2.test. servfail2.test.", true},
	} {
		u.be(c.how)
		name := c.heard[len("edns:"):]
		for i := range name {
			if name[i] == ' ' {
				name = name[:i]
				break
			}
		}
		q := question(name, dns.TypeA)
		q.SetEdns0(1232, false)
		if r := a.exchange(t, "udp", gateway("10.6.0.1"), q); text(r) != outside {
			t.Errorf("%s: got %v", name, r)
		}
		if got := u.heard(); got != c.heard {
			t.Errorf("the upstream heard %q, want %q", got, c.heard)
		}
		if plain, _ := a.upstream().ability(time.Now()); plain != c.plain {
			t.Errorf("%s: asked without EDNS from now on: %v", name, plain)
		}
	}
}

// upstream is the first one.
func (a asking) upstream() *upstream { return a.resolvers.host.Load().servers[0] }

// TestRefused: what a server refuses with EDNS and without is refused, as it said first.
func TestRefused(t *testing.T) {
	u := newResolver(t, unwilling)
	a := newAsking(t, u)
	q := question("x.test", dns.TypeA)
	q.SetEdns0(1232, false)
	if got := text(a.exchange(t, "udp", gateway("10.6.0.1"), q)); got != "forwarded REFUSED" {
		t.Errorf("got %q", got)
	}
	if plain, _ := a.upstream().ability(time.Now()); plain {
		t.Error("it is asked without EDNS from now on")
	}
}

// TestBig: an answer that is too long for the client carries what fits, whether or not the
// upstream has TCP; by TCP all of it.
func TestBig(t *testing.T) {
	u := newResolver(t, big)
	a := newAsking(t, u)
	fits := (512 - headerLen - len("\x03big\x04test\x00") - 4) / 16
	for range 2 { // from upstream, and from the cache
		if r := a.exchange(t, "udp", gateway("10.6.0.1"), question("big.test", dns.TypeA)); !r.Truncated || len(r.Answer) != fits {
			t.Errorf("by UDP %d of %d records: %v", len(r.Answer), fits, r.MsgHdr)
		}
	}
	q := question("big.test", dns.TypeA)
	q.SetEdns0(4096, false)
	if r := a.exchange(t, "udp", gateway("10.6.0.1"), q); r.Truncated || len(r.Answer) != 60 || r.IsEdns0() == nil {
		t.Errorf("with EDNS %d records: %v", len(r.Answer), r.MsgHdr)
	}
	q.IsEdns0().SetUDPSize(600)
	if r := a.exchange(t, "udp", gateway("10.6.0.1"), q); !r.Truncated || len(r.Answer) != (600-26-optLen)/16 || r.IsEdns0() == nil {
		t.Errorf("with EDNS of 600 bytes %d records: %v", len(r.Answer), r.MsgHdr)
	}
	if r := a.exchange(t, "tcp", gateway("10.6.0.1"), question("big.test", dns.TypeA)); r.Truncated || len(r.Answer) != 60 {
		t.Errorf("by TCP %d records: %v", len(r.Answer), r.MsgHdr)
	}
	if got := u.heard(); got != "big.test. tcp:big.test." {
		t.Errorf("the upstream heard %q", got)
	}
	// A server without TCP is not asked so again for a while.
	a.upstream().tcpFails(time.Now())
	if r := a.exchange(t, "udp", gateway("10.6.0.1"), question("big2.test", dns.TypeA)); !r.Truncated || len(r.Answer) < 25 {
		t.Errorf("without TCP %d records: %v", len(r.Answer), r.MsgHdr)
	}
	if got := u.heard(); got != "big2.test." {
		t.Errorf("the upstream heard %q", got)
	}
}

// TestFit: of a message that is too long the first records are left, and the counts are
// right; that what is additional is missing is not said.
func TestFit(t *testing.T) {
	ask := question("x.test", dns.TypeA)
	m := new(dns.Msg).SetReply(ask)
	header := func(rtype uint16) dns.RR_Header {
		return dns.RR_Header{Name: "x.test.", Rrtype: rtype, Class: dns.ClassINET, Ttl: 60}
	}
	m.Answer = []dns.RR{&dns.CNAME{Hdr: header(dns.TypeCNAME), Target: "y.test."}, &dns.TXT{Hdr: header(dns.TypeTXT), Txt: []string{"a"}}}
	m.Ns = []dns.RR{&dns.NS{Hdr: header(dns.TypeNS), Ns: "ns.test."}}
	m.Extra = []dns.RR{&dns.TXT{Hdr: header(dns.TypeTXT), Txt: []string{"b"}}, &dns.TXT{Hdr: header(dns.TypeTXT), Txt: []string{"c"}}}
	raw, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := newResponse(ask, raw, time.Unix(1000, 0))
	if err != nil {
		t.Fatal(err)
	}
	for n := range 6 {
		msg, _ := ask.Pack()
		var q query
		if q.parse(msg) != 0 {
			t.Fatal("no query")
		}
		limit := q.end
		if n > 0 {
			limit = r.records[n-1].end
		}
		var got dns.Msg
		if err := got.Unpack(r.write(&q, msg, limit, time.Unix(1001, 0))); err != nil {
			t.Fatalf("%d records: %v", n, err)
		}
		counts := fmt.Sprint(len(got.Answer), len(got.Ns), len(got.Extra), got.Truncated)
		if want := []string{"0 0 0 true", "1 0 0 true", "2 0 0 true", "2 1 0 false", "2 1 1 false", "2 1 2 false"}[n]; counts != want {
			t.Errorf("room for %d: got %s, want %s", n, counts, want)
		}
	}
}
