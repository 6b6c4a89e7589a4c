package server

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/names"
	"github.com/miekg/dns"
)

// lab is two networks with three containers: web on both, db on the first, other on
// the second.
type lab struct {
	*Server
	web, db, other box
}

func newLab(t testing.TB, c Config) lab {
	t.Helper()
	br1, br2 := bridge(t, "10.1.0.1/24", "fd01::1/64"), bridge(t, "10.2.0.1/24", "10.2.0.2/24")
	l := lab{Server: start(t, c)}
	l.web = container(t, br1, "10.1.0.11/24", "fd01::11/64")
	l.web.plug(t, br2, "eth1", "10.2.0.11/24")
	l.db = container(t, br1, "10.1.0.12/24")
	l.other = container(t, br2, "10.2.0.13/24")
	put(t, l.Server,
		entry("simon_network", "0123456789abcdef", "eth0", br1, "web www 0123456789ab", "10.1.0.11/24", "fd01::11/64"),
		entry("back.end", "0123456789abcdef", "eth1", br2, "web frontdoor", "10.2.0.11/24"),
		entry("simon_network", "fedcba9876543210", "eth0", br1, "db my_app_1 fedcba987654", "10.1.0.12/24"),
		entry("back.end", "aaaaaaaaaaaaaaaa", "eth0", br2, "other", "10.2.0.13/24"))
	return l
}

func TestAnswers(t *testing.T) {
	l := newLab(t, Config{})
	for _, c := range []struct {
		from   box
		server string
		name   string
		qtype  uint16
		want   string
	}{
		{l.db, "10.1.0.1", "web", dns.TypeA, "NOERROR 10.1.0.11"},
		{l.db, "10.1.0.1", "web", dns.TypeAAAA, "NOERROR fd01::11"},
		{l.db, "10.1.0.1", "WWW", dns.TypeA, "NOERROR 10.1.0.11"},
		{l.db, "10.1.0.1", "0123456789ab", dns.TypeA, "NOERROR 10.1.0.11"},
		{l.db, "10.1.0.1", "web.Simon_Network", dns.TypeA, "NOERROR 10.1.0.11"},
		{l.db, "10.1.0.1", "my_app_1", dns.TypeA, "NOERROR 10.1.0.12"},
		// The name exists, in another family or type.
		{l.db, "10.1.0.1", "db", dns.TypeAAAA, "NOERROR"},
		{l.db, "10.1.0.1", "db.simon_network", dns.TypeAAAA, "NOERROR"},
		{l.db, "10.1.0.1", "web", dns.TypeMX, "NOERROR"},
		{l.db, "10.1.0.1", "web", dns.TypeTXT, "NOERROR"},
		{l.db, "10.1.0.1", "web", dns.TypeSRV, "NOERROR"},
		{l.db, "10.1.0.1", "web", dns.TypeHTTPS, "NOERROR"},
		{l.db, "10.1.0.1", "web", dns.TypeNS, "NOERROR"},
		{l.db, "10.1.0.1", "simon_network", dns.TypeA, "NOERROR"},
		{l.db, "10.1.0.1", "web", dns.TypeANY, `NOERROR "RFC8482" ""`},
		// Names that nobody has, and that nobody else is asked for.
		{l.db, "10.1.0.1", "nobody", dns.TypeA, "NXDOMAIN"},
		{l.db, "10.1.0.1", "nobody.simon_network", dns.TypeA, "NXDOMAIN"},
		{l.db, "10.1.0.1", "a.web.simon_network", dns.TypeA, "NXDOMAIN"},
		{l.db, "10.1.0.1", "99.0.1.10.in-addr.arpa", dns.TypePTR, "NXDOMAIN"},
		// The other way round.
		{l.db, "10.1.0.1", "11.0.1.10.in-addr.arpa", dns.TypePTR, "NOERROR web.simon_network."},
		{l.db, "10.1.0.1", reverseName("fd01::11"), dns.TypePTR, "NOERROR web.simon_network."},
		{l.db, "10.1.0.1", "11.0.1.10.in-addr.arpa", dns.TypeA, "NOERROR"},
		{l.other, "10.2.0.1", "11.0.2.10.in-addr.arpa", dns.TypePTR, "NOERROR web.back.end."},
		// A client sees its own networks, the one that it asks by first.
		{l.db, "10.1.0.1", "other", dns.TypeA, "NXDOMAIN"},
		{l.db, "10.1.0.1", "frontdoor", dns.TypeA, "NXDOMAIN"},
		{l.other, "10.2.0.1", "db", dns.TypeA, "NXDOMAIN"},
		{l.other, "10.2.0.1", "web", dns.TypeA, "NOERROR 10.2.0.11"},
		{l.other, "10.2.0.1", "web.back.end", dns.TypeA, "NOERROR 10.2.0.11"},
		{l.web, "10.1.0.1", "db", dns.TypeA, "NOERROR 10.1.0.12"},
		{l.web, "10.1.0.1", "other", dns.TypeA, "NOERROR 10.2.0.13"},
		{l.web, "10.2.0.1", "db", dns.TypeA, "NOERROR 10.1.0.12"},
		{l.web, "10.1.0.1", "web", dns.TypeA, "NOERROR 10.1.0.11"},
		{l.web, "10.2.0.1", "web", dns.TypeA, "NOERROR 10.2.0.11"},
		{l.web, "10.2.0.1", "web.simon_network", dns.TypeA, "NOERROR 10.1.0.11"},
		{l.web, "10.2.0.1", "12.0.1.10.in-addr.arpa", dns.TypePTR, "NOERROR db.simon_network."},
		// The answer comes from the address that was asked.
		{l.other, "10.2.0.2", "other", dns.TypeA, "NOERROR 10.2.0.13"},
		{l.web, "fd01::1", "db", dns.TypeA, "NOERROR 10.1.0.12"},
		{l.db, "10.1.0.1", "localhost", dns.TypeA, "NOERROR 127.0.0.1"},
		{l.db, "10.1.0.1", "x.localhost", dns.TypeAAAA, "NOERROR ::1"},
		// There is no upstream.
		{l.db, "10.1.0.1", "example.com", dns.TypeA, "forwarded SERVFAIL"},
		{l.db, "10.1.0.1", "example.com", dns.TypeAXFR, "forwarded NOTIMP"},
	} {
		if got := c.from.ask(t, c.server, c.name, c.qtype); got != c.want {
			t.Errorf("%s %s of %s: got %q, want %q", c.name, dns.TypeToString[c.qtype], c.server, got, c.want)
		}
	}
}

