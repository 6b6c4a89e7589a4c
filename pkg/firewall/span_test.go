package firewall

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/nstest"
)

// span is a lab with more hosts, "b" and "c", each on an underlay link of its own to
// the first, which routes between them.
type span struct {
	*lab
	six    bool // the underlay is IPv6
	hosts  []string
	unders [][2]string // underlay address of each, IPv4 and IPv6
}

func newSpan(t *testing.T, backend string, six bool, hosts ...string) *span {
	s := &span{lab: newLab(t, backend, false), six: six, hosts: append([]string{"host"}, hosts...)}
	s.unders = [][2]string{{"198.18.2.1", "2001:db8:2::1"}, {"198.18.2.2", "2001:db8:2::2"}, {"198.18.3.2", "2001:db8:3::2"}}
	for i, name := range hosts {
		s.outside(name, fmt.Sprint("198.18.", i+2), fmt.Sprint("2001:db8:", i+2))
		s.at(name, func() {
			s.sysctl("ipv4/ip_forward", "1")
			s.sysctl("ipv6/conf/all/forwarding", "1")
		})
	}
	return s
}

// at runs fn on a host.
func (s *span) at(name string, fn func()) {
	s.t.Helper()
	if s.ns[name] == "" {
		fn()
		return
	}
	nstest.In(s.t, s.ns[name], fn)
}

func (s *span) under(host int) netip.Addr {
	family := 0
	if s.six {
		family = 1
	}
	return netip.MustParseAddr(s.unders[host][family])
}

// overlay makes a network's device and bridge on all hosts: its number is the VNI
// and in the addresses, with the host's number behind it.
func (s *span) overlay(number int) *Rules {
	for me, name := range s.hosts {
		s.at(name, func() { s.tunnel(number, me) })
	}
	return &Rules{Backend: s.backend, Bridge: fmt.Sprint("overlay", number), Overlay: fmt.Sprint("vxlan", number), Masquerade: true}
}

func (s *span) tunnel(number, me int) {
	dev, br := fmt.Sprint("vxlan", number), fmt.Sprint("overlay", number)
	mac := func(host int) string { return fmt.Sprintf("02:00:00:00:%02x:%02x", number, host) }
	at4 := func(host int) string { return fmt.Sprintf("10.%d.%d.0", number, host) }
	at6 := func(host int) string { return fmt.Sprintf("fd00:%d:0:%d::", number, host) }
	var fdb, ip strings.Builder
	fmt.Fprintf(&ip, "link add %s type bridge\nlink set %s up\n", br, br)
	fmt.Fprintf(&ip, "link add %s address %s mtu 1400 type vxlan id %d dstport 4789 local %s nolearning\n", dev, mac(me), number, s.under(me))
	fmt.Fprintf(&ip, "link set %s addrgenmode none\n", dev)
	fmt.Fprintf(&ip, "addr add 10.%d.%d.1/24 dev %s\n", number, me, br)
	fmt.Fprintf(&ip, "addr add %s1/64 dev %s nodad\n", at6(me), br)
	fmt.Fprintf(&ip, "addr add %s/32 dev %s\naddr add %s/128 dev %s nodad\n", at4(me), dev, at6(me), dev)
	fmt.Fprintf(&ip, "link set %s up\n", dev)
	fmt.Fprintf(&ip, "route add unreachable 10.%d.0.0/16 metric 4278198272\n", number)
	fmt.Fprintf(&ip, "route add unreachable fd00:%d::/48 metric 4278198272\n", number)
	for peer := range s.hosts {
		if peer == me {
			continue
		}
		fmt.Fprintf(&fdb, "fdb append %s dev %s dst %s\n", mac(peer), dev, s.under(peer))
		for _, next := range []string{at4(peer) + "/24", at6(peer) + "/64"} {
			via, _, _ := strings.Cut(next, "/")
			fmt.Fprintf(&ip, "neigh replace %s lladdr %s dev %s nud permanent\n", via, mac(peer), dev)
			fmt.Fprintf(&ip, "route add %s via %s dev %s onlink\n", next, via, dev)
		}
	}
	s.batch("ip", ip.String())
	s.batch("bridge", fdb.String())
	s.sysctl("ipv4/conf/"+dev+"/rp_filter", "2")
}

func (s *span) batch(program, lines string) {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "lines")
	if err := os.WriteFile(file, []byte(lines), 0o644); err != nil {
		s.t.Fatal(err)
	}
	run(s.t, program+" -batch "+file)
}

// member attaches a container on a host. Its addresses end in 2.
func (s *span) member(name string, host int, r *Rules, ports ...attach.Port) *attach.Attachment {
	s.t.Helper()
	var a *attach.Attachment
	number := strings.TrimPrefix(r.Bridge, "overlay")
	v4, v6 := fmt.Sprintf("10.%s.%d.", number, host), fmt.Sprintf("fd00:%s:0:%d::", number, host)
	s.at(s.hosts[host], func() {
		s.node(name, v4+"2/24", v6+"2/64", v4+"1", v6+"1")
		s.ip("link set v-" + name + " master " + r.Bridge)
		a = attachment(name, []string{v4 + "2/24", v6 + "2/64"}, ports...)
		a.Network, a.Steps = r.Bridge, []attach.Step{r}
		if err := r.Add(s.t.Context(), &attach.Adding{Attachment: a}); err != nil {
			s.t.Fatal(err)
		}
	})
	return a
}

// sync has a host know its tunnels: all hosts but the third are peers.
func (s *span) sync(host int, all ...*Rules) {
	s.t.Helper()
	var tunnels []Tunnel
	for _, r := range all {
		t := *r.tunnel()
		t.Port = 4789
		_, _ = fmt.Sscanf(r.Overlay, "vxlan%d", &t.VNI)
		for peer := range 2 {
			t.Peers = append(t.Peers, s.vtep(peer, t.VNI))
		}
		tunnels = append(tunnels, t)
	}
	s.at(s.hosts[host], func() {
		if err := SyncTunnels(s.t.Context(), s.backend, tunnels, nil); err != nil {
			s.t.Fatal(err)
		}
	})
}

// vtep is a host as a peer in a network.
func (s *span) vtep(host, number int) VTEP {
	return vtep(s.under(host).String(), fmt.Sprintf("10.%d.%d.0/24", number, host), fmt.Sprintf("fd00:%d:0:%d::/64", number, host))
}

func (s *span) both(what, from, net string, host int, want4, want6 string) {
	s.t.Helper()
	s.expectSoon(what, from, "tcp", fmt.Sprintf("10.%s.%d.2:80", net, host), want4)
	s.expectSoon(what, from, "tcp", fmt.Sprintf("[fd00:%s:0:%d::2]:80", net, host), want6)
}
