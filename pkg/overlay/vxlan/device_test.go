package vxlan

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A device that is bound to its underlay goes with it, and comes back with it.
func TestUnderlay(t *testing.T) {
	me := alone(t)
	run(t, "ip link add u0 type veth peer name u1")
	d := me.device()
	index := func() int {
		i, err := net.InterfaceByName("u0")
		if err != nil {
			t.Fatal(err)
		}
		return i.Index
	}
	d.Underlay = index()
	h := open(t)
	p := plane(t, h, d, node{id: 2}.peer())
	mustSync(t, p)
	n := watch(t, h)
	run(t, "ip link del u0")
	if s := n.wait(); !strings.Contains(s, "deleted") {
		t.Errorf("the watcher said %q", s)
	}
	if _, err := p.Sync(); !errors.Is(err, unix.ENODEV) {
		t.Errorf("sync without the underlay: %v", err)
	}
	run(t, "ip link add u0 type veth peer name u1")
	d.Underlay = index()
	if err := p.SetDevice(d); err != nil {
		t.Fatal(err)
	}
	mustSync(t, p)
	d.Underlay = 0
	if err := p.SetDevice(d); err != nil {
		t.Fatal(err)
	}
	if c := mustSync(t, p); c.Routes != 2 || strings.Contains(output(t, "ip -d link show vxlan42"), "dev u0") {
		t.Errorf("bound to no device: changed %s", c)
	}
	d.MTU, d.Underlay = 1490, index() // more than fits into the underlay's 1500
	if err := p.SetDevice(d); err != nil {
		t.Fatal(err)
	}
	c, err := p.Sync() // the rest is done
	if err == nil || !strings.Contains(err.Error(), "MTU") || c.Routes != 2 {
		t.Errorf("an MTU that does not fit: %s, %v", c, err)
	}
}

func TestRefusals(t *testing.T) {
	me := alone(t)
	h := open(t)
	outside := node{id: 2}.peer()
	outside.Blocks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	for name, edit := range map[string]func(*Device){
		"name": func(d *Device) { d.Name = "sixteen-letters-" }, "VNI": func(d *Device) { d.VNI = 1 << 24 },
		"port": func(d *Device) { d.Port = 0 }, "MAC": func(d *Device) { d.MAC[0] = 3 },
		"MTU": func(d *Device) { d.MTU = 1279 }, "underlay": func(d *Device) { d.Local = netip.IPv6Unspecified() },
		"subnet": func(d *Device) { d.Subnets = append(d.Subnets, netip.MustParsePrefix("10.42.0.1/16")) },
	} {
		d := me.device()
		edit(&d)
		if _, err := h.Plane(d); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("bad %s: %v", name, err)
		}
	}
	p := plane(t, h, me.device())
	if _, err := h.Plane(me.device()); err == nil {
		t.Error("two planes have one device")
	}
	mustSync(t, p)
	bad := node{id: 2, v6: true}.peer()
	if err := p.SetPeer(bad); err == nil || !strings.Contains(err.Error(), "host-2") || !strings.Contains(err.Error(), "family") {
		t.Errorf("a peer of the other underlay: %v", err)
	}
	if err := p.SetPeer(outside); err == nil || !strings.Contains(err.Error(), "192.0.2.0/24") {
		t.Errorf("a block outside the network: %v", err)
	}
	// What the kernel refuses is told with whose it is, and the rest is done.
	own := node{id: 2}.peer()
	own.Blocks = []netip.Prefix{netip.MustParsePrefix("10.42.1.0/24"), netip.MustParsePrefix("fd00:42:0:2::/64")}
	err := p.SetPeer(own)
	if !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "route 10.42.1.0/24 of host-2") {
		t.Errorf("our own block: %v", err)
	}
	if out := output(t, "ip -6 route show fd00:42:0:2::/64"); out == "" {
		t.Error("the peer's other block has no route")
	}
	if err := p.RemovePeer(own.Name); err != nil {
		t.Error(err)
	}
	// The VNI is another's.
	run(t, "ip link add flannel.9 type vxlan id 9 dstport 4789")
	d := me.device()
	d.Name, d.VNI = "vxlan9", 9
	if _, err := plane(t, h, d).Sync(); !errors.Is(err, unix.EEXIST) || !strings.Contains(err.Error(), "flannel.9") {
		t.Errorf("a VNI that flannel has: %v", err)
	}
}

// A host may have IPv6 switched off; an IPv4 network does not need it.
func TestIPv6Disabled(t *testing.T) {
	me := alone(t)
	run(t, "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1")
	d := me.device()
	d.Addresses, d.Subnets = d.Addresses[:1], d.Subnets[:1]
	peer := node{id: 2}.peer()
	peer.Blocks = peer.Blocks[:1]
	p := plane(t, open(t), d, peer)
	mustSync(t, p)
	if c := mustSync(t, p); c.Total() != 0 {
		t.Errorf("a second sync changed %s", c)
	}
	if err := p.SetDevice(me.device()); err != nil {
		t.Fatal(err)
	}
	mustSync(t, p)
	if out := output(t, "ip -6 address show dev vxlan42"); !strings.Contains(out, "fd00:42:0:1::/128") {
		t.Errorf("the IPv6 network's address: %s", out)
	}
}