func reverseName(addr string) string {
	name, err := dns.ReverseAddr(addr)
	if err != nil {
		panic(err)
	}
	return name
}

// TestMessage: the bits, the question's letters, the TTL and EDNS, by UDP and TCP.
func TestMessage(t *testing.T) {
	l := newLab(t, Config{})
	for _, network := range []string{"udp", "tcp"} {
		q := question("wEb", dns.TypeA)
		q.SetEdns0(4096, true)
		r := l.db.exchange(t, network, gateway("10.1.0.1"), q)
		if !r.Response || !r.Authoritative || !r.RecursionAvailable || !r.RecursionDesired || r.AuthenticatedData {
			t.Errorf("%s: flags %+v", network, r.MsgHdr)
		}
		if len(r.Question) != 1 || r.Question[0] != q.Question[0] || len(r.Answer) != 1 || r.Answer[0].Header().Name != "wEb." {
			t.Errorf("%s: letters are not kept: %v", network, r)
		}
		if r.Answer[0].Header().Ttl != names.TTL {
			t.Errorf("%s: TTL %d", network, r.Answer[0].Header().Ttl)
		}
		if o := r.IsEdns0(); o == nil || o.UDPSize() != 1232 || !o.Do() || o.Version() != 0 {
			t.Errorf("%s: EDNS %v", network, o)
		}
		if r := l.db.exchange(t, network, gateway("10.1.0.1"), question("web", dns.TypeA)); r.IsEdns0() != nil {
			t.Errorf("%s: EDNS to a client that does not know it: %v", network, r)
		}
	}
	q := question("web", dns.TypeA)
	q.SetEdns0(1232, false)
	q.IsEdns0().SetVersion(3)
	if r := l.db.exchange(t, "udp", gateway("10.1.0.1"), q); r.Rcode != dns.RcodeBadVers {
		t.Errorf("EDNS of a version to come: %v", r)
	}
}

