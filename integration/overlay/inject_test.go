package overlay

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
)

// injection is a lab of two hosts whose containers try to speak as others. On each host,
// "plain" is a container of a masqueraded bridge network, "other" one of a network that
// Berth does not know (Docker's, say), and "held" one of the overlay.
type injection struct {
	*bed
	backend            string
	plain, other, held map[*cluster.Host]*place
}

func newInjection(t *testing.T, backend string, underlay6 bool) *injection {
	x := &injection{backend: backend, plain: map[*cluster.Host]*place{}, other: map[*cluster.Host]*place{}, held: map[*cluster.Host]*place{}}
	x.bed = newBed(t, 2, options{underlay6: underlay6, firewall: backend})
	for _, h := range x.members() {
		x.held[h] = x.container(h, "held-"+h.Name)
		x.plain[h] = x.bridged(h, "plain-"+h.Name)
		x.other[h] = x.foreign(h, "other-"+h.Name)
		x.shell(h, "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $f; done")
	}
	return x
}

// bridged attaches a container to a network of the bridge plugin, which hides it.
func (x *injection) bridged(h *cluster.Host, name string) *place {
	x.t.Helper()
	n, err := h.Network(fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "plain", "plugins": [{"type": "bridge", "bridge": "plain0",
		"isDefaultGateway": true, "ipMasq": true, "ipMasqBackend": %q,
		"ipam": {"type": "berth-ipam", "ranges": [[{"subnet": "172.30.0.0/24"}], [{"subnet": "fd00:30::/64"}]]}}]}`, x.backend), x.bin)
	must(x.t, err)
	c, err := h.Container(name)
	must(x.t, err)
	text, err := n.AddJSON(c)
	must(x.t, err)
	p := &place{Container: c, host: h}
	var result struct {
		IPs []struct{ Address netip.Prefix }
	}
	must(x.t, json.Unmarshal([]byte(text), &result))
	for _, ip := range result.IPs {
		p.addrs = append(p.addrs, ip.Address.Addr())
	}
	return p
}

// foreign makes a container behind a bridge and a masquerade of somebody else's.
func (x *injection) foreign(h *cluster.Host, name string) *place {
	x.t.Helper()
	c, err := h.Container(name)
	must(x.t, err)
	x.shell(h, fmt.Sprintf(`set -e
		ip link add foreign0 type bridge
		ip link set foreign0 up
		ip addr add 172.31.0.1/24 dev foreign0
		ip addr add fd00:31::1/64 dev foreign0 nodad
		ip link add f0 type veth peer name eth0 netns %[1]s
		ip link set f0 master foreign0 up
		ip -n %[1]s link set eth0 up
		ip -n %[1]s addr add 172.31.0.2/24 dev eth0
		ip -n %[1]s addr add fd00:31::2/64 dev eth0 nodad
		ip -n %[1]s route add default via 172.31.0.1
		ip -n %[1]s -6 route add default via fd00:31::1
		nft add table inet foreign
		nft add chain inet foreign post '{ type nat hook postrouting priority srcnat; }'
		nft add rule inet foreign post oifname eth0 ip saddr 172.31.0.0/24 masquerade
		nft add rule inet foreign post oifname eth0 ip6 saddr fd00:31::/64 masquerade`, name))
	return &place{Container: c, host: h, addrs: []netip.Addr{netip.MustParseAddr("172.31.0.2"), netip.MustParseAddr("fd00:31::2")}}
}

func (x *injection) shell(h *cluster.Host, script string) {
	x.t.Helper()
	_, err := h.Output("sh", "-c", script)
	must(x.t, err)
}

// under is a host's VTEP.
func (x *injection) under(h *cluster.Host) netip.Addr {
	if x.underlay6 {
		return h.Addr6
	}
	return h.Addr4
}

// victimPort is where the victims, the overlay's containers, listen.
const victimPort = 7000

// victims collect the texts of the datagrams that arrive at the overlay's containers.
type victims struct{ sockets []*net.UDPConn }

func (x *injection) listen() *victims {
	v := &victims{}
	for _, p := range x.held {
		must(x.t, p.Do(func() error {
			at, err := net.ListenUDP("udp", &net.UDPAddr{Port: victimPort})
			v.sockets = append(v.sockets, at)
			return err
		}))
	}
	x.t.Cleanup(func() {
		for _, at := range v.sockets {
			at.Close()
		}
	})
	return v
}

// arrived are the texts that have come, a moment after the last was sent.
func (v *victims) arrived() map[string]bool {
	texts := map[string]bool{}
	time.Sleep(200 * time.Millisecond)
	for _, at := range v.sockets {
		for buf := make([]byte, 2000); ; {
			_ = at.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			n, _, err := at.ReadFromUDP(buf)
			if err != nil {
				break
			}
			texts[string(buf[:n])] = true
		}
	}
	return texts
}

// attack is a packet that nobody may send. bare: it arrives where nothing but the kernel
// by itself, without a reverse path filter, is in its way. fair: anybody may send it.
type attack struct {
	name       string
	send       func(text string) error
	bare, fair bool
}

// attacks are those of the containers of one host, and of the host itself, on both.
func (x *injection) attacks(one, two *cluster.Host) (all []attack) {
	x.t.Helper()
	service := x.service(one, two)
	for kind, from := range map[string]*place{"plain": x.plain[one], "other": x.other[one], "held": x.held[one]} {
		for family := range 2 {
			all = append(all, x.outer(one, two, kind, from, service, family)...)
			if kind != "held" {
				all = append(all, x.poses(one, two, kind, from, family)...)
			}
		}
	}
	own := x.held[one].addrs[0].Next()
	far := x.held[two].addrs[0]
	gateway := x.gateway(one, "held")
	for what, source := range map[string]netip.Addr{
		"a container of another host": far.Next(), "a third host's": netip.MustParseAddr("10.42.200.9"),
		"its own block": own, "the outside": netip.MustParseAddr("198.51.100.7"),
	} {
		all = append(all, attack{name: "held, as " + what, bare: true, send: func(text string) error {
			return pose(x.held[one], gateway, datagram(source, netip.AddrPortFrom(far, victimPort), []byte(text)))
		}}, attack{name: "a host's own VXLAN, inside from " + what, bare: true, fair: source == own, send: func(text string) error {
			return say(one, x.vtep(two), x.frame(two, one.Name, source, far, text))
		}})
	}
	for i := range all {
		all[i].name = one.Name + "→" + two.Name + ": " + all[i].name
	}
	return all
}

func (x *injection) vtep(h *cluster.Host) netip.AddrPort {
	n := x.definition(h, "blue")
	return netip.AddrPortFrom(x.under(h), uint16(n.Port))
}

// service is an address that a host translates to the other's VTEP, as kube-proxy does with
// a service without a selector.
func (x *injection) service(one, two *cluster.Host) netip.AddrPort {
	x.t.Helper()
	address, family := netip.MustParseAddr("203.0.113.9"), "ip"
	if x.underlay6 {
		address, family = netip.MustParseAddr("2001:db8:113::9"), "ip6"
	}
	x.shell(one, fmt.Sprintf(`nft add chain inet foreign pre '{ type nat hook prerouting priority dstnat; }'
		nft add rule inet foreign pre %[1]s daddr %[2]s udp dport 53 dnat %[1]s to %[3]s
		ip route add %[2]s via %[4]s`, family, address, x.vtep(two), x.under(two))) // somewhere beyond the underlay
	return netip.AddrPortFrom(address, 53)
}

// outer are VXLAN packets of a container.
func (x *injection) outer(one, two *cluster.Host, kind string, from *place, service netip.AddrPort, family int) []attack {
	gateway, mine, far := x.gateway(one, kind), x.held[one].addrs[family], x.held[two].addrs[family]
	there := func(text string) []byte { return x.frame(two, one.Name, mine, far, text) }
	all := []attack{
		{name: "through the masquerade", bare: true, send: func(text string) error { return say(from, x.vtep(two), there(text)) }},
		{name: "in fragments through the masquerade", bare: true, send: func(text string) error {
			return say(from, x.vtep(two), append(there(text), make([]byte, 2000)...))
		}},
		{name: "translated by the host to a peer", bare: true, send: func(text string) error { return say(from, service, there(text)) }},
		{name: "as a peer to its own host", bare: true, send: func(text string) error {
			return pose(from, gateway, datagram(x.under(two), x.vtep(one), x.frame(one, two.Name, far, mine, text)))
		}},
		{name: "as its own host to a peer", bare: x.underlay6, send: func(text string) error { // IPv4 knows by itself
			return pose(from, gateway, datagram(x.under(one), x.vtep(two), there(text)))
		}},
	}
	for i := range all {
		all[i].name = fmt.Sprint(kind, ", inner IPv", 4+2*family, ", ", all[i].name)
	}
	return all
}

// poses are plain packets of a container of another network in the name of the overlay's.
func (x *injection) poses(one, two *cluster.Host, kind string, from *place, family int) (all []attack) {
	gateway, near, far := x.gateway(one, kind), x.held[one].addrs[family], x.held[two].addrs[family]
	for what, way := range map[string][2]netip.Addr{
		"as a container of its host to another host": {near, far},
		"as a container of another host to its host": {far, near},
		"as a container of its host to another one":  {near.Next(), near},
	} {
		all = append(all, attack{name: fmt.Sprint(kind, ", IPv", 4+2*family, ", ", what), bare: true, send: func(text string) error {
			return pose(from, gateway, datagram(way[0], netip.AddrPortFrom(way[1], victimPort), []byte(text)))
		}})
	}
	return all
}

// gateway is the MAC of what the containers of a kind have as their gateway.
func (x *injection) gateway(h *cluster.Host, kind string) net.HardwareAddr {
	x.t.Helper()
	n := x.definition(h, "blue")
	bridge := map[string]string{"plain": "plain0", "other": "foreign0", "held": n.Bridge()}[kind]
	out, err := h.Output("cat", "/sys/class/net/"+bridge+"/address")
	must(x.t, err)
	mac, err := net.ParseMAC(strings.TrimSpace(out))
	must(x.t, err)
	return mac
}

// dropped are the packets that the host's counters have counted.
func dropped(t *testing.T, h *cluster.Host) map[string]int {
	t.Helper()
	out, err := h.Output("nft", "-j", "list", "counters")
	must(t, err)
	var list struct {
		Nftables []struct {
			Counter *struct {
				Name    string
				Packets int
			}
		}
	}
	must(t, json.Unmarshal([]byte(out), &list))
	counted := map[string]int{}
	for _, c := range list.Nftables {
		if c.Counter != nil {
			counted[c.Counter.Name] = c.Counter.Packets
		}
	}
	return counted
}

// TestInject has containers and hosts speak as others, with the agents stopped: of
// many packets none arrives, each is counted, and who may speak is heard. Without
// the firewall's sets they arrive: the test can fail.
func TestInject(t *testing.T) {
	for _, c := range []struct {
		backend   string
		underlay6 bool
	}{{"nftables", false}, {"nftables", true}, {"iptables", false}} {
		t.Run(fmt.Sprintf("%s,IPv6=%v", c.backend, c.underlay6), func(t *testing.T) {
			x := newInjection(t, c.backend, c.underlay6)
			v := x.listen()
			one, two := x.Hosts[0], x.Hosts[1]
			attacks := append(x.attacks(one, two), x.attacks(two, one)...)
			for _, h := range x.members() {
				x.agents[h].Pause()
				defer x.agents[h].Resume()
			}
			send := func() map[string]bool {
				t.Helper()
				for _, a := range attacks {
					if err := a.send(a.name); err != nil {
						t.Errorf("%s: %v", a.name, err)
					}
				}
				return v.arrived()
			}
			got := send()
			for _, a := range attacks {
				if got[a.name] != a.fair {
					t.Errorf("arrived: %v, want %v: %s", got[a.name], a.fair, a.name)
				}
			}
			for _, h := range x.members() {
				sum := 0
				got := dropped(t, h)
				for _, packets := range got {
					sum += packets
				}
				t.Logf("%d attacks; %s dropped %v", len(attacks), h.Name, got)
				for _, name := range []string{"injected", "inner", "foreign", "spoofed_ip"} {
					if got[name] == 0 {
						t.Errorf("%s: nothing counted as %s", h.Name, name)
					}
				}
			}
			x.reaches(x.held[one], x.held[two])
			for _, h := range x.members() {
				x.shell(h, `nft delete table inet berth; nft delete table bridge berth
					nft add rule inet foreign post oifname eth0 ip saddr != 192.168.0.0/16 ip daddr != 10.42.0.0/16 masquerade
					nft add rule inet foreign post oifname eth0 ip6 saddr fd00::/16 masquerade`)
			}
			bare := send()
			for _, a := range attacks {
				if a.bare && !bare[a.name] {
					t.Errorf("without the firewall, it does not arrive either: %s", a.name)
				}
			}
		})
	}
}
