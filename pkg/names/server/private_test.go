package server

import (
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/names"
	"github.com/miekg/dns"
)

// dotted is a container whose network has names with dots, beside two other networks.
func dotted(t *testing.T, u *resolver) asking {
	t.Helper()
	a := newAsking(t, u)
	other, dev := bridge(t, "10.7.0.1/24"), bridge(t, "198.18.0.1/24")
	put(t, a.Server,
		entry("net", "shop", "eth0", a.br, "my.app www.shop.example github.com", "10.6.0.3/24"),
		entry("net", "deep", "eth0", a.br, "x.back", "10.6.0.4/24"),
		entry("back", "db", "eth0", other, "db db.shop.example", "10.7.0.2/24"),
		entry("dev", "go", "eth0", dev, "go", "198.18.0.2/24", "2001:db8:7::2/64"))
	return a
}

// TestDots: a name with dots is one of the network's, for its own containers only, and no
// question about it goes upstream.
func TestDots(t *testing.T) {
	u := newResolver(t, honest)
	a := dotted(t, u)
	for name, want := range map[string]string{
		"my.app": "NOERROR 10.6.0.3", "MY.App": "NOERROR 10.6.0.3", "www.shop.example": "NOERROR 10.6.0.3", "github.com": "NOERROR 10.6.0.3",
		"my.app.net": "NOERROR 10.6.0.3", "www.shop.example.net": "NOERROR 10.6.0.3", "nobody.app.net": "NXDOMAIN",
		"x.back": "NOERROR 10.6.0.4", // one's own before another network's
	} {
		a.expect(t, name, dns.TypeA, want)
	}
	for _, qtype := range []uint16{dns.TypeAAAA, dns.TypeMX, dns.TypeTXT, dns.TypeSRV, dns.TypeHTTPS, dns.TypeNS, dns.TypeSOA, dns.TypeCNAME, dns.TypeDS} {
		a.expect(t, "www.shop.example", qtype, "NOERROR")
	}
	a.expect(t, "www.shop.example", dns.TypeANY, `NOERROR "RFC8482" ""`)
	a.expect(t, "3.0.6.10.in-addr.arpa", dns.TypePTR, "NOERROR my.app.net.")
	if got := u.heard(); got != "" {
		t.Errorf("the upstream heard %q", got)
	}
	a.expect(t, "shop.example", dns.TypeA, outside)
	a.expect(t, "db.shop.example", dns.TypeA, outside) // an alias of another network, and perhaps a host elsewhere
	if err := a.remove(entry("net", "shop", "eth0", "", "").Key); err != nil {
		t.Fatal(err)
	}
	a.expect(t, "www.shop.example", dns.TypeA, outside)
}

// TestOtherNetworks: names and addresses of networks that are not the client's are not
// asked for elsewhere.
func TestOtherNetworks(t *testing.T) {
	u := newResolver(t, honest)
	a := dotted(t, u)
	for _, name := range []string{"db.back", "nobody.back", "a.b.back", "DB.Back", "back", "go.dev", "dev"} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeTXT, dns.TypeANY} {
			a.expect(t, name, qtype, "NXDOMAIN")
		}
	}
	for _, name := range []string{"2.0.7.10.in-addr.arpa", "77.0.7.10.in-addr.arpa", "2.0.18.198.in-addr.arpa", "9.0.18.198.in-addr.arpa", reverseName("2001:db8:7::9")} {
		a.expect(t, name, dns.TypePTR, "NXDOMAIN")
	}
	if got := u.heard(); got != "" {
		t.Errorf("the upstream heard %q", got)
	}
	// A network that is called like a domain of the Internet's takes from others only
	// what its containers are called.
	a.expect(t, "pkg.go.dev", dns.TypeA, outside)
	a.expect(t, "web.dev", dns.TypeA, outside)
}