// TestMany: any one of equal names is the first, and what is too long for a packet comes by TCP.
func TestMany(t *testing.T) {
	br := bridge(t, "10.3.0.1/16")
	c := container(t, br, "10.3.1.0/16")
	s := start(t, Config{})
	const n = 100
	for i := range n {
		put(t, s, entry("net", fmt.Sprint("c", i), "eth0", br, "many", fmt.Sprintf("10.3.1.%d/16", i)))
	}
	firsts := map[string]bool{}
	conn := c.dial(t, "udp", gateway("10.3.0.1"))
	for range 30 * n { // any one may be the first: one in 10^11 runs misses one
		r, err := exchange(conn, question("many", dns.TypeA))
		if err != nil {
			t.Fatal(err)
		}
		if !r.Truncated || len(r.Answer) != (512-22)/16 {
			t.Fatalf("%d answers, truncated: %v", len(r.Answer), r.Truncated)
		}
		firsts[r.Answer[0].String()] = true
	}
	if len(firsts) != n {
		t.Errorf("%d of %d were the first", len(firsts), n)
	}
	q := question("many", dns.TypeA)
	q.SetEdns0(65535, false)
	if r := c.exchange(t, "udp", gateway("10.3.0.1"), q); !r.Truncated || len(r.Answer) != (1232-22-11)/16 {
		t.Errorf("with EDNS: %d answers, truncated: %v", len(r.Answer), r.Truncated)
	}
	r := c.exchange(t, "tcp", gateway("10.3.0.1"), question("many", dns.TypeA))
	all := map[string]bool{}
	for _, rr := range r.Answer {
		all[rr.(*dns.A).A.String()] = true
	}
	if len(all) != n || r.Truncated {
		t.Errorf("by TCP: %d answers, truncated: %v", len(all), r.Truncated)
	}
}

// TestPairs: who asks for A and AAAA by turns, as resolvers do, gets another first
// address each time, as who comes by a new TCP connection does.
func TestPairs(t *testing.T) {
	br := bridge(t, "10.3.0.1/24")
	c := container(t, br, "10.3.0.2/24")
	s := start(t, Config{})
	for i := range 2 {
		put(t, s, entry("net", fmt.Sprint("c", i), "eth0", br, "web", fmt.Sprintf("10.3.0.%d/24", 2+i)))
	}
	conn := c.dial(t, "udp", gateway("10.3.0.1"))
	for _, network := range []string{"udp", "tcp"} {
		firsts := map[string]int{}
		for range 40 {
			r := c.first(t, conn, network)
			firsts[r]++
		}
		if len(firsts) != 2 {
			t.Errorf("%s: the first were %v", network, firsts)
		}
	}
}

// first asks for A and AAAA, and returns the first address.
func (b box) first(t testing.TB, conn net.Conn, network string) string {
	t.Helper()
	if network == "tcp" {
		conn = b.dial(t, network, gateway("10.3.0.1"))
		defer conn.Close() // a client has few at a time
	}
	r, err := exchange(conn, question("web", dns.TypeA))
	if err == nil && network == "udp" {
		_, err = exchange(conn, question("web", dns.TypeAAAA))
	}
	if err != nil {
		t.Fatal(err)
	}
	return r.Answer[0].String()
}

// TestSecondAddress: what a container asks from an address that it was not given is
// answered as of one of its network, which has no links and no other network. Who comes
// where there is no bridge has to have an address that is known.
func TestSecondAddress(t *testing.T) {
	u := newResolver(t, honest)
	l := newLab(t, Config{ResolvConf: resolvConfWith(t, u.addr)})
	br := l.listenersOf(t)[0]
	for _, addr := range []string{"10.1.0.77/24", "172.30.0.5/24"} {
		second := container(t, br, addr)
		run(t, "ip", "-n", filepath.Base(second.path), "route", "add", "default", "dev", "eth0")
		for name, want := range map[string]string{"web": "NOERROR 10.1.0.11", "other": "NXDOMAIN", "example.test": outside} {
			if got := second.ask(t, "10.1.0.1", name, dns.TypeA); got != want {
				t.Errorf("from %s: %s is %q, want %q", addr, name, got, want)
			}
		}
	}
	d := NewDirectory()
	d.Put(entry("net", "c", "eth0", names.AnyInterface, "me", "10.0.0.1/24"))
	if m, known := d.asker(client{names.AnyInterface, addrs("10.0.0.2")[0]}); m != nil || known {
		t.Errorf("who is not known is %+v", m)
	}
	if m, _ := d.asker(client{"br9", addrs("10.0.0.1")[0]}); m != nil {
		t.Errorf("who comes by a bridge of nobody is %+v", m)
	}
}

func (l lab) listenersOf(t testing.TB) []string {
	t.Helper()
	st := l.Status()
	if len(st.Bridges) != 2 || len(st.Deaf) != 0 || st.Containers != 4 {
		t.Fatalf("status: %+v", st)
	}
	return st.Bridges
}

