package firewall

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/nstest"
)

// TestGatewayModes is who reaches what in each mode, with the container's address routed
// to the host by the others.
func TestGatewayModes(t *testing.T) {
	for _, backend := range []string{NFTables, IPTables} {
		t.Run(backend, func(t *testing.T) { testModes(t, newLab(t, backend, false)) })
	}
}

func testModes(t *testing.T, l *lab) {
	nat, open, routed, mixed, isolated1, isolated2 := l.network(1), l.network(2), l.network(3), l.network(4), l.network(5), l.network(6)
	nat.Mode4, nat.Mode6 = NAT, NAT
	open.Mode4, open.Mode6 = NATUnprotected, NATUnprotected
	routed.Mode4, routed.Mode6 = Routed, Routed
	mixed.Mode4, mixed.Mode6 = NAT, Routed
	for _, r := range []*Rules{isolated1, isolated2} {
		r.Mode4, r.Mode6, r.Isolate = Routed, Routed, true
	}
	ports := func(r *Rules, all ...attach.Port) (*Rules, []attach.Port) {
		mine := *r // of this container
		return &mine, mine.Publish(all)
	}
	tcp := func(host, container uint16, hostIP string) attach.Port {
		p := attach.Port{HostPort: host, ContainerPort: container, Protocol: "tcp"}
		if hostIP != "" {
			p.HostIP = netip.MustParseAddr(hostIP)
		}
		return p
	}
	add := func(name string, r *Rules, number int, all ...attach.Port) {
		own, translated := ports(r, all...)
		l.container(name, own, number, translated...)
		for _, at := range []string{":81", ":82"} {
			nstest.In(t, l.ns[name], func() { serve(t, name, at) })
		}
	}
	add("n", nat, 2, tcp(8080, 80, ""), tcp(8081, 81, "127.0.0.1"))
	add("m", nat, 3)
	add("u", open, 2, tcp(8180, 80, ""))
	add("r", routed, 2, tcp(8280, 80, ""))
	add("x", mixed, 2, tcp(8380, 80, ""))
	add("i", isolated1, 2, tcp(8480, 80, ""))
	add("j", isolated2, 2)

	for _, c := range []struct{ what, from, to, want string }{
		{"nat: published", "out", "192.0.2.1:8080", "n saw 192.0.2.2"},
		{"nat: published", "out", "[2001:db8:a::1]:8080", "n saw 2001:db8:a::2"},
		{"nat: what is published, by its own address", "out", "10.1.0.2:80", noAnswer},
		{"nat: what is published, by its own address", "out", "[fd00:1::2]:80", noAnswer},
		{"nat: what is published on 127.0.0.1", "out", "10.1.0.2:81", noAnswer},
		{"nat: what is published on 127.0.0.1", "host", "127.0.0.1:8081", "n saw 10.1.0.1"},
		{"nat: what is not published", "out", "10.1.0.2:82", noAnswer},
		{"nat: what is not published", "far", "[fd00:1::2]:82", noAnswer},
		{"nat: to the outside", "n", "192.0.2.2:80", "out saw 192.0.2.1"},
		{"nat: to the outside", "n", "[2001:db8:a::2]:80", "out saw 2001:db8:a::1"},
		{"nat: from the host", "host", "10.1.0.2:82", "n saw 10.1.0.1"},
		{"nat: from a neighbour", "m", "[fd00:1::2]:82", "n saw fd00:1::3"},
		{"nat: from another network", "u", "10.1.0.2:82", "n saw 10.2.0.2"},
		{"nat: published, from a neighbour", "m", "192.0.2.1:8080", "n saw 10.1.0.1"},

		{"nat-unprotected: not published", "out", "10.2.0.2:82", "u saw 192.0.2.2"},
		{"nat-unprotected: not published", "out", "[fd00:2::2]:82", "u saw 2001:db8:a::2"},
		{"nat-unprotected: to the outside", "u", "192.0.2.2:80", "out saw 192.0.2.1"},

		{"routed: published", "out", "10.3.0.2:80", "r saw 192.0.2.2"},
		{"routed: published", "out", "[fd00:3::2]:80", "r saw 2001:db8:a::2"},
		{"routed: not translated", "out", "192.0.2.1:8280", noAnswer},
		{"routed: not published", "out", "10.3.0.2:82", noAnswer},
		{"routed: not published", "out", "[fd00:3::2]:82", noAnswer},
		{"routed: to the outside", "r", "192.0.2.2:80", "out saw 10.3.0.2"},
		{"routed: to the outside", "r", "[2001:db8:a::2]:80", "out saw fd00:3::2"},
		{"routed: from the host", "host", "10.3.0.2:82", "r saw 10.3.0.1"},

		{"nat and routed: IPv4", "out", "192.0.2.1:8380", "x saw 192.0.2.2"},
		{"nat and routed: IPv4", "out", "10.4.0.2:80", noAnswer},
		{"nat and routed: IPv6", "out", "[2001:db8:a::1]:8380", noAnswer},
		{"nat and routed: IPv6", "out", "[fd00:4::2]:80", "x saw 2001:db8:a::2"},
		{"nat and routed: to the outside", "x", "[2001:db8:a::2]:80", "out saw fd00:4::2"},

		{"isolated networks: published and routed", "j", "10.5.0.2:80", "i saw 10.6.0.2"},
		{"isolated networks: published and routed", "j", "[fd00:5::2]:80", "i saw fd00:6::2"},
		{"isolated networks: not published", "j", "10.5.0.2:82", noAnswer},
		{"isolated networks: published, from another network", "u", "10.5.0.2:80", "i saw 10.2.0.2"},
	} {
		l.expectSoon(c.what, c.from, "tcp", c.to, c.want)
	}
	l.answers()

	for _, c := range []struct {
		to    string
		wants bool
	}{
		{"10.1.0.2", false}, {"fd00:1::2", false}, {"10.2.0.2", true}, {"fd00:2::2", true},
		{"10.3.0.2", true}, {"fd00:3::2", true}, {"10.4.0.2", false}, {"fd00:4::2", true},
	} {
		_, err := nstest.Output("ip", "netns", "exec", l.id("out"), "ping", "-c1", "-W1", c.to)
		if (err == nil) != c.wants {
			t.Errorf("ping %s from outside: answered %v, want %v", c.to, err == nil, c.wants)
		}
	}
	for _, a := range l.made {
		if err := RulesOf(a).Check(t.Context(), a); err != nil {
			t.Error(err)
		}
	}
}

