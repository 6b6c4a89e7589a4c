package link

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/proc"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"github.com/berth-cni/berth/pkg/link/internal/linktest"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/berth-cni/berth/pkg/steptest"
)

func TestBridgeConforms(t *testing.T) {
	nstest.Host(t)
	a := linktest.Attachment(t, "c1", 2)
	b := &Bridge{Name: "berth0", Gateway: true}
	steptest.Conform(t, b, a, steptest.Shared, linktest.State(t, a))
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
	a := linktest.Attachment(t, "c1", 2)
	br := &Bridge{Name: "berth0", Gateway: true}
	adding := &attach.Adding{Attachment: a}
	if err := br.Add(t.Context(), adding); err != nil {
		t.Fatal(err)
	}
	mac := adding.Interfaces[0].MAC
	if err := (&Veth{Bridge: "berth0"}).Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
		t.Fatal(err)
	}
	c, err := iface.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	d, err := c.LinkByName("berth0")
	if err != nil {
		t.Fatal(err)
	}
	if d.MTU != 1400 {
		t.Errorf("MTU %d, want that of the default route's device, 1400", d.MTU)
	}
	if d.MAC.String() != mac {
		t.Errorf("the first port changed the MAC from %s to %s", mac, d.MAC)
	}
	for path, want := range map[string]string{
		proc.Net("ipv6", "conf", "berth0", "accept_ra"): "0",
	} {
		if got, err := proc.Read(path); err != nil || got != want {
			t.Errorf("%s is %q (%v), want %q", path, got, err, want)
		}
	}
}