// TestFollows: a name goes with its container, and another one may have its address.
func TestFollows(t *testing.T) {
	br := bridge(t, "10.4.0.1/24")
	c := container(t, br, "10.4.0.9/24")
	s := start(t, Config{})
	me := entry("net", "me", "eth0", br, "me", "10.4.0.9/24")
	first := entry("net", "one", "eth0", br, "tomcat81 app", "10.4.0.2/24")
	second := entry("net", "two", "eth0", br, "tomcat82 app", "10.4.0.2/24")
	put(t, s, me, first)
	expect := func(want ...string) {
		t.Helper()
		var got []string
		for _, name := range []string{"tomcat81", "tomcat82", "app"} {
			got = append(got, c.ask(t, "10.4.0.1", name, dns.TypeA))
		}
		got = append(got, c.ask(t, "10.4.0.1", "2.0.4.10.in-addr.arpa", dns.TypePTR))
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	expect("NOERROR 10.4.0.2", "NXDOMAIN", "NOERROR 10.4.0.2", "NOERROR tomcat81.net.")
	if err := s.remove(first.Key); err != nil {
		t.Fatal(err)
	}
	expect("NXDOMAIN", "NXDOMAIN", "NXDOMAIN", "NXDOMAIN")
	put(t, s, second)
	expect("NXDOMAIN", "NOERROR 10.4.0.2", "NOERROR 10.4.0.2", "NOERROR tomcat82.net.")
	put(t, s, first) // its DEL was never heard of
	expect("NOERROR 10.4.0.2", "NXDOMAIN", "NOERROR 10.4.0.2", "NOERROR tomcat81.net.")
	for _, e := range []names.Entry{first, second, me, me} {
		if err := s.remove(e.Key); err != nil {
			t.Fatal(err)
		}
	}
	d := s.directory
	if n := len(d.networks) + len(d.members) + len(d.clients) + len(d.containers) + len(d.bridges) + len(s.listeners); n != 0 {
		t.Errorf("%d things are left: %+v", n, d)
	}
}

// TestElsewhere: names of other hosts, until their host is gone.
func TestElsewhere(t *testing.T) {
	l := newLab(t, Config{})
	far := entry("simon_network", "f1", "eth0", "", "far shared", "10.1.7.1/16")
	farther := entry("simon_network", "f2", "eth0", "br0", "farther shared", "10.1.7.2/16")
	l.Directory().SetNode("b", []names.Entry{far, farther})
	l.Directory().PutRemote("c", entry("simon_network", "f3", "eth0", "", "web", "10.1.8.1/16"))
	ask := func(name, want string) {
		t.Helper()
		got := strings.Fields(l.db.ask(t, "10.1.0.1", name, dns.TypeA))
		slices.Sort(got[1:])
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	ask("far", "NOERROR 10.1.7.1")
	ask("shared", "NOERROR 10.1.7.1 10.1.7.2")
	ask("web", "NOERROR 10.1.0.11 10.1.8.1")
	ask("99.7.1.10.in-addr.arpa", "NXDOMAIN")
	if n := len(l.Directory().Local()); n != 4 {
		t.Errorf("%d entries of this host", n)
	}
	l.Directory().SetNode("b", []names.Entry{farther})
	ask("far", "NXDOMAIN")
	ask("shared", "NOERROR 10.1.7.2")
	l.Directory().SetNode("b", nil)
	ask("shared", "NXDOMAIN")
	l.Directory().DeleteRemote("c", far.Key)
	ask("web", "NOERROR 10.1.0.11 10.1.8.1")
	l.Directory().SetNode("c", nil)
	ask("web", "NOERROR 10.1.0.11")
	if len(l.directory.nodes) != 0 {
		t.Errorf("left: %v", l.directory.nodes)
	}
}

// TestReverse: every address has a name of its own, as miekg/dns makes it.
func TestReverse(t *testing.T) {
	for _, a := range []string{"10.1.2.3", "0.0.0.0", "255.255.255.255", "::1", "fd01::11", "2001:db8::dead:beef"} {
		got, ok := reverse([]byte(wireName(strings.TrimSuffix(reverseName(a), "."))))
		if !ok || got != netip.MustParseAddr(a) {
			t.Errorf("%s: got %s, %v", a, got, ok)
		}
	}
	for _, name := range []string{"in-addr.arpa", "1.in-addr.arpa", "1.2.3.4.5.in-addr.arpa", "256.1.1.1.in-addr.arpa", "01.1.1.1.in-addr.arpa",
		"a.1.1.1.in-addr.arpa", "1234.1.1.1.in-addr.arpa", "ip6.arpa", "1.ip6.arpa", strings.Repeat("g.", 32) + "ip6.arpa", strings.Repeat("10.", 22) + "ip6.arpa"} {
		if a, ok := reverse([]byte(wireName(name))); ok {
			t.Errorf("%s is read as %s", name, a)
		}
	}
}
