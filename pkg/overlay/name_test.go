package overlay

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func goodName() Name {
	return Name{
		NameKey: NameKey{Network: "blue", Node: "a", Container: "0123456789ab", IfName: "eth0"},
		Names:   []string{"web", "my_app_1", "0123456789ab"}, Addresses: []netip.Addr{netip.MustParseAddr("10.42.3.2"), netip.MustParseAddr("fd00:42:0:3::2")},
	}
}

func TestNameValidate(t *testing.T) {
	good := goodName()
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Name){
		`network: "../x"`:          func(n *Name) { n.Network = "../x" },
		`node: ""`:                 func(n *Name) { n.Node = "" },
		`container: "a:b"`:         func(n *Name) { n.Container = "a:b" },
		`ifname: ""`:               func(n *Name) { n.IfName = "" },
		`ifname: ".."`:             func(n *Name) { n.IfName = ".." },
		`ifname: "a/b"`:            func(n *Name) { n.IfName = "a/b" },
		`ifname: "a:b"`:            func(n *Name) { n.IfName = "a:b" },
		`ifname: "eth\n"`:          func(n *Name) { n.IfName = "eth\n" },
		`ifname: "sixteen-bytes16`: func(n *Name) { n.IfName = "sixteen-bytes16x" },
		"names: 0":                 func(n *Name) { n.Names = nil },
		"names: 65":                func(n *Name) { n.Names = make([]string, maxNames+1) },
		`names: "a..b"`:            func(n *Name) { n.Names[1] = "a..b" },
		`names: "WEB": want lower`: func(n *Name) { n.Names[1] = "WEB" },
		`names: "web": want each`:  func(n *Name) { n.Names[1] = "web" },
		`names: "-x"`:              func(n *Name) { n.Names[1] = "-x" },
		"addresses: 0":             func(n *Name) { n.Addresses = nil },
		"addresses: 17":            func(n *Name) { n.Addresses = make([]netip.Addr, maxAddresses+1) },
		"addresses: invalid IP":    func(n *Name) { n.Addresses[0] = netip.Addr{} },
		"addresses: ::ffff:":       func(n *Name) { n.Addresses[0] = netip.MustParseAddr("::ffff:10.42.3.2") },
		"addresses: fe80::1%eth0":  func(n *Name) { n.Addresses[0] = netip.MustParseAddr("fe80::1%eth0") },
		"addresses: fd00:42:0:3":   func(n *Name) { n.Addresses[0] = n.Addresses[1] },
	} {
		n := goodName()
		n.Names, n.Addresses = slices.Clone(n.Names), slices.Clone(n.Addresses)
		change(&n)
		if err := n.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
		if n.Same(&good) || good.Same(&n) {
			t.Errorf("%s: is the same as what is right", want)
		}
	}
}

// TestMayName: a node names addresses of its own blocks.
func TestMayName(t *testing.T) {
	s := NewState()
	s.Apply(Update{
		Networks: []Network{{Name: "blue", Subnets: []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16"), netip.MustParsePrefix("fd00:42::/48")}, NodePrefix: []int{24, 64}}},
		Nodes:    []Node{{Name: "a", Token: "ta"}, {Name: "b", Token: "tb"}},
		Blocks: []Block{
			{Network: "blue", Prefix: netip.MustParsePrefix("10.42.3.0/24"), Node: "a", Token: "ta"},
			{Network: "blue", Prefix: netip.MustParsePrefix("fd00:42:0:3::/64"), Node: "a", Token: "ta"},
			{Network: "blue", Prefix: netip.MustParsePrefix("10.42.4.0/24"), Node: "b", Token: "tb"},
			{Network: "blue", Prefix: netip.MustParsePrefix("10.42.5.0/24"), Node: "a", Token: "stolen"},
		},
	})
	for _, c := range []struct{ what, want, address string }{
		{"its own", "", "10.42.3.2"},
		{"its own of IPv6", "", "fd00:42:0:3::9"},
		{"another's", `is not of node "a"`, "10.42.4.2"},
		{"nobody's", `is not of node "a"`, "10.42.9.2"},
		{"of a block claimed under another token", `is not of node "a"`, "10.42.5.2"},
		{"of no network", "is not of the network", "192.0.2.1"},
	} {
		n := goodName()
		n.Addresses = append(n.Addresses[:1:1], netip.MustParseAddr(c.address))
		if err := s.MayName(&n); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
	}
	n := goodName()
	n.Network = "red"
	if err := s.MayName(&n); err == nil {
		t.Error("of a network that is not there: no error")
	}
	n.Network, n.Node = "blue", "c"
	if err := s.MayName(&n); err == nil {
		t.Error("of a node that is not there: no error")
	}
}
