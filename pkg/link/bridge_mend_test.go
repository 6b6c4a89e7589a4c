package link

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/proc"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"github.com/berth-cni/berth/pkg/link/internal/linktest"
	"github.com/berth-cni/berth/pkg/nstest"
)

// Whatever somebody changes of a bridge, Check says it, the next Add puts it back, and
// the containers' neighbour entries stay right.
func TestBridgeIsMended(t *testing.T) {
	for change, want := range map[string]string{
		"ip link del berth0":                               "berth0",
		"ip link set berth0 down":                          "is down",
		"ip address flush dev berth0":                      "lacks its gateway address",
		"ip address del 10.88.0.1/16 dev berth0":           "lacks its gateway address 10.88.0.1/16",
		"ip address del fd00:88::1/64 dev berth0":          "lacks its gateway address fd00:88::1/64",
		"ip route del 10.88.0.0/16 dev berth0":             "no route to 10.88.0.0/16",
		"ip -6 route del fd00:88::/64 dev berth0":          "no route to fd00:88::/64",
		"ip link set berth0 address 02:11:22:33:44:55":     "02:11:22:33:44:55",
		"ip link set berth0 mtu 9000":                      "MTU 9000",
		"ip link set berth0 promisc off":                   "promiscuous",
		"sysctl -qw net.ipv6.conf.berth0.accept_ra=1":      "accept_ra",
		"sysctl -qw net.ipv6.conf.berth0.disable_ipv6=1":   "disable_ipv6",
		"sysctl -qw net.ipv4.conf.berth0.route_localnet=0": "route_localnet",
		"sysctl -qw net.ipv4.conf.berth0.rp_filter=1":      "rp_filter",
		"sysctl -qw net.ipv4.conf.all.rp_filter=1":         "rp_filter",
	} {
		t.Run(change, func(t *testing.T) {
			nstest.Host(t)
			shell(t, "ip link add up0 type veth peer name up1", "ip link set up0 up", "ip link set up1 up",
				"ip address add 192.0.2.2/24 dev up0", "ip route add default via 192.0.2.1")
			a := &attach.Adding{Attachment: linktest.Attachment(t, "c1", 2)}
			a.Ports = []attach.Port{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}}
			b := &Bridge{Name: "berth0", Gateway: true, Promisc: true}
			add := func() {
				t.Helper()
				if err := b.Add(t.Context(), a); err != nil {
					t.Fatal(err)
				}
				if err := b.Check(t.Context(), a.Attachment); err != nil {
					t.Fatalf("after Add, Check says: %v", err)
				}
			}
			add()
			mac := a.Interfaces[0].MAC
			shell(t, change)
			if err := b.Check(t.Context(), a.Attachment); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Check says %v, want %q", err, want)
			}
			add()
			if now := a.Interfaces[len(a.Interfaces)-1].MAC; now != mac {
				t.Errorf("the MAC was %s, and is %s", mac, now)
			}
			if out, err := nstest.Output("ip", "-o", "address", "show", "dev", "berth0"); err != nil || !strings.Contains(out, "10.88.0.1/16") || !strings.Contains(out, "fd00:88::1/64") {
				t.Errorf("addresses: %s (%v)", out, err)
			}
			if out, err := nstest.Output("ip", "route", "show", "dev", "berth0"); err != nil || !strings.Contains(out, "10.88.0.0/16 proto kernel scope link src 10.88.0.1") {
				t.Errorf("routes: %s (%v)", out, err)
			}
		})
	}
}