// TestForeignTranslation is about services, as kube-proxy translates them: the container
// sees who asked, where the answer comes back by itself, and the answer comes in any case.
func TestForeignTranslation(t *testing.T) {
	for _, backend := range []string{NFTables, IPTables} {
		for _, brNetfilter := range []bool{false, true} {
			for _, proxy := range []string{NFTables, IPTables} {
				t.Run(fmt.Sprintf("%s/br_netfilter=%v/%s", backend, brNetfilter, proxy), func(t *testing.T) {
					testForeign(t, newLab(t, backend, brNetfilter), proxy)
				})
			}
		}
	}
}

func testForeign(t *testing.T, l *lab, proxy string) {
	n1, n2, isolated := l.network(1), l.network(2), l.network(3)
	n2.Mode4, n2.Mode6 = NAT, NAT
	isolated.Isolate, isolated.Mode4, isolated.Mode6 = true, NAT, NAT
	l.container("a", n1, 2)
	l.container("b", n1, 3, attach.Port{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"})
	l.container("c", n2, 2)
	l.container("d", isolated, 2)
	port := "8080" // the same as the published one, which iptables cannot tell from it
	if l.backend == IPTables {
		port = "8090"
	}
	for service, to := range map[string]string{"10.96.0.1": "10.1.0.3", "10.96.0.2": "10.2.0.2", "10.96.0.3": "10.3.0.2"} {
		if proxy == NFTables {
			l.nft("add table ip proxy")
			l.nft("add chain ip proxy pre { type nat hook prerouting priority -100; }")
			l.nft("add rule ip proxy pre ip daddr " + service + " tcp dport " + port + " dnat to " + to + ":80")
		} else {
			l.iptables("-t nat -I PREROUTING -d " + service + " -p tcp --dport " + port + " -j DNAT --to-destination " + to + ":80")
		}
	}
	for _, a := range l.made {
		r := RulesOf(a)
		h := &Hairpin{Backend: r.Backend, Bridge: r.Bridge}
		if err := h.Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
			t.Fatal(err)
		}
		if err := h.Check(t.Context(), a); err != nil {
			t.Error(err)
		}
	}
	l.ip("-n " + l.id("out") + " route add 10.96.0.0/24 via 192.0.2.1")
	sender := map[bool]string{true: "10.1.0.2", false: "10.1.0.1"}[l.brNetfilter]
	for _, c := range []struct{ what, from, to, want string }{
		{"a service of a neighbour", "a", "10.96.0.1:" + port, "b saw " + sender},
		{"a published port of a neighbour", "a", "192.0.2.1:8080", "b saw 10.1.0.1"},
		{"a service on another network", "a", "10.96.0.2:" + port, "c saw 10.1.0.2"},
		{"a service on a protected network, from outside", "out", "10.96.0.2:" + port, "c saw 192.0.2.2"},
		{"a service on an isolated network", "a", "10.96.0.3:" + port, "d saw 10.1.0.2"},
		{"a service of a neighbour, from outside", "out", "10.96.0.1:" + port, "b saw 192.0.2.2"},
	} {
		l.expect(c.what, c.from, "tcp", c.to, c.want)
	}
	// Somebody switches br_netfilter.
	if l.brNetfilter {
		a := l.made[0]
		h := &Hairpin{Backend: l.backend, Bridge: "br1"}
		l.sysctl("bridge/bridge-nf-call-iptables", "0")
		if h.Check(t.Context(), a) == nil {
			t.Error("br_netfilter was switched off, and the check finds all as it should be")
		}
		if err := h.Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
			t.Fatal(err)
		}
		l.expect("a service of a neighbour, br_netfilter switched off", "a", "tcp", "10.96.0.1:"+port, "b saw 10.1.0.1")
		l.sysctl("bridge/bridge-nf-call-iptables", "1")
		if err := h.Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
			t.Fatal(err)
		}
		l.expect("a service of a neighbour, br_netfilter switched on", "a", "tcp", "10.96.0.1:"+port, "b saw 10.1.0.2")
	}
}
