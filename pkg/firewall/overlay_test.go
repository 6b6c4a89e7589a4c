package firewall

import (
	"errors"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall/allow"
)

// TestOverlay is what containers of several hosts see.
func TestOverlay(t *testing.T) {
	for _, backend := range []string{NFTables, IPTables} {
		t.Run(backend, func(t *testing.T) {
			s := newSpan(t, backend, false, "b")
			plain, inner, is3, is4, no := s.overlay(41), s.overlay(42), s.overlay(43), s.overlay(44), s.overlay(45)
			inner.Internal, inner.Masquerade = true, false
			is3.Isolate, is4.Isolate, no.NoICC = true, true, true
			for host := range 2 {
				s.sync(host, plain, inner, is3, is4, no)
			}
			local := s.network(9)
			s.container("l", local, 2)
			s.member("a41", 0, plain)
			s.member("b41", 1, plain)
			s.member("a42", 0, inner)
			s.member("b42", 1, inner)
			s.member("a43", 0, is3)
			s.member("b43", 1, is3)
			s.member("b44", 1, is4)
			s.member("a45", 0, no, attach.Port{HostPort: 8085, ContainerPort: 80, Protocol: "tcp"})
			s.member("b45", 1, no)
			serve(t, "host", ":7000")
			s.ways()
			s.internal()
		})
	}
}

func (s *span) ways() {
	s.t.Helper()
	s.both("another host", "a41", "41", 1, "b41 saw 10.41.0.2", "b41 saw fd00:41::2")
	s.both("another host", "b41", "41", 0, "a41 saw 10.41.1.2", "a41 saw fd00:41:0:1::2")
	s.expectSoon("another host", "b41", "udp", "10.41.0.2:80", "a41 saw 10.41.1.2")
	s.both("a host", "host", "41", 1, "b41 saw 10.41.0.0", "b41 saw fd00:41::")
	s.both("a container of a local network", "l", "41", 1, "b41 saw 10.41.0.0", "b41 saw fd00:41::")
	s.expectSoon("the outside", "a41", "tcp", "192.0.2.2:80", "out saw 192.0.2.1")
	s.expectSoon("the outside", "a41", "tcp", "[2001:db8:a::2]:80", "out saw 2001:db8:a::1")
	s.expectSoon("the outside of another host", "b41", "tcp", "192.0.2.2:80", "out saw 198.18.2.2")
	s.expectSoon("a local network", "a41", "tcp", "10.9.0.2:80", "l saw 10.41.0.2")
	s.expectSoon("a local network of another host", "b41", "tcp", "10.9.0.2:80", "l saw 198.18.2.2")

	s.both("another network of another host", "a43", "41", 1, "b41 saw 10.43.0.2", "b41 saw fd00:43::2")
	s.both("isolated, the same network", "a43", "43", 1, "b43 saw 10.43.0.2", "b43 saw fd00:43::2")
	s.both("isolated, another one", "a43", "44", 1, noAnswer, noAnswer)
	s.expectSoon("isolated, the outside", "b43", "tcp", "192.0.2.2:80", "out saw 198.18.2.2")

	s.both("no icc", "a45", "45", 1, noAnswer, noAnswer)
	s.both("no icc", "b45", "45", 0, noAnswer, noAnswer)
	s.both("no icc, another network", "a45", "41", 1, "b41 saw 10.45.0.2", "b41 saw fd00:45::2")
	s.expectSoon("no icc, published", "b45", "tcp", "198.18.2.1:8085", "a45 saw 198.18.2.2")
	s.answers()
}

func (s *span) internal() {
	s.t.Helper()
	s.both("internal, the same network", "a42", "42", 1, "b42 saw 10.42.0.2", "b42 saw fd00:42::2")
	s.both("internal, another network", "a42", "41", 1, noAnswer, noAnswer)
	s.both("internal, from another network", "a41", "42", 1, noAnswer, noAnswer)
	s.both("internal, from a local network", "l", "42", 1, noAnswer, noAnswer)
	s.both("internal, from the outside", "out", "42", 1, noAnswer, noAnswer)
	s.both("internal, from a host", "host", "42", 1, "b42 saw 10.42.0.0", "b42 saw fd00:42::")
	s.expectSoon("internal, the outside", "b42", "tcp", "192.0.2.2:80", noAnswer)
	s.answers()
	// As a host that knows no rules would send them.
	s.at("b", func() {
		for _, table := range []string{"nft flush ruleset", "ip route add 192.0.2.0/24 via 10.42.0.0 dev vxlan42 onlink", "ip -6 route add 2001:db8:a::/64 via fd00:42:: dev vxlan42 onlink"} {
			run(s.t, table)
		}
	})
	s.expectSoon("internal, an address of another host", "b42", "tcp", "192.0.2.1:7000", noAnswer)
	s.expectSoon("internal, an address of another host", "b42", "tcp", "[2001:db8:a::1]:7000", noAnswer)
	s.expectSoon("internal, the outside through another host", "b42", "tcp", "192.0.2.2:80", noAnswer)
	s.expectSoon("internal, another host's end of the network", "b42", "tcp", "10.42.0.0:7000", "host saw 10.42.1.2")
	s.answers()
}

// TestOverlayForward has another firewall drop what it does not know on a host.
func TestOverlayForward(t *testing.T) {
	s := newSpan(t, NFTables, false, "b")
	r := s.overlay(41)
	s.member("a41", 0, r)
	s.member("b41", 1, r)
	s.at("b", func() {
		run(t, "iptables-nft -P FORWARD DROP")
		run(t, "iptables-nft -P INPUT DROP")
	})
	s.expectSoon("dropped", "a41", "tcp", "10.41.1.2:80", noAnswer)
	s.answers()
	device := &allow.Forward{Bridge: r.Overlay}
	s.at("b", func() {
		if err := errors.Join(allow.VXLAN(t.Context(), []int{4789}), device.Add(t.Context(), nil)); err != nil {
			t.Fatal(err)
		}
	})
	s.expectSoon("let through", "a41", "tcp", "10.41.1.2:80", "b41 saw 10.41.0.2")
	s.answers()
	s.at("b", func() {
		if err := errors.Join(device.Check(t.Context(), nil), device.Remove(t.Context()), allow.VXLAN(t.Context(), nil)); err != nil {
			t.Fatal(err)
		}
		if left := linesWith(t, "berth-vxlan", "network vxlan41"); left != "" {
			t.Errorf("left:\n%s", left)
		}
	})
	s.expectSoon("dropped again", "a41", "tcp", "10.41.1.2:80", noAnswer)
	s.answers()
}
