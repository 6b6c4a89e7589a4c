package probe

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/nstest"
)

const testVNI = 42

// host is one end of an overlay: a namespace with an underlay interface eth0 and a
// VXLAN device made by hand.
type host struct {
	ns       string
	name     string // of ns, for ip netns
	underlay netip.Prefix
	inner    [2]netip.Addr // IPv4, IPv6
}

func (h *host) mac() string { return fmt.Sprintf("02:00:00:00:00:%02x", h.inner[0].As4()[2]) }

// ip runs ip(8) in the host, one command in each line.
func (h *host) ip(t testing.TB, commands string) {
	t.Helper()
	for line := range strings.Lines(commands) {
		if args := strings.Fields(line); len(args) > 0 {
			h.run(t, "ip", args...)
		}
	}
}

func (h *host) run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := nstest.Output("ip", append([]string{"netns", "exec", h.name, name}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// in runs fn in the host's namespace.
func (h *host) in(t testing.TB, fn func()) {
	t.Helper()
	nstest.In(t, h.ns, fn)
}

func (h *host) target(peer *host, family int) Target {
	mtu := 1450
	if h.underlay.Addr().Is6() {
		mtu = 1430
	}
	return Target{Peer: peer.inner[family], Local: h.inner[family], Device: "vxlan42", VNI: testVNI, MTU: mtu, Alive: true}
}

// probe asks the peer with short waits.
func (h *host) probe(t testing.TB, target Target) Verdict {
	t.Helper()
	var v Verdict
	h.in(t, func() { v = (&Prober{Wait: 70 * time.Millisecond}).Probe(t.Context(), target) })
	return v
}

// listen starts responders on both inner addresses.
func (h *host) listen(t testing.TB) (responders [2]*Responder) {
	t.Helper()
	for i, addr := range h.inner {
		known := func(a netip.Addr) bool { return addr.Is4() == a.Is4() && a.As16()[15] == 0 }
		h.in(t, func() {
			r, err := Listen(addr, "vxlan42", testVNI, known)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { r.Close() })
			responders[i] = r
		})
	}
	return responders
}

// underlay is how the hosts of a test are joined.
type underlay struct {
	six     bool
	options string // of the VXLAN devices
	cable   func(t testing.TB, a, b *host)
}

// pair makes two hosts with an overlay between them.
func pair(t testing.TB, u underlay) (a, b *host) {
	t.Helper()
	if u.cable == nil {
		u.cable = straight
	}
	hosts := make([]*host, 2)
	for i := range hosts {
		n := i + 1
		h := &host{ns: nstest.Namespace(t)}
		h.name = h.ns[strings.LastIndex(h.ns, "/")+1:]
		h.underlay = netip.MustParsePrefix(fmt.Sprintf("192.0.2.%d/24", n))
		if u.six {
			h.underlay = netip.MustParsePrefix(fmt.Sprintf("2001:db8::%d/64", n))
		}
		h.inner = [2]netip.Addr{
			netip.MustParseAddr(fmt.Sprintf("10.42.%d.0", n)),
			netip.MustParseAddr(fmt.Sprintf("fd00:42:0:%d::", n)),
		}
		h.ip(t, "link set lo up")
		hosts[i] = h
	}
	a, b = hosts[0], hosts[1]
	u.cable(t, a, b)
	for i, h := range hosts {
		peer := hosts[1-i]
		mtu := h.target(peer, 0).MTU
		h.ip(t, fmt.Sprintf(`
			link add vxlan42 address %[1]s mtu %[2]d type vxlan id 42 dstport 4789 local %[3]s nolearning %[4]s
			link set vxlan42 addrgenmode none
			link set vxlan42 up
			addr add %[5]s/32 dev vxlan42
			addr add %[6]s/128 dev vxlan42 nodad
			neigh add %[7]s lladdr %[9]s dev vxlan42 nud permanent
			neigh add %[8]s lladdr %[9]s dev vxlan42 nud permanent
			route add %[7]s/24 via %[7]s dev vxlan42 onlink
			route add %[8]s/64 via %[8]s dev vxlan42 onlink`,
			h.mac(), mtu, h.underlay.Addr(), u.options,
			h.inner[0], h.inner[1], peer.inner[0], peer.inner[1], peer.mac()))
		h.run(t, "bridge", "fdb", "add", peer.mac(), "dev", "vxlan42", "dst", peer.underlay.Addr().String(), "self", "permanent")
	}
	// IPv6 takes a moment.
	for try := 0; ; try++ {
		if err := nstest.Run("ip", "netns", "exec", a.name, "ping", "-c1", "-W0.2", b.underlay.Addr().String()); err == nil {
			break
		} else if try == 40 {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return a, b
}

// straight joins the hosts by a veth pair.
func straight(t testing.TB, a, b *host) {
	t.Helper()
	a.ip(t, "link add eth0 type veth peer name eth0 netns "+b.name)
	for _, h := range []*host{a, b} {
		h.ip(t, fmt.Sprintf("addr add %s dev eth0 nodad\nlink set eth0 up", h.underlay))
	}
}

// routed joins them by a router whose second cable, to b, has a smaller MTU. It is
// by proxy ARP, so that the hosts think they are on one link of 1500 bytes.
func routed(mtu int) func(t testing.TB, a, b *host) {
	return func(t testing.TB, a, b *host) {
		t.Helper()
		ns := nstest.Namespace(t)
		router := &host{ns: ns, name: ns[strings.LastIndex(ns, "/")+1:]}
		for i, h := range []*host{a, b} {
			port := fmt.Sprintf("port%d", i)
			router.ip(t, fmt.Sprintf("link add %s type veth peer name eth0 netns %s", port, h.name))
			router.run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
			if i == 1 {
				// Only the router's end, as with a tunnel: the host does not know.
				router.ip(t, fmt.Sprintf("link set %s mtu %d", port, mtu))
			}
			gateway := map[bool]string{true: fmt.Sprintf("198.51.100.%d", i+1), false: fmt.Sprintf("2001:db8:ffff::%d", i+1)}[h.underlay.Addr().Is4()]
			bits := h.underlay.Addr().BitLen()
			router.ip(t, fmt.Sprintf(`
				addr add %[1]s/%[2]d dev %[3]s nodad
				link set %[3]s up
				route add %[4]s/%[2]d dev %[3]s`, gateway, bits, port, h.underlay.Addr()))
			h.ip(t, fmt.Sprintf(`
				addr add %[1]s/%[2]d dev eth0 nodad
				link set eth0 up
				route add %[3]s/%[2]d dev eth0
				route add default via %[3]s dev eth0 onlink`, h.underlay.Addr(), bits, gateway))
		}
	}
}