// The MTU follows the way out, as the host's routing policy has it, downwards.
func TestBridgeMTUFollows(t *testing.T) {
	nstest.Host(t)
	mtu := func(name string) int {
		t.Helper()
		c, err := iface.Dial()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		d, err := c.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		return d.MTU
	}
	a := &attach.Adding{Attachment: linktest.Attachment(t, "c1", 2)}
	b := &Bridge{Name: "berth0", Gateway: true}
	add := func(want int) {
		t.Helper()
		a.Interfaces = nil
		if err := b.Add(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		if got := mtu("berth0"); got != want || a.Interfaces[0].MTU != want {
			t.Errorf("MTU %d, and %d in the result, want %d", got, a.Interfaces[0].MTU, want)
		}
	}
	add(1500) // before there is a way out
	shell(t, "ip link add up0 type veth peer name up1", "ip link set up0 up mtu 1380", "ip link set up1 up",
		"ip address add 192.0.2.2/24 dev up0", "ip route add default via 192.0.2.1")
	if err := b.Check(t.Context(), a.Attachment); err == nil || !strings.Contains(err.Error(), "MTU 1500") {
		t.Errorf("Check says %v", err)
	}
	add(1380)
	// A VPN in a table of its own, as wg-quick makes it.
	shell(t, "ip link add wg0 type veth peer name wg1", "ip link set wg0 up mtu 1320", "ip link set wg1 up",
		"ip address add 198.51.100.2/24 dev wg0", "ip route add default via 198.51.100.1 table 51820",
		"ip rule add not fwmark 51820 table 51820", "ip rule add table main suppress_prefixlength 0")
	add(1320)
	shell(t, "ip link set wg0 mtu 1500", "ip route replace default via 198.51.100.1 table 51820 mtu 1300")
	add(1300)
	shell(t, "ip route replace default via 198.51.100.1 table 51820")
	add(1300) // not upwards: ports that are there could not take it
	// Routes that lead nowhere are no way out.
	shell(t, "ip route flush table 51820", "ip route del default", "ip route add local default dev lo", "ip -6 route add blackhole default")
	add(1300)
}

// Of several ways out the MTU is the smallest.
func TestBridgeMTUOfSeveralWays(t *testing.T) {
	for _, route := range []string{
		"ip route add default nexthop via 192.0.2.1 nexthop via 198.51.100.1",
		"ip -6 route add default nexthop via 2001:db8::1 nexthop via 2001:db8:1::1",
	} {
		t.Run(route, func(t *testing.T) {
			nstest.Host(t)
			shell(t, "ip link add up0 type veth peer name up1", "ip link set up0 up mtu 1450", "ip link set up1 up",
				"ip link add wan0 type veth peer name wan1", "ip link set wan0 up mtu 1340", "ip link set wan1 up",
				"ip address add 192.0.2.2/24 dev up0", "ip address add 198.51.100.2/24 dev wan0",
				"ip -6 address add 2001:db8::2/64 dev up0 nodad", "ip -6 address add 2001:db8:1::2/64 dev wan0 nodad", route)
			a := &attach.Adding{Attachment: linktest.Attachment(t, "c1", 2)}
			b := &Bridge{Name: "berth0", Gateway: true}
			if err := b.Add(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			if got := a.Interfaces[0].MTU; got != 1340 {
				t.Errorf("MTU %d, want 1340", got)
			}
		})
	}
}

// A configured MTU is that of a bridge that has to be made, unless it is the network's.
func TestBridgeMTUConfigured(t *testing.T) {
	nstest.Host(t)
	a := &attach.Adding{Attachment: linktest.Attachment(t, "c1", 2)}
	for i, c := range []struct {
		step Bridge
		want int
	}{
		{Bridge{MTU: 1450}, 1450},
		{Bridge{MTU: 1400}, 1450}, // of another network on the same bridge, perhaps
		{Bridge{MTU: 1400, FollowMTU: true}, 1400},
		{Bridge{MTU: 1450, FollowMTU: true}, 1400},
	} {
		c.step.Name, c.step.Gateway = "berth0", true
		if err := c.step.Add(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		if got := a.Interfaces[i].MTU; got != c.want {
			t.Errorf("%+v: MTU %d, want %d", c.step, got, c.want)
		}
		if low := c.step.FollowMTU && c.step.MTU > c.want; (c.step.Check(t.Context(), a.Attachment) != nil) != low {
			t.Errorf("%+v: Check: %v", c.step, c.step.Check(t.Context(), a.Attachment))
		}
	}
	// What an ADD leaves as it is, a repair puts right.
	b := Bridge{Name: "berth0", Gateway: true, MTU: 1450, FollowMTU: true}
	if err := b.Repair(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if err := b.Check(t.Context(), a.Attachment); err != nil {
		t.Error(err)
	}
}

// A bridge that somebody else made keeps what it has.
func TestBridgeOfOthers(t *testing.T) {
	nstest.Host(t)
	shell(t, "ip link add berth0 address 02:11:22:33:44:55 type bridge", "ip link set berth0 up mtu 9000",
		"ip link add up0 type veth peer name up1", "ip link set up0 up", "ip link set up1 up",
		"ip address add 192.0.2.2/24 dev up0", "ip route add default via 192.0.2.1")
	a := &attach.Adding{Attachment: linktest.Attachment(t, "c1", 2)}
	b := &Bridge{Name: "berth0", Gateway: true}
	if err := b.Add(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if err := b.Check(t.Context(), a.Attachment); err != nil {
		t.Error(err)
	}
	if i := a.Interfaces[0]; i.MAC != "02:11:22:33:44:55" || i.MTU != 9000 {
		t.Errorf("MAC %s, MTU %d", i.MAC, i.MTU)
	}
}

// TestBridgeOfOthersKeepsMAC: the MAC of a bridge that was there stays whatever containers
// come and go, and the result names it. One without a gateway goes on to follow its NIC.
func TestBridgeOfOthersKeepsMAC(t *testing.T) {
	const card, virtual, set = "90:1b:0e:11:22:33", "52:54:00:11:22:33", "02:11:22:33:44:55"
	nic := func(mac string) []string {
		return []string{"ip link add nic0 address " + mac + " type veth peer name nic1", "ip link set nic0 up", "ip link set nic1 up", "ip link set nic0 master lan0"}
	}
	for name, c := range map[string]struct {
		before  []string
		gateway bool
		want    string // empty: what it is before
		after   []string
		then    string // empty: the same
	}{
		"a card":                    {nic(card), false, card, []string{"ip link del nic0"}, ""},
		"a card and a gateway":      {nic(card), true, card, []string{"ip link del nic0"}, ""},
		"a virtual card":            {nic(virtual), false, virtual, nil, ""},
		"a card comes":              {nil, false, "fe:", nic(virtual), virtual},
		"a card comes to a gateway": {nil, true, "", nic(virtual), ""},
		"set by hand":               {[]string{"ip link set lan0 address " + set}, false, set, nic(card), ""},
		"its address is there":      {[]string{"ip address add 10.88.0.1/16 dev lan0"}, true, "", nil, ""},
		"it has lost its ports":     {append(nic(card), "ip link del nic0"), true, bridgeMAC("lan0").String(), nic(card), ""},
		"a card comes back":         {append(nic(card), "ip link del nic0"), false, "fe:", nic(card), card},
		"down":                      {[]string{"ip link set lan0 down"}, true, "", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			nstest.Host(t)
			shell(t, "ip link add lan0 type bridge", "ip link set lan0 up mtu 9000")
			shell(t, c.before...)
			want, first := c.want, ""
			if want == "" {
				want = macOf(t, "lan0")
			}
			for i := range 6 {
				a := &attach.Adding{Attachment: linktest.Attachment(t, fmt.Sprint("c", i), 2+i)}
				for _, s := range []attach.Step{&Bridge{Name: "lan0", Gateway: c.gateway}, &Veth{Bridge: "lan0"}} {
					if err := s.Add(t.Context(), a); err != nil {
						t.Fatal(err)
					}
				}
				if now := macOf(t, "lan0"); !strings.HasPrefix(now, want) || a.Interfaces[0].MAC != now {
					t.Errorf("after %d containers it is %s, want %s; the result says %s", i+1, now, want, a.Interfaces[0].MAC)
				}
				if first == "" && want != "fe:" {
					first = macOf(t, "lan0")
				}
				defer func() { _ = (&Veth{Bridge: "lan0"}).Del(t.Context(), a.Attachment) }()
			}
			shell(t, c.after...)
			if c.then == "" {
				c.then = first
			}
			if now := macOf(t, "lan0"); now != c.then {
				t.Errorf("then it is %s, want %s", now, c.then)
			}
		})
	}
}

func macOf(t *testing.T, name string) string {
	t.Helper()
	c, err := iface.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	d, err := c.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return d.MAC.String()
}

// TestBridgeOfOthersTakesAdvertisements: the host's own LAN bridge goes on to take router
// advertisements; one that leads to containers alone does not.
func TestBridgeOfOthersTakesAdvertisements(t *testing.T) {
	for name, c := range map[string]struct {
		before []string
		want   string
	}{
		"the way out":                 {[]string{"ip link set nic0 master lan0", "ip route add default via 192.0.2.9 dev lan0"}, "1"},
		"a NIC, whose router is late": {[]string{"ip link set nic0 master lan0"}, "1"},
		"none":                        {nil, "0"},
		"a container":                 {[]string{"ip netns add other", "ip link add vethx type veth peer name eth0 netns other", "ip link set vethx master lan0"}, "0"},
	} {
		t.Run(name, func(t *testing.T) {
			nstest.Host(t)
			t.Cleanup(func() { _ = nstest.Run("ip", "netns", "del", "other") })
			shell(t, "ip link add nic0 type veth peer name nic1", "ip link set nic0 up", "ip link set nic1 up",
				"ip link add lan0 type bridge", "sysctl -qw net.ipv6.conf.lan0.accept_ra=1", "ip link set lan0 up",
				"ip address add 192.0.2.2/24 dev lan0")
			shell(t, c.before...)
			a := &attach.Adding{Attachment: linktest.Attachment(t, "c1", 2)}
			b := &Bridge{Name: "lan0"}
			for range 2 {
				if err := b.Add(t.Context(), a); err != nil {
					t.Fatal(err)
				}
			}
			if err := b.Check(t.Context(), a.Attachment); err != nil {
				t.Error(err)
			}
			if got, err := proc.Read(proc.Net("ipv6", "conf", "lan0", "accept_ra")); err != nil || got != c.want {
				t.Errorf("accept_ra is %s (%v), want %s", got, err, c.want)
			}
		})
	}
}

// The kernel takes a percent sign for a template, and makes another name of it: there
// is no end of trying.
func TestBridgeOfTemplateEnds(t *testing.T) {
	nstest.Host(t)
	a := &attach.Adding{Attachment: linktest.Attachment(t, "c1", 2)}
	if err := (&Bridge{Name: "br%d", Gateway: true}).Add(t.Context(), a); err == nil {
		t.Error("made")
	}
	out, err := nstest.Output("ip", "-o", "link", "show", "type", "bridge")
	if err != nil || strings.Count(out, "\n") > 3 {
		t.Errorf("%s (%v)", out, err)
	}
}

// A second ADD of a network asks, and changes nothing.
func TestBridgeAddAgainAsks(t *testing.T) {
	nstest.Host(t)
	a := &attach.Adding{Attachment: linktest.Attachment(t, "c1", 2)}
	b := &Bridge{Name: "berth0", Gateway: true}
	if err := b.Add(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	c, err := iface.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, fault := b.look(c, a.Attachment); fault != nil {
		t.Errorf("right after Add: %v", fault)
	}
	a.Addresses = append(a.Addresses, attach.Address{Prefix: netip.MustParsePrefix("10.99.0.2/24"), Gateway: netip.MustParseAddr("10.99.0.1")})
	if _, fault := b.look(c, a.Attachment); fault == nil || !strings.Contains(fault.Error(), "10.99.0.1/24") {
		t.Errorf("with a gateway that is not there: %v", fault)
	}
}
