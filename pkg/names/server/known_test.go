package server

import (
	"net/netip"
	"testing"

	"github.com/berth-cni/berth/pkg/names"
	"github.com/miekg/dns"
)

// TestKnownNetworks: what is under the name of a network, and the reverse of its addresses,
// is not asked for elsewhere, with no container on it, and is when there is no such network.
func TestKnownNetworks(t *testing.T) {
	u := newResolver(t, honest)
	a := newAsking(t, u)
	subnets := func(all ...string) (to []netip.Prefix) {
		for _, s := range all {
			to = append(to, netip.MustParsePrefix(s))
		}
		return to
	}
	idle := names.Network{Name: "my-idle.test", Named: true, Subnets: subnets("198.18.7.0/24", "2001:db8:77::/64")}
	mute := names.Network{Name: "mute", Subnets: subnets("198.19.0.0/24")}
	dev := names.Network{Name: "dev", Named: true}
	mine := names.Network{Name: "net", Named: true, Subnets: subnets("10.6.0.0/24")}
	hidden := map[string]uint16{"web.my-idle.test": dns.TypeA, "a.b.My-Idle.test": dns.TypeAAAA, "my-idle.test": dns.TypeMX,
		"9.7.18.198.in-addr.arpa": dns.TypePTR, reverseName("2001:db8:77::9"): dns.TypePTR, "1.0.19.198.in-addr.arpa": dns.TypePTR}
	for range 2 { // it comes and goes
		a.Know([]names.Network{idle, mute, dev, mine})
		a.Know([]names.Network{mine, dev, mute, idle})
		for name, qtype := range hidden {
			a.expect(t, name, qtype, "NXDOMAIN")
			if r := a.exchange(t, "udp", gateway("10.6.0.1"), question(name, qtype)); len(r.Ns) != 1 || r.Ns[0].Header().Rrtype != dns.TypeSOA {
				t.Errorf("%s: no SOA: %v", name, r)
			}
		}
		if got := u.heard(); got != "" {
			t.Errorf("the upstream heard %q", got)
		}
		a.expect(t, "web.mute", dns.TypeA, outside) // whose containers have no names
		a.expect(t, "go.dev", dns.TypeA, outside)   // which is not its containers' alone
		a.expect(t, "me.net", dns.TypeA, "NOERROR 10.6.0.2")
		a.Know([]names.Network{mine})
		a.expect(t, "web.my-idle.test", dns.TypeA, outside)
		a.forwarder.cache.clear()
		u.heard()
	}
	a.Know(nil)
	a.expect(t, "nobody.net", dns.TypeA, "NXDOMAIN") // a container is on it
	if err := a.remove(entry("net", "me", "eth0", "", "").Key); err != nil {
		t.Fatal(err)
	}
	if d := a.directory; len(d.networks)+len(d.subnets)+len(d.suffixes)+len(d.known) != 0 {
		t.Errorf("left: %v %v %v %v", d.networks, d.subnets, d.suffixes, d.known)
	}
}
