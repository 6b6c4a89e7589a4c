package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// families are the indices of host.inner.
var families = []struct {
	name  string
	index int
}{{"IPv4", 0}, {"IPv6", 1}}

// expect probes and compares.
func expect(t *testing.T, h *host, target Target, state State, mtu int) Verdict {
	t.Helper()
	v := h.probe(t, target)
	if v.State != state || v.MTU != mtu {
		t.Errorf("probe of %s: %s (%s, MTU %d, %v), want %s, MTU %d", target.Peer, v.State, v, v.MTU, v.Err, state, mtu)
	}
	return v
}

func TestWell(t *testing.T) {
	t.Parallel()
	for _, six := range []bool{false, true} {
		a, b := pair(t, underlay{six: six})
		heard := b.listen(t)
		a.listen(t)
		for _, f := range families {
			before := time.Now()
			target := a.target(b, f.index)
			if v := expect(t, a, target, OK, target.MTU); v.RTT <= 0 || v.RTT > time.Second {
				t.Errorf("round trip %s", v.RTT)
			}
			if at := heard[f.index].Heard(a.inner[f.index]); at.Before(before) {
				t.Errorf("b has last heard a at %s, want after %s", at, before)
			}
			expect(t, b, b.target(a, f.index), OK, target.MTU)
		}
	}
}

func TestPeerAway(t *testing.T) {
	t.Parallel()
	a, b := pair(t, underlay{})
	target := a.target(b, 0)
	// Its host answers for the closed port.
	if v := expect(t, a, target, NoAnswer, 0); !errors.Is(v.Err, unix.ECONNREFUSED) {
		t.Errorf("error %v, want %v", v.Err, unix.ECONNREFUSED)
	}
	b.ip(t, "link set eth0 down")
	target.Alive = false
	if v := expect(t, a, target, Away, 0); v.Err != nil {
		t.Errorf("error %v", v.Err)
	}
}

func TestPortBlocked(t *testing.T) {
	t.Parallel()
	for _, six := range []bool{false, true} {
		t.Run(fmt.Sprintf("IPv6 underlay %t", six), func(t *testing.T) {
			t.Parallel()
			a, b := pair(t, underlay{six: six})
			b.listen(t)
			heard := a.listen(t)[0]
			// Only the way from a to b: b is still heard.
			b.run(t, "nft", "add table inet t; add chain inet t c { type filter hook prerouting priority -300; }; add rule inet t c iifname eth0 udp dport 4789 drop")
			if v := expect(t, a, a.target(b, 0), NoAnswer, 0); v.Err != nil {
				t.Errorf("error %v", v.Err)
			}
			if !heard.Heard(b.inner[0]).IsZero() {
				t.Error("b is heard before it has asked")
			}
			expect(t, b, b.target(a, 0), NoAnswer, 0)
			if heard.Heard(b.inner[0]).IsZero() {
				t.Error("b is not heard, though the way from it is open")
			}
			b.run(t, "nft", "flush ruleset")
			expect(t, a, a.target(b, 0), OK, a.target(b, 0).MTU)
		})
	}
}

func TestFailed(t *testing.T) {
	t.Parallel()
	a, b := pair(t, underlay{})
	b.listen(t)
	good := a.target(b, 0)
	for _, test := range []struct {
		name   string
		change func(*Target)
		errno  error
	}{
		{"no device", func(t *Target) { t.Device = "vxlan43" }, unix.ENODEV},
		{"not our address", func(t *Target) { t.Local = netip.MustParseAddr("10.42.9.0") }, unix.EADDRNOTAVAIL},
		{"no MTU", func(t *Target) { t.MTU = 0 }, nil},
	} {
		target := good
		test.change(&target)
		v := a.probe(t, target)
		if v.State != Failed || v.Err == nil || test.errno != nil && !errors.Is(v.Err, test.errno) {
			t.Errorf("%s: %s (%v), want failed: %v", test.name, v.State, v.Err, test.errno)
		}
	}
	a.run(t, "nft", "add table inet t; add chain inet t c { type filter hook output priority 0; }; add rule inet t c udp dport 4799 drop")
	if v := a.probe(t, good); v.State != Failed || !errors.Is(v.Err, unix.EPERM) {
		t.Errorf("own firewall: %s (%v)", v.State, v.Err)
	}
	a.run(t, "nft", "flush ruleset")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	b.ip(t, "link set eth0 down")
	a.in(t, func() {
		start := time.Now()
		v := (&Prober{}).Probe(ctx, good)
		if v.State != Failed || !errors.Is(v.Err, context.DeadlineExceeded) || time.Since(start) > 10*time.Second {
			t.Errorf("cut short: %s (%v) after %s", v.State, v.Err, time.Since(start))
		}
	})
}