func TestBridgeRefusals(t *testing.T) {
	nstest.Host(t)
	a := linktest.Attachment(t, "c1", 2)
	shell(t, "ip link add nic0 type veth peer name nic1", "ip link set nic0 up", "sysctl -qw net.ipv6.conf.nic0.accept_ra=0")
	if err := (&Bridge{Name: "nic0"}).Add(t.Context(), &attach.Adding{Attachment: a}); !errors.Is(err, ErrWrongKind) {
		t.Errorf("nic0 as a bridge: %v, want ErrWrongKind", err)
	}
	if err := (&Bridge{Name: "lo", Gateway: true}).Add(t.Context(), &attach.Adding{Attachment: a}); !errors.Is(err, ErrWrongKind) {
		t.Errorf("lo as a bridge: %v, want ErrWrongKind", err)
	}
	for _, cmd := range []string{"ip link add berth0 type bridge", "ip address add 172.30.0.1/24 dev berth0"} {
		f := strings.Fields(cmd)
		if err := nstest.Run(f[0], f[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	err := (&Bridge{Name: "berth0", Gateway: true}).Add(t.Context(), &attach.Adding{Attachment: a})
	if err == nil || !strings.Contains(err.Error(), "172.30.0.1/24") || !strings.Contains(err.Error(), "forceAddress") {
		t.Errorf("another address: %v, want an error that names it and forceAddress", err)
	}
	if after := linktest.State(t, a)(); strings.Contains(after, "10.88.0.1") {
		t.Errorf("the refused Add left an address:\n%s", after)
	}
	if err := (&Bridge{Name: "berth0", Gateway: true, ForceAddress: true}).Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
		t.Fatal(err)
	}
	if out, _ := nstest.Output("ip", "-br", "address", "show", "berth0"); strings.Contains(out, "172.30.0.1") || !strings.Contains(out, "10.88.0.1/16") {
		t.Errorf("forceAddress: the bridge has %s", out)
	}
}

// TestForceAddressInSubnet: the kernel takes the gateway's address, which is the second of
// its subnet, with the first.
func TestForceAddressInSubnet(t *testing.T) {
	nstest.Host(t)
	a := linktest.Attachment(t, "c1", 2)
	shell(t, "ip link add berth0 type bridge", "ip address add 10.88.0.9/16 dev berth0")
	b := &Bridge{Name: "berth0", Gateway: true, ForceAddress: true}
	if err := b.Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
		t.Fatal(err)
	}
	if out, _ := nstest.Output("ip", "-br", "address", "show", "berth0"); strings.Contains(out, "10.88.0.9") || !strings.Contains(out, "10.88.0.1/16") {
		t.Errorf("the bridge has %s", out)
	}
	if err := b.Check(t.Context(), a); err != nil {
		t.Error(err)
	}
}

// Route netlink knows the settings by number; /proc/sys by name.
func TestSettings(t *testing.T) {
	nstest.Host(t)
	a := linktest.Attachment(t, "c1", 2)
	a.MAC = "02:00:00:00:00:01" // nobody can know it: it is announced
	a.Ports = []attach.Port{{HostPort: 80, ContainerPort: 80, Protocol: "tcp"}}
	for _, s := range []attach.Step{&Bridge{Name: "berth0", Gateway: true}, &Veth{Bridge: "berth0"}} {
		if err := s.Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(path, want string) {
		t.Helper()
		if got, err := proc.Read(path); err != nil || got != want {
			t.Errorf("%s is %q (%v), want %q", path, got, err, want)
		}
	}
	expect(proc.Net("ipv4", "conf", "berth0", "route_localnet"), "1")
	expect(proc.Net("ipv4", "conf", "berth0", "rp_filter"), "0") // nothing is strict
	expect(proc.Net("ipv4", "conf", "berth0", "accept_local"), "0")
	expect(proc.Net("ipv6", "conf", "berth0", "accept_dad"), "0")
	nstest.In(t, a.Netns, func() {
		expect(proc.Net("ipv4", "conf", "eth0", "arp_notify"), "1")
		expect(proc.Net("ipv4", "conf", "eth0", "accept_local"), "0")
		expect(proc.Net("ipv6", "conf", "eth0", "accept_dad"), "0")
	})
}

// TestBridgeNoIPv6: a bridge without IPv6 has no link-local address either, unless it is
// somebody else's.
func TestBridgeNoIPv6(t *testing.T) {
	for _, c := range []struct{ before, want string }{{"", "1"}, {"ip link add berth0 type bridge", "0"}} {
		nstest.Host(t)
		if c.before != "" {
			shell(t, c.before)
		}
		a := linktest.Attachment(t, "c1", 2)
		a.Addresses[1].Gateway = netip.Addr{}
		b := &Bridge{Name: "berth0", Gateway: true, NoIPv6: true}
		if err := b.Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
			t.Fatal(err)
		}
		if got, err := proc.Read(proc.Net("ipv6", "conf", "berth0", "disable_ipv6")); err != nil || got != c.want {
			t.Errorf("%q before: disable_ipv6 is %s (%v), want %s", c.before, got, err, c.want)
		}
		if err := b.Check(t.Context(), a); err != nil {
			t.Errorf("%q before: %v", c.before, err)
		}
	}
}

// Whoever finds the bridge down finishes it.
func TestHalfMadeBridge(t *testing.T) {
	nstest.Host(t)
	if err := nstest.Run("ip", "link", "add", "berth0", "address", bridgeMAC("berth0").String(), "type", "bridge"); err != nil {
		t.Fatal(err)
	}
	a := &attach.Adding{Attachment: linktest.Attachment(t, "c1", 2)}
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
	a := linktest.Attachment(t, "c1", 2)
	if err := (&Bridge{Name: "berth0"}).Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
		t.Fatal(err)
	}
	var batch strings.Builder
	for i := range 1023 {
		fmt.Fprintf(&batch, "link add p%d type veth peer name q%d\nlink set p%d master berth0\n", i, i, i)
	}
	if err := nstest.Run("sh", "-c", "echo '"+batch.String()+"' | ip -batch -"); err != nil {
		t.Fatal(err)
	}
	before := linktest.State(t, a)()
	if err := (&Veth{Bridge: "berth0"}).Add(t.Context(), &attach.Adding{Attachment: a}); !errors.Is(err, ErrBridgeFull) {
		t.Errorf("port 1,024: %v, want ErrBridgeFull", err)
	}
	if after := linktest.State(t, a)(); after != before {
		t.Error("the refused port left something")
	}
}

func TestVLANs(t *testing.T) {
	nstest.Host(t)
	if out, err := nstest.Output("ip", "link", "add", "probe", "type", "bridge", "vlan_filtering", "1"); err != nil {
		t.Skipf("the kernel has no VLAN filtering of bridges (BRIDGE_VLAN_FILTERING): %s", out)
	}
	a := linktest.Attachment(t, "c1", 2)
	br := &Bridge{Name: "berth0", Gateway: true, VLANs: true, GatewayVLAN: 100}
	v := &Veth{Bridge: "berth0", VLAN: 100, Trunk: []int{200, 201}}
	for _, s := range []attach.Step{br, v} {
		if err := s.Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
			t.Fatal(err)
		}
	}
	if err := linktest.Ping(t, a.Netns, "10.88.0.1"); err != nil {
		t.Error(err)
	}
	out, err := nstest.Output("bridge", "vlan", "show", "dev", a.HostIfName())
	if err != nil || !strings.Contains(out, "100 PVID Egress Untagged") || !strings.Contains(out, "201") {
		t.Errorf("VLANs of the port: %s (%v)", out, err)
	}
}
