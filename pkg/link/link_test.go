package link

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/berth-cni/berth/pkg/steptest"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// attachment is one of a container in a new namespace, with addresses of both
// families.
func attachment(t *testing.T, container string, n int) *attach.Attachment {
	t.Helper()
	a := &attach.Attachment{
		Key:   attach.Key{Network: "web", Container: container, IfName: "eth0"},
		Netns: nstest.Namespace(t),
		Addresses: []attach.Address{
			{Prefix: netip.MustParsePrefix(fmt.Sprintf("10.88.0.%d/16", n)), Gateway: netip.MustParseAddr("10.88.0.1")},
			{Prefix: netip.MustParsePrefix(fmt.Sprintf("fd00:88::%x/64", n)), Gateway: netip.MustParseAddr("fd00:88::1")},
		},
	}
	for _, addr := range a.Addresses {
		a.Routes = append(a.Routes, DefaultRoute(addr.Gateway))
	}
	a.MAC = MAC(a)
	return a
}

// state is what the host and the attachment's container have, as a person would
// ask for it, without what changes by itself.
func state(t *testing.T, a *attach.Attachment) func() string {
	return func() string {
		var s strings.Builder
		ns := a.Netns[strings.LastIndex(a.Netns, "/")+1:]
		for _, cmd := range []string{
			"ip -br link", "ip -br -4 address", "ip -4 route", "ip -6 route show scope global",
			"ip netns exec " + ns + " ip -br link", "ip netns exec " + ns + " ip -o -4 address",
			"ip netns exec " + ns + " ip -4 route",
		} {
			f := strings.Fields(cmd)
			out, err := nstest.Output(f[0], f[1:]...)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&s, cmd, "\n", settled(out))
		}
		return s.String()
	}
}

