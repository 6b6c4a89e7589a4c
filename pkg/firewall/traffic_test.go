package firewall

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
)

// TestTraffic is what people see: who reaches whom, and as whom.
func TestTraffic(t *testing.T) {
	for _, backend := range []string{NFTables, IPTables} {
		for _, brNetfilter := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/br_netfilter=%v", backend, brNetfilter), func(t *testing.T) {
				testTraffic(t, newLab(t, backend, brNetfilter))
			})
		}
	}
}

func testTraffic(t *testing.T, l *lab) {
	port := func(protocol string, port uint16, hostIP string) attach.Port {
		p := attach.Port{HostPort: port, ContainerPort: 80, Protocol: protocol}
		if hostIP != "" {
			p.HostIP = netip.MustParseAddr(hostIP)
		}
		return p
	}
	n1, n2, in, is4, is5, no := l.network(1), l.network(2), l.network(3), l.network(4), l.network(5), l.network(6)
	in.Internal, in.Masquerade = true, false
	is4.Isolate, is5.Isolate = true, true
	no.NoICC = true
	l.container("a", n1, 2, port("tcp", 8080, ""), port("udp", 8080, ""))
	l.container("b", n1, 3, port("tcp", 9090, "192.0.2.1"), port("tcp", 9091, "2001:db8:a::1"))
	l.container("c", n2, 2)
	l.container("d", in, 2)
	l.container("e", in, 3)
	l.container("f", is4, 2, port("tcp", 8084, ""))
	l.container("g", is5, 2)
	l.container("h", no, 2)
	l.container("i", no, 3, port("tcp", 8086, ""))
	serve(t, "host", ":7000")

	for _, c := range []struct{ what, from, to, want string }{
		{"published, from outside", "out", "192.0.2.1:8080", "a saw 192.0.2.2"},
		{"published, from outside, by another address of the host", "out", "198.51.100.1:8080", "a saw 192.0.2.2"},
		{"published, from outside", "out", "[2001:db8:a::1]:8080", "a saw 2001:db8:a::2"},
		{"published, from the host by its address", "host", "192.0.2.1:8080", "a saw 192.0.2.1"},
		{"published, from the host by its address", "host", "[2001:db8:a::1]:8080", "a saw 2001:db8:a::1"},
		{"published, from the host by another address", "host", "198.51.100.1:8080", "a saw 198.51.100.1"},
		{"published, from the host by its gateway address", "host", "10.1.0.1:8080", "a saw 10.1.0.1"},
		{"published, from the host by loopback", "host", "127.0.0.1:8080", "a saw 10.1.0.1"},
		{"published, from the container itself", "a", "192.0.2.1:8080", "a saw 10.1.0.1"},
		{"published, from the container itself", "a", "[2001:db8:a::1]:8080", "a saw fd00:1::1"},
		{"published, from a neighbour", "b", "192.0.2.1:8080", "a saw 10.1.0.1"},
		{"published, from a neighbour", "b", "[2001:db8:a::1]:8080", "a saw fd00:1::1"},
		{"published, from a neighbour by the gateway", "b", "10.1.0.1:8080", "a saw 10.1.0.1"},
		{"published, from another network", "c", "192.0.2.1:8080", "a saw 10.2.0.2"},
		{"published, from another network by its gateway", "c", "10.2.0.1:8080", "a saw 10.2.0.2"},
		{"published, from another network", "c", "[fd00:2::1]:8080", "a saw fd00:2::2"},
		{"published on one address", "out", "192.0.2.1:9090", "b saw 192.0.2.2"},
		{"published on one address, not on another", "out", "198.51.100.1:9090", noAnswer},
		{"published on one address, not on loopback", "host", "127.0.0.1:9090", noAnswer},
		{"published on one address, not in the other family", "out", "[2001:db8:a::1]:9090", noAnswer},
		{"published on one IPv6 address", "out", "[2001:db8:a::1]:9091", "b saw 2001:db8:a::2"},
		{"published on one IPv6 address, not on another", "out", "[2001:db8:b::1]:9091", noAnswer},
		{"transit to the same port", "out", "198.51.100.2:8080", noAnswer},
		{"transit", "out", "198.51.100.2:80", "far saw 192.0.2.2"},
		{"a neighbour's same port", "b", "10.1.0.2:8080", noAnswer},

		{"to a neighbour", "a", "10.1.0.3:80", "b saw 10.1.0.2"},
		{"to a neighbour", "a", "[fd00:1::3]:80", "b saw fd00:1::2"},
		{"to the outside", "a", "192.0.2.2:80", "out saw 192.0.2.1"},
		{"to the outside", "a", "[2001:db8:a::2]:80", "out saw 2001:db8:a::1"},
		{"to another network", "a", "10.2.0.2:80", "c saw 10.1.0.2"},
		{"to another network", "a", "[fd00:2::2]:80", "c saw fd00:1::2"},

		{"internal, to a neighbour", "d", "10.3.0.3:80", "e saw 10.3.0.2"},
		{"internal, to a neighbour", "e", "[fd00:3::2]:80", "d saw fd00:3::3"},
		{"internal, from the host", "host", "10.3.0.3:80", "e saw 10.3.0.1"},
		{"internal, from the host", "host", "[fd00:3::3]:80", "e saw fd00:3::1"},
		{"internal, to its gateway", "e", "10.3.0.1:7000", "host saw 10.3.0.3"},
		{"internal, to its gateway", "e", "[fd00:3::1]:7000", "host saw fd00:3::3"},
		{"internal, to another address of the host", "e", "192.0.2.1:7000", noAnswer},
		{"internal, to another address of the host", "e", "[2001:db8:a::1]:7000", noAnswer},
		{"internal, to a published port", "e", "192.0.2.1:8080", noAnswer},
		{"internal, to a published port by its gateway", "e", "10.3.0.1:8080", noAnswer},
		{"internal, to the outside", "e", "192.0.2.2:80", noAnswer},
		{"internal, to the outside", "e", "[2001:db8:a::2]:80", noAnswer},
		{"internal, to another network", "e", "10.1.0.2:80", noAnswer},
		{"internal, from another network", "a", "10.3.0.3:80", noAnswer},
		{"internal, from the outside", "out", "10.3.0.3:80", noAnswer},

		{"isolated, to the outside", "f", "192.0.2.2:80", "out saw 192.0.2.1"},
		{"isolated, to another isolated", "f", "10.5.0.2:80", noAnswer},
		{"isolated, to another isolated", "g", "[fd00:4::2]:80", noAnswer},
		{"isolated, to one that is not", "f", "10.1.0.2:80", "a saw 10.4.0.2"},
		{"isolated, to what another isolated published", "g", "192.0.2.1:8084", "f saw 10.5.0.2"},
		{"isolated, to what another isolated published", "g", "[fd00:5::1]:8084", "f saw fd00:5::2"},

		{"no icc, to a neighbour", "h", "10.6.0.3:80", noAnswer},
		{"no icc, to a neighbour", "h", "[fd00:6::3]:80", noAnswer},
		{"no icc, to what a neighbour published", "h", "192.0.2.1:8086", "i saw 10.6.0.1"},
		{"no icc, to what a neighbour published", "h", "[2001:db8:a::1]:8086", "i saw fd00:6::1"},
		{"no icc, to the outside", "h", "192.0.2.2:80", "out saw 192.0.2.1"},
		{"no icc, from the host", "host", "10.6.0.2:80", "h saw 10.6.0.1"},
	} {
		l.expectSoon(c.what, c.from, "tcp", c.to, c.want)
	}
	l.answers()
	for _, c := range []struct{ from, to, want string }{
		{"out", "192.0.2.1:8080", "a saw 192.0.2.2"},
		{"out", "[2001:db8:a::1]:8080", "a saw 2001:db8:a::2"},
		{"host", "127.0.0.1:8080", "a saw 10.1.0.1"},
		{"a", "192.0.2.1:8080", "a saw 10.1.0.1"},
		{"b", "192.0.2.1:8080", "a saw 10.1.0.1"},
		{"a", "192.0.2.2:80", "out saw 192.0.2.1"},
		{"out", "198.51.100.2:8080", noAnswer},
	} {
		l.expectSoon("published", c.from, "udp", c.to, c.want)
	}
	l.answers()
}