// TestPrivateReverse: nobody else is asked who has a private address (RFC 6303), unless
// somebody has said whom the network asks; who has one of ours is never asked.
func TestPrivateReverse(t *testing.T) {
	u, own := newResolver(t, honest), newResolver(t, honest)
	a := dotted(t, u)
	private := strings.Fields("1.1.168.192.in-addr.arpa 9.9.9.10.in-addr.arpa 1.0.16.172.in-addr.arpa 1.0.31.172.in-addr.arpa 168.192.in-addr.arpa " +
		"1.0.64.100.in-addr.arpa 1.1.254.169.in-addr.arpa 1.2.0.192.in-addr.arpa 2.0.0.127.in-addr.arpa x.y.10.in-addr.arpa 7.10.in-addr.arpa " +
		reverseName("fd12::1") + " " + reverseName("fe80::1") + " " + reverseName("febf::1") + " " + reverseName("2001:db8::1") + " " + reverseName("::1"))
	for _, name := range private {
		r := a.exchange(t, "udp", gateway("10.6.0.1"), question(name, dns.TypePTR))
		want := "NXDOMAIN"
		switch name {
		case "168.192.in-addr.arpa":
			want = "NOERROR"
		case "2.0.0.127.in-addr.arpa", reverseName("::1"):
			want = "NOERROR localhost."
		}
		if text(r) != want {
			t.Errorf("%s: got %q, want %q", name, text(r), want)
		}
	}
	if got := u.heard(); got != "" {
		t.Errorf("the upstream heard %q", got)
	}
	for _, name := range []string{"8.8.8.8.in-addr.arpa", "1.0.32.172.in-addr.arpa", "1.0.128.100.in-addr.arpa", "1.0.167.192.in-addr.arpa", reverseName("2001:4860::8888")} {
		a.expect(t, name, dns.TypePTR, "forwarded NOERROR")
	}
	e := entry("net", "me", "eth0", a.br, "me", "10.6.0.2/24")
	e.Upstreams = addrs(own.addr)
	put(t, a.Server, e)
	a.expect(t, "1.1.168.192.in-addr.arpa", dns.TypePTR, "forwarded NOERROR")
	a.expect(t, "77.0.7.10.in-addr.arpa", dns.TypePTR, "NXDOMAIN")
	a.expect(t, "77.0.6.10.in-addr.arpa", dns.TypePTR, "NXDOMAIN")
	if got := own.heard(); got != "1.1.168.192.in-addr.arpa." {
		t.Errorf("its own upstream heard %q", got)
	}
}

// TestSOA: what is not there carries how long that may be believed, of a zone that the
// name is in (RFC 2308, 3).
func TestSOA(t *testing.T) {
	a := dotted(t, newResolver(t, honest))
	for name, zone := range map[string]string{
		"nobody": ".", "nobody.net": "net.", "a.b.net": "net.", "net": "net.", "my.app": ".", "db.back": ".", "77.0.6.10.in-addr.arpa": ".",
		"1.1.168.192.in-addr.arpa": "168.192.in-addr.arpa.", "localhost": "localhost.", "x.localhost": "localhost.",
		strings.Repeat(strings.Repeat("x", 60)+".", 3) + "net": "net.",
	} {
		for _, edns := range []bool{false, true} {
			q := question(name, dns.TypeMX)
			if edns {
				q.SetEdns0(1232, false)
			}
			r := a.exchange(t, "udp", gateway("10.6.0.1"), q)
			if len(r.Ns) != 1 || len(r.Answer) != 0 || r.Truncated {
				t.Errorf("%s: %v", name, r)
				continue
			}
			soa, ok := r.Ns[0].(*dns.SOA)
			if !ok || soa.Hdr.Name != zone || soa.Ns != zone || soa.Minttl != names.TTL || soa.Hdr.Ttl != names.TTL || !dns.IsSubDomain(soa.Hdr.Name, r.Question[0].Name) {
				t.Errorf("%s: %v", name, r.Ns[0])
			}
		}
	}
	for _, name := range []string{"me", "2.0.6.10.in-addr.arpa"} {
		q := question(name, dns.TypeA)
		if strings.HasSuffix(name, "arpa") {
			q = question(name, dns.TypePTR)
		}
		if r := a.exchange(t, "udp", gateway("10.6.0.1"), q); len(r.Ns) != 0 || len(r.Answer) != 1 {
			t.Errorf("%s: %v", name, r)
		}
	}
}

// TestGuests: who asks by a network's bridge from an address that no container was given is
// one of the network (keepalived's), but on a bridge that somebody else made, which the
// host's LAN may be behind.
func TestGuests(t *testing.T) {
	for foreign, want := range map[bool]string{false: "NOERROR 10.6.0.3", true: "REFUSED"} {
		u := newResolver(t, honest)
		a := newAsking(t, u)
		for _, e := range []names.Entry{entry("net", "me", "eth0", a.br, "me", "10.6.0.2/24"), entry("net", "shop", "eth0", a.br, "shop", "10.6.0.3/24")} {
			e.Foreign = foreign
			put(t, a.Server, e)
		}
		a.expect(t, "shop", dns.TypeA, "NOERROR 10.6.0.3")
		guest := container(t, a.br, "10.6.0.99/24")
		if got := guest.ask(t, "10.6.0.1", "shop", dns.TypeA); !strings.Contains(got, want) {
			t.Errorf("foreign %t: a guest is answered %q, want %s", foreign, got, want)
		}
	}
}