// odd starts a responder of the test's own.
func (h *host) odd(t *testing.T, addr netip.Addr, serve func(c *net.UDPConn, question []byte, from netip.AddrPort)) {
	t.Helper()
	h.in(t, func() {
		s, err := listen(netip.AddrPortFrom(addr, Port), "vxlan42")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		go func() {
			for buf := make([]byte, 1<<16); ; {
				n, from, err := s.ReadFromUDPAddrPort(buf)
				if err != nil {
					return
				}
				serve(s.UDPConn, append([]byte(nil), buf[:n]...), netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
			}
		}()
	})
}

// once serves the first question only.
func once(serve func(c *net.UDPConn, q []byte, from netip.AddrPort)) func(*net.UDPConn, []byte, netip.AddrPort) {
	var first sync.Once
	return func(c *net.UDPConn, q []byte, from netip.AddrPort) { first.Do(func() { serve(c, q, from) }) }
}

// reply is the right answer to a question.
func reply(q []byte) message {
	m, _ := decode(q)
	m.kind = answer
	return m
}

func TestOddAnswers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		serve func(c *net.UDPConn, q []byte, from netip.AddrPort)
		state State
	}{
		{"late: after the try, within the next", func(c *net.UDPConn, q []byte, from netip.AddrPort) {
			time.AfterFunc(150*time.Millisecond, func() { c.WriteToUDPAddrPort(reply(q).encode(), from) })
		}, OK},
		{"too late", func(c *net.UDPConn, q []byte, from netip.AddrPort) {
			time.AfterFunc(time.Second, func() { c.WriteToUDPAddrPort(reply(q).encode(), from) })
		}, NoAnswer},
		{"each three times", func(c *net.UDPConn, q []byte, from netip.AddrPort) {
			for range 3 {
				c.WriteToUDPAddrPort(reply(q).encode(), from)
			}
		}, OK},
		{"foreign nonce", func(c *net.UDPConn, q []byte, from netip.AddrPort) {
			m := reply(q)
			m.nonce++
			c.WriteToUDPAddrPort(m.encode(), from)
		}, NoAnswer},
		{"foreign VNI", func(c *net.UDPConn, q []byte, from netip.AddrPort) {
			m := reply(q)
			m.vni++
			c.WriteToUDPAddrPort(m.encode(), from)
		}, NoAnswer},
		{"size of another question", func(c *net.UDPConn, q []byte, from netip.AddrPort) {
			m := reply(q)
			m.size++
			c.WriteToUDPAddrPort(m.encode(), from)
		}, NoAnswer},
		{"the question itself", func(c *net.UDPConn, q []byte, from netip.AddrPort) {
			c.WriteToUDPAddrPort(q, from)
		}, NoAnswer},
		{"longer", func(c *net.UDPConn, q []byte, from netip.AddrPort) {
			c.WriteToUDPAddrPort(append(reply(q).encode(), 0), from)
		}, NoAnswer},
		// That is no checksum fault, nor one of the MTU.
		{"goes away after the first", once(func(c *net.UDPConn, q []byte, from netip.AddrPort) {
			c.WriteToUDPAddrPort(reply(q).encode(), from)
		}), NoAnswer},
		{"garbage, then the answer", func(c *net.UDPConn, q []byte, from netip.AddrPort) {
			c.WriteToUDPAddrPort([]byte("hello"), from)
			c.WriteToUDPAddrPort(nil, from)
			c.WriteToUDPAddrPort(reply(q).encode(), from)
		}, OK},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a, b := pair(t, underlay{})
			b.odd(t, b.inner[0], test.serve)
			mtu := 0
			if test.state == OK {
				mtu = 1450
			}
			expect(t, a, a.target(b, 0), test.state, mtu)
		})
	}
}

func TestAnswerFromWrongSource(t *testing.T) {
	t.Parallel()
	a, b := pair(t, underlay{})
	other := netip.MustParseAddr("10.42.2.9")
	b.ip(t, "addr add 10.42.2.9/32 dev vxlan42")
	var wrong, port *socket
	b.in(t, func() {
		var err1, err2 error
		wrong, err1 = listen(netip.AddrPortFrom(other, Port), "vxlan42")
		port, err2 = listen(netip.AddrPortFrom(b.inner[0], Port+1), "vxlan42")
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
	})
	defer wrong.Close()
	defer port.Close()
	b.odd(t, b.inner[0], func(_ *net.UDPConn, q []byte, from netip.AddrPort) {
		wrong.WriteToUDPAddrPort(reply(q).encode(), from)
		port.WriteToUDPAddrPort(reply(q).encode(), from)
	})
	expect(t, a, a.target(b, 0), NoAnswer, 0)
}