// settled drops what follows a carrier by itself.
func settled(out string) string {
	var lines []string
	for _, line := range strings.Split(out, "\n") {
		if strings.HasPrefix(line, "fe80::") {
			continue
		}
		for _, word := range []string{"NO-CARRIER,", "M-DOWN", ",LOWER_UP", " linkdown", " DOWN ", " UP ", " UNKNOWN "} {
			line = strings.ReplaceAll(line, word, map[bool]string{true: " "}[strings.HasPrefix(word, " ")])
		}
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(lines, "\n")
}

func TestBridgeConforms(t *testing.T) {
	nstest.Host(t)
	a := attachment(t, "c1", 2)
	b := &Bridge{Name: "berth0", Gateway: true}
	steptest.Conform(t, b, a, steptest.Shared, state(t, a))
}

func TestVethConforms(t *testing.T) {
	for _, v := range []Veth{
		{}, {MTU: 1400}, {Hairpin: true}, {Isolated: true}, {NoICC: true}, {MACSpoofCheck: true}, {DAD: true},
	} {
		v.Bridge = "berth0"
		t.Run(fmt.Sprintf("%+v", v), func(t *testing.T) {
			nstest.Host(t)
			a := attachment(t, "c1", 2)
			if err := (&Bridge{Name: "berth0", Gateway: true}).Add(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			steptest.Conform(t, &v, a, steptest.Refused, state(t, a))
		})
	}
}

// two attaches two containers to one bridge.
func two(t *testing.T, br Bridge, v Veth) (a, b *attach.Attachment) {
	t.Helper()
	nstest.Host(t)
	br.Name, v.Bridge = "berth0", "berth0"
	a, b = attachment(t, "c1", 2), attachment(t, "c2", 3)
	for _, x := range []*attach.Attachment{a, b} {
		if err := br.Add(t.Context(), x); err != nil {
			t.Fatal(err)
		}
		if err := v.Add(t.Context(), x); err != nil {
			t.Fatal(err)
		}
	}
	return a, b
}

func ping(t *testing.T, from, to string) error {
	t.Helper()
	var err error
	nstest.In(t, from, func() { err = nstest.Run("ping", "-c1", "-W1", to) })
	return err
}

// The first packet must get through: the bridge forwards for the port when Add
// returns, and no address waits for duplicate address detection.
func TestReachAtOnce(t *testing.T) {
	a, _ := two(t, Bridge{Gateway: true}, Veth{})
	for _, to := range []string{"10.88.0.3", "fd00:88::3", "10.88.0.1", "fd00:88::1"} {
		if err := ping(t, a.Netns, to); err != nil {
			t.Error(err)
		}
	}
}

func TestIsolatedPorts(t *testing.T) {
	a, _ := two(t, Bridge{Gateway: true}, Veth{Isolated: true})
	if ping(t, a.Netns, "10.88.0.3") == nil {
		t.Error("isolated ports reach each other")
	}
	if err := ping(t, a.Netns, "10.88.0.1"); err != nil {
		t.Error(err)
	}
}

func TestMACSpoofCheck(t *testing.T) {
	a, _ := two(t, Bridge{Gateway: true}, Veth{MACSpoofCheck: true})
	if err := ping(t, a.Netns, "10.88.0.3"); err != nil {
		t.Errorf("with its own MAC: %v", err)
	}
	nstest.In(t, a.Netns, func() {
		if err := nstest.Run("ip", "link", "set", "eth0", "address", "02:00:00:00:00:99"); err != nil {
			t.Fatal(err)
		}
	})
	if ping(t, a.Netns, "10.88.0.3") == nil {
		t.Error("a frame with another source MAC got through")
	}
}

func TestBridgeAtBirth(t *testing.T) {
	nstest.Host(t)
	for _, cmd := range []string{
		"ip link add up0 type veth peer name up1", "ip link set up0 mtu 1400 up", "ip link set up1 up",
		"ip address add 192.0.2.2/24 dev up0", "ip route add default via 192.0.2.1",
	} {
		f := strings.Fields(cmd)
		if err := nstest.Run(f[0], f[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	a := attachment(t, "c1", 2)
	br := &Bridge{Name: "berth0", Gateway: true}
	if err := br.Add(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	mac := a.Interfaces[0].MAC
	if err := (&Veth{Bridge: "berth0"}).Add(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	c, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	d, err := c.byName("berth0")
	if err != nil {
		t.Fatal(err)
	}
	if d.mtu != 1400 {
		t.Errorf("MTU %d, want that of the default route's device, 1400", d.mtu)
	}
	if d.mac.String() != mac {
		t.Errorf("the first port changed the MAC from %s to %s", mac, d.mac)
	}
	for path, want := range map[string]string{
		sysctl("ipv6", "conf", "berth0", "accept_ra"): "0", sysctl("ipv4", "ip_forward"): "1",
		sysctl("ipv6", "conf", "all", "forwarding"): "1",
	} {
		if got, err := readSysctl(path); err != nil || got != want {
			t.Errorf("%s is %q (%v), want %q", path, got, err, want)
		}
	}
}

func TestBridgeRefusals(t *testing.T) {
	nstest.Host(t)
	a := attachment(t, "c1", 2)
	if err := (&Bridge{Name: "lo", Gateway: true}).Add(t.Context(), a); !errors.Is(err, ErrWrongKind) {
		t.Errorf("lo as a bridge: %v, want ErrWrongKind", err)
	}
	for _, cmd := range []string{"ip link add berth0 type bridge", "ip address add 172.30.0.1/24 dev berth0"} {
		f := strings.Fields(cmd)
		if err := nstest.Run(f[0], f[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	err := (&Bridge{Name: "berth0", Gateway: true}).Add(t.Context(), a)
	if err == nil || !strings.Contains(err.Error(), "172.30.0.1/24") || !strings.Contains(err.Error(), "forceAddress") {
		t.Errorf("another address: %v, want an error that names it and forceAddress", err)
	}
	if after := state(t, a)(); strings.Contains(after, "10.88.0.1") {
		t.Errorf("the refused Add left an address:\n%s", after)
	}
	if err := (&Bridge{Name: "berth0", Gateway: true, ForceAddress: true}).Add(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if out, _ := nstest.Output("ip", "-br", "address", "show", "berth0"); strings.Contains(out, "172.30.0.1") || !strings.Contains(out, "10.88.0.1/16") {
		t.Errorf("forceAddress: the bridge has %s", out)
	}
}

// Route netlink knows the settings by number; /proc/sys by name.
func TestSettings(t *testing.T) {
	nstest.Host(t)
	a := attachment(t, "c1", 2)
	a.MAC = "02:00:00:00:00:01" // nobody can know it: it is announced
	a.Ports = []attach.Port{{HostPort: 80, ContainerPort: 80, Protocol: "tcp"}}
	for _, s := range []attach.Step{&Bridge{Name: "berth0", Gateway: true}, &Veth{Bridge: "berth0"}} {
		if err := s.Add(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(path, want string) {
		t.Helper()
		if got, err := readSysctl(path); err != nil || got != want {
			t.Errorf("%s is %q (%v), want %q", path, got, err, want)
		}
	}
	expect(sysctl("ipv4", "conf", "berth0", "route_localnet"), "1")
	expect(sysctl("ipv4", "conf", "berth0", "accept_local"), "0")
	expect(sysctl("ipv6", "conf", "berth0", "accept_dad"), "0")
	nstest.In(t, a.Netns, func() {
		expect(sysctl("ipv4", "conf", "eth0", "arp_notify"), "1")
		expect(sysctl("ipv4", "conf", "eth0", "accept_local"), "0")
		expect(sysctl("ipv6", "conf", "eth0", "accept_dad"), "0")
	})
}

// A container on two networks keeps the default route of the first.
func TestTwoDefaultRoutes(t *testing.T) {
	nstest.Host(t)
	a, b := attachment(t, "c1", 2), attachment(t, "c1", 2)
	b.Network, b.IfName, b.Netns = "other", "eth1", a.Netns
	for i := range b.Addresses {
		b.Addresses[i].Prefix = netip.MustParsePrefix(strings.Replace(b.Addresses[i].Prefix.String(), "88", "99", 1))
		b.Addresses[i].Gateway = netip.MustParseAddr(strings.Replace(b.Addresses[i].Gateway.String(), "88", "99", 1))
		b.Routes[i].Gateway = netip.Addr{}
	}
	for _, x := range []struct {
		bridge string
		a      *attach.Attachment
	}{{"berth0", a}, {"berth1", b}} {
		for _, s := range []attach.Step{&Bridge{Name: x.bridge, Gateway: true}, &Veth{Bridge: x.bridge}} {
			if err := s.Add(t.Context(), x.a); err != nil {
				t.Fatal(err)
			}
			if err := s.Check(t.Context(), x.a); err != nil {
				t.Error(err)
			}
		}
	}
	nstest.In(t, a.Netns, func() {
		for to, want := range map[string]string{"192.0.2.9": "via 10.88.0.1 dev eth0", "2001:db8::9": "via fd00:88::1 dev eth0"} {
			if out, err := nstest.Output("ip", "route", "get", to); err != nil || !strings.Contains(out, want) {
				t.Errorf("%s goes %s (%v), want %s", to, out, err, want)
			}
		}
	})
}

// With DAD an address is no longer tentative when Add returns, and one that another
// host has is refused.
func TestDAD(t *testing.T) {
	nstest.Host(t)
	a, b := attachment(t, "c1", 2), attachment(t, "c2", 2)
	v := &Veth{Bridge: "berth0", DAD: true}
	if err := (&Bridge{Name: "berth0"}).Add(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if err := v.Add(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	nstest.In(t, a.Netns, func() {
		if out, err := nstest.Output("ip", "-6", "address", "show", "tentative"); err != nil || strings.Contains(out, "fd00") {
			t.Errorf("tentative: %s (%v)", out, err)
		}
	})
	b.MAC = "02:00:00:00:00:02"
	if err := v.Add(t.Context(), b); err == nil || !strings.Contains(err.Error(), "fd00:88::2") {
		t.Errorf("a duplicate: %v", err)
	}
}

// Whoever finds the bridge down finishes it.
func TestHalfMadeBridge(t *testing.T) {
	nstest.Host(t)
	if err := nstest.Run("ip", "link", "add", "berth0", "type", "bridge"); err != nil {
		t.Fatal(err)
	}
	a := attachment(t, "c1", 2)
	if err := (&Bridge{Name: "berth0", MTU: 1400}).Add(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if a.Interfaces[0].MTU != 1400 {
		t.Errorf("MTU %d, want 1400", a.Interfaces[0].MTU)
	}
}

// The kernel lets a bridge have 1,023 ports.
func TestBridgeFull(t *testing.T) {
	nstest.Host(t)
	a := attachment(t, "c1", 2)
	if err := (&Bridge{Name: "berth0"}).Add(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	var batch strings.Builder
	for i := range 1023 {
		fmt.Fprintf(&batch, "link add p%d type veth peer name q%d\nlink set p%d master berth0\n", i, i, i)
	}
	if err := nstest.Run("sh", "-c", "echo '"+batch.String()+"' | ip -batch -"); err != nil {
		t.Fatal(err)
	}
	before := state(t, a)()
	if err := (&Veth{Bridge: "berth0"}).Add(t.Context(), a); !errors.Is(err, ErrBridgeFull) {
		t.Errorf("port 1,024: %v, want ErrBridgeFull", err)
	}
	if after := state(t, a)(); after != before {
		t.Error("the refused port left something")
	}
}

func TestInterfaceExistsInContainer(t *testing.T) {
	nstest.Host(t)
	a := attachment(t, "c1", 2)
	if err := (&Bridge{Name: "berth0"}).Add(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	nstest.In(t, a.Netns, func() {
		if err := nstest.Run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "other"); err != nil {
			t.Fatal(err)
		}
	})
	before := state(t, a)()
	err := (&Veth{Bridge: "berth0"}).Add(t.Context(), a)
	if !errors.Is(err, unix.EEXIST) || !strings.Contains(err.Error(), "the container has an interface eth0") {
		t.Errorf("got %v", err)
	}
	if after := state(t, a)(); after != before {
		t.Errorf("left\n%s\nwant\n%s", after, before)
	}
}

// Each address, route and look-up that fails inside the container takes the whole
// interface with it.
func TestVethRollsBack(t *testing.T) {
	nstest.Host(t)
	a := attachment(t, "c1", 2)
	if err := (&Bridge{Name: "berth0"}).Add(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	a.Routes = append(a.Routes, attach.Route{Dst: netip.MustParsePrefix("192.0.2.0/24"), Gateway: netip.MustParseAddr("203.0.113.1")})
	before := state(t, a)()
	err := (&Veth{Bridge: "berth0"}).Add(t.Context(), a)
	if err == nil || !strings.Contains(err.Error(), "192.0.2.0/24 by 203.0.113.1") {
		t.Errorf("an unreachable gateway: %v", err)
	}
	if after := state(t, a)(); after != before {
		t.Errorf("left\n%s\nwant\n%s", after, before)
	}
}

func TestRoutes(t *testing.T) {
	nstest.Host(t)
	a := attachment(t, "c1", 2)
	table, scope := 100, unix.RT_SCOPE_LINK
	a.Routes = append(a.Routes,
		attach.Route{Dst: netip.MustParsePrefix("192.0.2.0/24"), MTU: 1300, AdvMSS: 1200, Priority: 50},
		attach.Route{Dst: netip.MustParsePrefix("198.51.100.0/24"), Scope: &scope},
		attach.Route{Dst: netip.MustParsePrefix("203.0.113.0/24"), Table: &table})
	br, v := &Bridge{Name: "berth0"}, &Veth{Bridge: "berth0"}
	for _, s := range []attach.Step{br, v} {
		if err := s.Add(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.Check(t.Context(), a); err != nil {
		t.Error(err)
	}
	nstest.In(t, a.Netns, func() {
		for cmd, want := range map[string]string{
			"ip route show 192.0.2.0/24":             "via 10.88.0.1 dev eth0 metric 50 mtu 1300 advmss 1200",
			"ip route show 198.51.100.0/24":          "dev eth0 scope link",
			"ip route show table 100 203.0.113.0/24": "via 10.88.0.1 dev eth0",
		} {
			f := strings.Fields(cmd)
			out, err := nstest.Output(f[0], f[1:]...)
			if err != nil || !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
				t.Errorf("%s: %q (%v), want %q", cmd, out, err, want)
			}
		}
		if err := nstest.Run("ip", "route", "del", "192.0.2.0/24"); err != nil {
			t.Fatal(err)
		}
	})
	if err := v.Check(t.Context(), a); err == nil || !strings.Contains(err.Error(), "192.0.2.0/24") {
		t.Errorf("Check with a route missing: %v", err)
	}
}

func TestForwardingKeepsRouterAdvertisements(t *testing.T) {
	nstest.Host(t)
	for _, cmd := range []string{
		"ip link add up0 type veth peer name up1", "ip link set up0 up", "ip link set up1 up",
		"ip -6 address add 2001:db8::2/64 dev up0 nodad", "ip -6 route add default via 2001:db8::1 proto ra",
	} {
		f := strings.Fields(cmd)
		if err := nstest.Run(f[0], f[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	c, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if err := c.forward6(); err != nil {
		t.Fatal(err)
	}
	if ra, _ := readSysctl(sysctl("ipv6", "conf", "up0", "accept_ra")); ra != "2" {
		t.Errorf("accept_ra of the uplink is %s, want 2: it would lose its default route", ra)
	}
}

func TestVLANs(t *testing.T) {
	nstest.Host(t)
	if out, err := nstest.Output("ip", "link", "add", "probe", "type", "bridge", "vlan_filtering", "1"); err != nil {
		t.Skipf("the kernel has no VLAN filtering of bridges (BRIDGE_VLAN_FILTERING): %s", out)
	}
	a := attachment(t, "c1", 2)
	br := &Bridge{Name: "berth0", Gateway: true, VLANs: true, GatewayVLAN: 100}
	v := &Veth{Bridge: "berth0", VLAN: 100, Trunk: []int{200, 201}}
	for _, s := range []attach.Step{br, v} {
		if err := s.Add(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	if err := ping(t, a.Netns, "10.88.0.1"); err != nil {
		t.Error(err)
	}
	out, err := nstest.Output("bridge", "vlan", "show", "dev", a.HostIfName())
	if err != nil || !strings.Contains(out, "100 PVID Egress Untagged") || !strings.Contains(out, "201") {
		t.Errorf("VLANs of the port: %s (%v)", out, err)
	}
}

func TestMAC(t *testing.T) {
	a := &attach.Attachment{Addresses: []attach.Address{{Prefix: netip.MustParsePrefix("10.88.1.2/16")}}}
	if got := MAC(a); got != "02:42:0a:58:01:02" {
		t.Errorf("MAC of 10.88.1.2 is %s", got)
	}
	a.Addresses = []attach.Address{{Prefix: netip.MustParsePrefix("fd00::2/64")}}
	v6 := MAC(a)
	if a.Addresses = nil; MAC(a) == v6 || !strings.HasPrefix(v6, "02:42:") {
		t.Errorf("MAC of fd00::2 is %s, without an address %s", v6, MAC(a))
	}
}

func TestOpenNetns(t *testing.T) {
	if _, err := OpenNetns("/etc/passwd"); !errors.Is(err, ErrNotNetns) {
		t.Errorf("a file: %v", err)
	}
	if _, err := OpenNetns("/run/netns/none"); err == nil {
		t.Error("a path that is not there opens")
	}
	nstest.Host(t)
	path := nstest.Namespace(t)
	ns, err := OpenNetns(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if own, err := ns.IsOwn(); err != nil || own {
		t.Errorf("a container's namespace is the host's: %v, %v", own, err)
	}
	cookie, err := ns.Cookie()
	if err != nil || cookie == 0 {
		t.Errorf("cookie %d, %v", cookie, err)
	}
	self, err := OpenNetns(ownNetns)
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	if own, err := self.IsOwn(); err != nil || !own {
		t.Errorf("the thread's own namespace is not: %v, %v", own, err)
	}
	if other, err := self.Cookie(); err != nil || other == cookie {
		t.Errorf("two namespaces share cookie %d (%v)", cookie, err)
	}
}
