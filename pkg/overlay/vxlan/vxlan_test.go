package vxlan

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// node is a host of a test: a network namespace on the underlay.
type node struct {
	id   int
	path string // of the namespace
	v6   bool   // of the underlay
}

func (n node) name() string { return fmt.Sprintf("host-%d", n.id) }

func (n node) underlay() netip.Addr {
	if n.v6 {
		return netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", n.id))
	}
	return netip.AddrFrom4([4]byte{192, 0, 2, byte(n.id)})
}

func (n node) mac() net.HardwareAddr { return net.HardwareAddr{2, 0x42, 0, 0, 0, byte(n.id)} }

func (n node) inner4() netip.Addr { return netip.AddrFrom4([4]byte{10, 42, byte(n.id), 0}) }

func (n node) inner6() netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("fd00:42:0:%x::", n.id))
}

func (n node) peer() Peer {
	return Peer{Name: n.name(), Underlay: n.underlay(), MAC: n.mac(),
		Blocks: []netip.Prefix{netip.PrefixFrom(n.inner4(), 24), netip.PrefixFrom(n.inner6(), 64)}}
}

func (n node) device() Device {
	mtu := 1450
	if n.v6 {
		mtu = 1430
	}
	return Device{Name: "vxlan42", VNI: 42, Port: 4789, MTU: mtu, MAC: n.mac(), Local: n.underlay(),
		Addresses: []netip.Addr{n.inner4(), n.inner6()},
		Subnets:   []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16"), netip.MustParsePrefix("fd00:42::/48")}}
}

func run(t testing.TB, cmd string) {
	t.Helper()
	f := strings.Fields(cmd)
	if err := nstest.Run(f[0], f[1:]...); err != nil {
		t.Fatal(err)
	}
}

func output(t testing.TB, cmd string) string {
	t.Helper()
	f := strings.Fields(cmd)
	out, err := nstest.Output(f[0], f[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// hosts makes n hosts on one bridge, which is in the test's own namespace.
func hosts(t testing.TB, n int, v6 bool) []node {
	t.Helper()
	nstest.Host(t)
	run(t, "ip link add under type bridge")
	run(t, "ip link set under up")
	var all []node
	for i := 1; i <= n; i++ {
		h := node{i, nstest.Namespace(t), v6}
		ns := h.path[strings.LastIndex(h.path, "/")+1:]
		run(t, fmt.Sprintf("ip link add u%d type veth peer name eth0 netns %s", i, ns))
		run(t, fmt.Sprintf("ip link set u%d master under up", i))
		run(t, fmt.Sprintf("ip -n %s link set lo up", ns))
		if !v6 { // a link-local address comes a second later, into a state that rests
			run(t, fmt.Sprintf("ip -n %s link set eth0 addrgenmode none", ns))
		}
		run(t, fmt.Sprintf("ip -n %s link set eth0 up", ns))
		bits := 24
		if v6 {
			bits = 64
		}
		add := fmt.Sprintf("ip -n %s address add %s/%d dev eth0", ns, h.underlay(), bits)
		if v6 {
			add += " nodad"
		}
		run(t, add)
		all = append(all, h)
	}
	return all
}

// alone moves the test to a host with an underlay that leads nowhere.
func alone(t testing.TB) node {
	t.Helper()
	nstest.Host(t)
	n := node{id: 1}
	run(t, "ip link add br9 type bridge")
	run(t, "ip link add eth0 type bridge")
	run(t, "ip link set eth0 addrgenmode none")
	run(t, "ip link set eth0 up")
	run(t, "ip address add 192.0.2.1/24 dev eth0")
	return n
}

func open(t testing.TB) *Host {
	t.Helper()
	h, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func plane(t testing.TB, h *Host, d Device, peers ...Peer) *Plane {
	t.Helper()
	p, err := h.Plane(d)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.SetPeers(peers); err != nil {
		t.Fatal(err)
	}
	return p
}

func mustSync(t testing.TB, p *Plane) Changes {
	t.Helper()
	c, err := p.Sync()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// join makes the network on all hosts.
func join(t testing.TB, all []node) []*Plane {
	t.Helper()
	var planes []*Plane
	for _, n := range all {
		nstest.In(t, n.path, func() {
			var peers []Peer
			for _, o := range all {
				if o.id != n.id {
					peers = append(peers, o.peer())
				}
			}
			p := plane(t, open(t), n.device(), peers...)
			mustSync(t, p)
			planes = append(planes, p)
		})
	}
	return planes
}

var volatile = regexp.MustCompile(`(?m)^\d+: |\bused \S+|\bage \S+|if\d+|\bsec\b`)

// state is what the kernel has, in words.
func state(t testing.TB) string {
	t.Helper()
	var all []string
	for _, cmd := range []string{"ip -d link show dev vxlan42", "ip -4 address show dev vxlan42", "ip -6 address show dev vxlan42",
		"bridge fdb show dev vxlan42", "ip neigh show dev vxlan42 nud permanent", "ip -6 neigh show dev vxlan42 nud permanent",
		"ip -4 route show table all", "ip -6 route show table all",
		"sysctl net.ipv4.conf.vxlan42.rp_filter net.ipv6.conf.vxlan42.accept_ra net.ipv6.conf.vxlan42.disable_ipv6"} {
		out, err := nstest.Output("sh", "-c", cmd)
		if err != nil {
			out = "none\n"
		}
		lines := strings.Split(volatile.ReplaceAllString(out, ""), "\n")
		if !strings.Contains(cmd, "link") && !strings.Contains(cmd, "address") {
			slices.Sort(lines)
		}
		all = append(all, "# "+cmd, strings.Join(lines, "\n"))
	}
	return strings.Join(all, "\n")
}

// resting returns the state once it does not change any more.
func resting(t testing.TB) string {
	t.Helper()
	s := state(t)
	for range 50 {
		time.Sleep(20 * time.Millisecond)
		again := state(t)
		if again == s {
			break
		}
		s = again
	}
	return s
}

// settled returns the state once it is what is wanted, or what it is after a second:
// the kernel makes an IPv6 address's own route in the background.
func settled(t testing.TB, want string) string {
	t.Helper()
	for range 50 {
		if state(t) == want {
			return want
		}
		time.Sleep(20 * time.Millisecond)
	}
	return state(t)
}
