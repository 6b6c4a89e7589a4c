package server

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/names"
	"github.com/miekg/dns"
)

const self = "127.0.0.55"

// askLocal asks as a program of the host does.
func askLocal(t *testing.T, network, name string, qtype uint16) string {
	t.Helper()
	c, err := net.Dial(network, net.JoinHostPort(self, "53"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r, err := exchange(c, question(name, qtype))
	if err != nil {
		t.Fatalf("ask %s by %s: %v", name, network, err)
	}
	return text(r)
}

// TestLocal: the host's own programs are told of all containers by NAME.NETWORK.berth, and who
// has an address, and are refused all else.
func TestLocal(t *testing.T) {
	bridge(t, "192.0.2.53/24") // for a server that is no resolver of the host's own
	u := newResolverAt(t, "192.0.2.53", honest)
	dir := t.TempDir()
	conf := resolvConfWith(t, u.addr)
	l := newLab(t, Config{StateDir: dir, HostNames: netip.MustParseAddrPort(self + ":53"), ResolvConf: conf})
	l.Directory().PutRemote("b", entry("back.end", "far", "eth0", "", "far my.app", "10.2.7.1/24"))
	l.Know([]names.Network{{Name: "idle", Named: true}})
	const mine = "10.1.0.11"
	for _, network := range []string{"udp", "tcp"} {
		for _, c := range []struct {
			name  string
			qtype uint16
			want  string
		}{
			{"web.simon_network.berth", dns.TypeA, "NOERROR " + mine}, {"Web.Simon_Network.BERTH", dns.TypeA, "NOERROR " + mine},
			{"web.simon_network.berth", dns.TypeAAAA, "NOERROR fd01::11"}, {"db.simon_network.berth", dns.TypeAAAA, "NOERROR"},
			{"web.back.end.berth", dns.TypeA, "NOERROR 10.2.0.11"}, {"my.app.back.end.berth", dns.TypeA, "NOERROR 10.2.7.1"},
			{"0123456789ab.simon_network.berth", dns.TypeA, "NOERROR " + mine}, {"web.simon_network.berth", dns.TypeANY, `NOERROR "RFC8482" ""`},
			{"nobody.simon_network.berth", dns.TypeA, "NXDOMAIN"}, {"db.back.end.berth", dns.TypeA, "NXDOMAIN"}, {"web.berth", dns.TypeA, "NXDOMAIN"},
			{"x.idle.berth", dns.TypeA, "NXDOMAIN"}, {"idle.berth", dns.TypeA, "NOERROR"}, {"berth", dns.TypeSOA, "NOERROR"}, {"a.web.simon_network.berth", dns.TypeA, "NXDOMAIN"},
			{"11.0.1.10.in-addr.arpa", dns.TypePTR, "NOERROR web.simon_network.berth."}, {"1.7.2.10.in-addr.arpa", dns.TypePTR, "NOERROR far.back.end.berth."},
			{reverseName("fd01::11"), dns.TypePTR, "NOERROR web.simon_network.berth."}, {"11.0.1.10.in-addr.arpa", dns.TypeA, "NOERROR"},
			{"99.0.1.10.in-addr.arpa", dns.TypePTR, "NXDOMAIN"},
		} {
			if got := askLocal(t, network, c.name, c.qtype); got != c.want {
				t.Errorf("%s: got %q, want %q", c.name, got, c.want)
			}
		}
		for name, qtype := range map[string]uint16{"example.org": dns.TypeA, "web": dns.TypeA, "web.simon_network": dns.TypeA, "8.8.8.8.in-addr.arpa": dns.TypePTR, "org": dns.TypeNS, ".": dns.TypeNS} {
			if got := askLocal(t, network, name, qtype); !strings.Contains(got, "REFUSED") {
				t.Errorf("%s: got %q, want it refused", name, got)
			}
		}
	}
	if got := l.db.ask(t, "10.1.0.1", "other.back.end.berth", dns.TypeA); got != "NXDOMAIN" {
		t.Errorf("a container is told of other networks: %q", got)
	}
	if got := u.heard(); got != "" {
		t.Errorf("the upstream heard %q", got)
	}
	if st := l.Status(); st.HostNames != self+":53" || st.HostDeaf != "" || !slices.Equal(st.Upstreams, []string{u.addr}) {
		t.Errorf("%+v", st)
	}

	// Now it is the first in resolv.conf, the host's servers and another resolver of the host
	// behind it.
	writeResolvers(t, conf, self, u.addr, "127.0.0.1")
	for range 500 {
		if l.resolvers.local.Load() != nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	for name, want := range map[string]string{"www.example.org": outside, "web.simon_network.berth": "NOERROR " + mine, "nobody.berth": "NXDOMAIN", "99.0.1.10.in-addr.arpa": "NXDOMAIN"} {
		qtype := dns.TypeA
		if strings.HasSuffix(name, "arpa") {
			qtype = dns.TypePTR
		}
		if got := askLocal(t, "udp", name, qtype); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if got := l.db.ask(t, "10.1.0.1", "mail.example.org", dns.TypeA); got != outside {
		t.Errorf("a container: %q", got)
	}
	if st := l.Status(); slices.Contains(st.Upstreams, self) || !slices.Contains(st.Upstreams, u.addr) {
		t.Errorf("%+v", st)
	}

	// Others of this host alone may ask this one: they are left to be the next in the file.
	writeResolvers(t, conf, self, "127.0.0.53", "127.0.0.1")
	got := ""
	for range 500 {
		if got = askLocal(t, "udp", "www.example.net", dns.TypeA); strings.Contains(got, "REFUSED") {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if !strings.Contains(got, "REFUSED") {
		t.Errorf("got %q, want it refused", got)
	}
}

// TestLocalTaken: where somebody else has the address and port, containers are answered, and
// the host is as soon as that one has gone.
func TestLocalTaken(t *testing.T) {
	other, err := net.ListenPacket("udp", self+":53")
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(t, Config{HostNames: netip.MustParseAddrPort(self + ":53")})
	if got := l.db.ask(t, "10.1.0.1", "web", dns.TypeA); got != "NOERROR 10.1.0.11" {
		t.Errorf("a container: %q", got)
	}
	if st := l.Status(); st.HostNames != "" || !strings.Contains(st.HostDeaf, "address already in use") {
		t.Errorf("%+v", st)
	}
	other.Close()
	for range 500 {
		if l.Status().HostNames != "" {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if got := askLocal(t, "udp", "web.simon_network.berth", dns.TypeA); got != "NOERROR 10.1.0.11" {
		t.Errorf("the host: %q", got)
	}
}
