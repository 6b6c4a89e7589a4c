package overlay

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

func prefixes(text ...string) (all []netip.Prefix) {
	for _, s := range text {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

func blue(subnets ...string) Network {
	n := Network{Name: "blue", ID: "1", Subnets: prefixes(subnets...), VNI: FirstVNI}
	n.SetDefaults()
	return n
}

func TestSetDefaults(t *testing.T) {
	for subnet, want := range map[string]int{
		"10.0.0.0/8": 24, "10.42.0.0/16": 24, "10.42.0.0/23": 24, "10.42.1.0/24": 28, "10.42.1.0/26": 28, "10.42.1.0/29": 29,
		"fd00::/48": 64, "fd00::/64": 72, "fd00::/112": 120, "fd00::/124": 124,
	} {
		n := blue(subnet)
		if n.NodePrefix[0] != want || n.Port != 4789 {
			t.Errorf("%s: blocks of /%d, port %d; want /%d", subnet, n.NodePrefix[0], n.Port, want)
		}
		if err := n.Validate(); err != nil {
			t.Errorf("%s: the defaults are not valid: %v", subnet, err)
		}
	}
	n := Network{Subnets: prefixes("10.0.0.0/8", "fd00::/48"), NodePrefix: []int{26}, Port: 8472}
	if n.SetDefaults(); !reflect.DeepEqual(n.NodePrefix, []int{26, 64}) || n.Port != 8472 {
		t.Errorf("what was said was changed: %v %d", n.NodePrefix, n.Port)
	}
}

// TestEncryptedIsNew: an agent that knows no encrypted networks refuses one, for the UDP
// port that it needs, and so sends nothing of it in the clear.
func TestEncryptedIsNew(t *testing.T) {
	n := blue("10.42.0.0/16")
	n.Encrypted, n.ListenPort, n.Port = true, FirstListen, 0
	if err := n.Validate(); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	var older struct {
		Port int `json:"port"` // which it wants to be 1 or more
		VNI  int `json:"vni"`
	}
	if err := json.Unmarshal(text, &older); err != nil || older.Port != 0 || older.VNI != FirstVNI {
		t.Errorf("%s: as an older agent sees it: %+v (%v)", text, older, err)
	}
	if n.Overhead(netip.MustParseAddr("192.0.2.1")) != 60 || n.Overhead(netip.MustParseAddr("2001:db8::1")) != 80 || n.Device() != "wg4097" || n.UDPPort() != FirstListen {
		t.Errorf("overhead %d, device %s, port %d", n.Overhead(netip.MustParseAddr("192.0.2.1")), n.Device(), n.UDPPort())
	}
	plain := n
	plain.Encrypted, plain.ListenPort, plain.Port = false, 0, DefaultPort
	if n.Same(&plain) {
		t.Error("the same network without encryption")
	}
}

func TestValidateNetwork(t *testing.T) {
	for want, change := range map[string]func(*Network){
		"":                              func(*Network) {},
		`name: ""`:                      func(n *Network) { n.Name = "" },
		`name: "../x"`:                  func(n *Network) { n.Name = "../x" },
		`name: "a/b"`:                   func(n *Network) { n.Name = "a/b" },
		`name: "$(reboot)"`:             func(n *Network) { n.Name = "$(reboot)" },
		"128 bytes":                     func(n *Network) { n.Name = strings.Repeat("x", 129) },
		"vni: 0":                        func(n *Network) { n.VNI = 0 },
		"vni: 16777216":                 func(n *Network) { n.VNI = 1 << 24 },
		"port: 65536":                   func(n *Network) { n.Port = 1 << 16 },
		"port: -1":                      func(n *Network) { n.Port = -1 },
		"mtu: 500":                      func(n *Network) { n.MTU = 500 },
		"mtu: 70000":                    func(n *Network) { n.MTU = 70000 },
		"1280 bytes":                    func(n *Network) { n.MTU = 1000; n.Subnets[1] = netip.MustParsePrefix("fd00::/48") },
		"subnets: []":                   func(n *Network) { n.Subnets, n.NodePrefix = nil, nil },
		"one of IPv4":                   func(n *Network) { n.Subnets = prefixes("10.0.0.0/8", "172.16.0.0/12") },
		"network address of this":       func(n *Network) { n.Subnets[0] = netip.MustParsePrefix("10.42.0.1/16") },
		"want a prefix such as":         func(n *Network) { n.Subnets[0] = netip.Prefix{} },
		"length of 8 or more":           func(n *Network) { n.Subnets[0] = netip.MustParsePrefix("10.0.0.0/7") },
		"unicast":                       func(n *Network) { n.Subnets[0] = netip.MustParsePrefix("224.0.0.0/8") },
		"subnets: 127.0.0.0/8":          func(n *Network) { n.Subnets[0] = netip.MustParsePrefix("127.0.0.0/8") },
		"subnets: 169.254.0.0/16":       func(n *Network) { n.Subnets[0] = netip.MustParsePrefix("169.254.0.0/16") },
		"subnets: fe80::/16":            func(n *Network) { n.Subnets[1] = netip.MustParsePrefix("fe80::/16") },
		"subnets: ::ffff:10.0.0.0/104":  func(n *Network) { n.Subnets[0] = netip.MustParsePrefix("::ffff:10.0.0.0/104") },
		"want a length for each of the": func(n *Network) { n.NodePrefix = []int{24} },
		"nodePrefix: 15":                func(n *Network) { n.NodePrefix[0] = 15 },
		"nodePrefix: 31":                func(n *Network) { n.NodePrefix[0] = 31 },
		"nodePrefix: 127":               func(n *Network) { n.NodePrefix[1] = 127 },
	} {
		n := blue("10.42.0.0/16", "fd00:42::/48")
		change(&n)
		if err := n.Validate(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
	all := Network{Name: "a b", Subnets: prefixes("10.0.0.1/8"), NodePrefix: []int{24}, MTU: 1}
	for _, key := range []string{"name:", "vni:", "port:", "mtu:", "subnets:"} {
		if err := all.Validate(); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("all at once: %v, without %s", err, key)
		}
	}
}

func TestValidateNode(t *testing.T) {
	good := Node{Name: "a", Token: "token", Address: netip.MustParseAddr("192.0.2.1"), MTU: 1500}
	for want, change := range map[string]func(*Node){
		"":      func(*Node) {},
		"name":  func(n *Node) { n.Name = "a/b" },
		"token": func(n *Node) { n.Token = "" },
		"mtu":   func(n *Node) { n.MTU = 625 },
	} {
		n := good
		change(&n)
		if err := n.Validate(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
	for _, a := range []string{"127.0.0.1", "0.0.0.0", "::", "::1", "fe80::1", "fe80::1%eth0", "224.0.0.1", "::ffff:192.0.2.1"} {
		n := good
		n.Address = netip.MustParseAddr(a)
		life := Alive{Node: "a", Instance: "i", Address: n.Address}
		if n.Validate() == nil || life.Validate() == nil {
			t.Errorf("address %s: no error", a)
		}
	}
	block := Block{Network: "b", Prefix: netip.MustParsePrefix("10.0.1.0/24"), Node: "a", Token: "t"}
	if err := block.Validate(); err != nil {
		t.Error(err)
	}
	if err := (&Block{}).Validate(); err == nil || len(strings.Split(err.Error(), "\n")) != 4 {
		t.Errorf("an empty block: %v, want four errors", err)
	}
}

func TestNth(t *testing.T) {
	for _, c := range []struct {
		subnet string
		bits   int
		n      uint64
		want   string
	}{
		{"10.42.0.0/16", 24, 0, "10.42.0.0/24"}, {"10.42.0.0/16", 24, 255, "10.42.255.0/24"},
		{"10.42.0.0/16", 26, 5, "10.42.1.64/26"}, {"10.0.0.0/8", 30, 1<<22 - 1, "10.255.255.252/30"},
		{"10.42.3.0/24", 24, 0, "10.42.3.0/24"}, {"fd00:42::/48", 64, 3, "fd00:42:0:3::/64"},
		{"fd00:42::/48", 64, 65535, "fd00:42:0:ffff::/64"}, {"fd00::/8", 64, 1 << 55, "fd80::/64"},
	} {
		if got := nth(netip.MustParsePrefix(c.subnet), c.bits, c.n); got.String() != c.want {
			t.Errorf("block %d of %s: %s, want %s", c.n, c.subnet, got, c.want)
		}
	}
}

func TestChooseBlock(t *testing.T) {
	n := blue("10.42.0.0/20", "fd00:42::/48")
	taken := map[netip.Prefix]bool{}
	for i := range 16 {
		p, err := n.ChooseBlock(0, "host", func(p netip.Prefix) bool { return taken[p] })
		if err != nil || taken[p] || !n.Contains(p) {
			t.Fatalf("block %d: %s, %v", i, p, err)
		}
		taken[p] = true
	}
	if _, err := n.ChooseBlock(0, "host", func(p netip.Prefix) bool { return taken[p] }); !errors.Is(err, ErrNoBlockLeft) {
		t.Errorf("one more: %v, want %v", err, ErrNoBlockLeft)
	}
	six, err := n.ChooseBlock(1, "host", func(netip.Prefix) bool { return false })
	if err != nil || !n.Contains(six) || !six.Addr().Is6() {
		t.Errorf("IPv6: %s, %v", six, err)
	}
	if again, _ := n.ChooseBlock(1, "host", func(netip.Prefix) bool { return false }); again != six {
		t.Errorf("the same node chooses %s, then %s", six, again)
	}
	wide := blue("fd00::/8")
	if p, err := wide.ChooseBlock(0, "host", func(netip.Prefix) bool { return false }); err != nil || !wide.Contains(p) {
		t.Errorf("of a wide subnet: %s, %v", p, err)
	}
}

// TestAlike: nodes with names that differ in a digit search from different places.
func TestAlike(t *testing.T) {
	n := blue("10.42.0.0/16")
	for _, names := range []string{"node-%d", "host%05d", "ip-10-0-0-%d.ec2.internal"} {
		starts := map[netip.Prefix]bool{}
		for i := range 256 {
			p, err := n.ChooseBlock(0, fmt.Sprintf(names, i), func(netip.Prefix) bool { return false })
			if err != nil {
				t.Fatal(err)
			}
			starts[p] = true
		}
		if len(starts) < 120 { // 162 by chance, of 256
			t.Errorf("%s: 256 nodes begin at %d of 256 blocks", names, len(starts))
		}
	}
}

func TestContains(t *testing.T) {
	n := blue("10.42.0.0/16", "fd00:42::/48")
	for p, want := range map[string]bool{
		"10.42.3.0/24": true, "10.42.0.0/24": true, "fd00:42:0:3::/64": true,
		"10.42.3.0/25": false, "10.42.0.0/16": false, "10.43.0.0/24": false, "10.42.3.1/24": false, "fd00:43::/64": false, "fd00:42::/48": false,
	} {
		if n.Contains(netip.MustParsePrefix(p)) != want {
			t.Errorf("%s: want %v", p, want)
		}
	}
	if n.Contains(netip.Prefix{}) {
		t.Error("contains the zero prefix")
	}
	if g := Gateway(netip.MustParsePrefix("fd00:42:0:3::/64")); g.String() != "fd00:42:0:3::1" {
		t.Errorf("gateway %s", g)
	}
}

func TestConflicts(t *testing.T) {
	at := func(n Network, name string, vni, hour int) Network {
		n.Name, n.VNI, n.Created = name, vni, time.Date(2026, 1, 1, hour, 0, 0, 0, time.UTC)
		return n
	}
	s := NewState()
	s.Apply(Update{Networks: []Network{
		at(blue("10.42.0.0/16"), "first", 1, 1),
		at(blue("10.42.7.0/24"), "overlaps", 2, 2),
		at(blue("10.42.7.0/24"), "overlaps-what-lost", 3, 3),
		at(blue("10.43.0.0/16"), "same-vni", 1, 4),
		at(blue("10.43.0.0/16"), "fine", 5, 5), // what was in its way has lost
		at(blue("fd00::/48"), "six", 6, 6),
	}})
	bad := s.Conflicts()
	for name, want := range map[string]string{"overlaps": "10.42.7.0/24", "overlaps-what-lost": `"first"`, "same-vni": "vni: 1"} {
		if err := bad[name]; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", name, err, want)
		}
	}
	if len(bad) != 3 {
		t.Errorf("%d conflicts: %v", len(bad), bad)
	}
}

// random returns an entry of each kind, out of few.
func random(r *rand.Rand) (Network, Node, Block, Alive) {
	name := func() string { return string(rune('a' + r.IntN(4))) }
	n := blue("10.42.0.0/16")
	n.Name, n.VNI = name(), r.IntN(3)
	p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 42, byte(r.IntN(4)), 0}), 24)
	return n, Node{Name: name(), Token: name()}, Block{Network: name(), Prefix: p, Node: name(), Token: name()}, Alive{Node: name(), Instance: name()}
}

// FuzzApply: a state that was brought up to date is the one that was read as a whole.
func FuzzApply(f *testing.F) {
	f.Add(uint64(1), uint8(50))
	f.Add(uint64(2), uint8(255))
	f.Fuzz(func(t *testing.T, seed uint64, steps uint8) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := NewState()
		for range steps {
			s.Apply(change(r))
			if r.IntN(10) == 0 {
				s.Apply(Update{Err: errors.New("away"), GoneNodes: []string{"a", "b", "c", "d"}})
			}
			whole := NewState()
			whole.Apply(asFull(s))
			if !reflect.DeepEqual(s, whole) {
				t.Fatalf("brought up to date %+v\nread as a whole %+v", s, whole)
			}
			checkBlocksOf(t, s)
		}
	})
}

func change(r *rand.Rand) Update {
	var u Update
	for range r.IntN(4) {
		n, node, b, a := random(r)
		switch r.IntN(8) {
		case 0:
			u.GoneNetworks = append(u.GoneNetworks, n.Name)
		case 1:
			u.GoneNodes = append(u.GoneNodes, node.Name)
		case 2:
			u.GoneBlocks = append(u.GoneBlocks, b.Key())
		case 3:
			u.GoneAlive, u.GoneBad = append(u.GoneAlive, a.Node), append(u.GoneBad, a.Node)
		default:
			u.Networks, u.Nodes = append(u.Networks, n), append(u.Nodes, node)
			u.Blocks, u.Alive = append(u.Blocks, b), append(u.Alive, a)
			u.Bad = append(u.Bad, BadKey{node.Name, errors.New(a.Node)})
		}
	}
	return u
}

func asFull(s *State) Update {
	u := Update{Full: true}
	for _, n := range s.Networks {
		u.Networks = append(u.Networks, n)
	}
	for _, n := range s.Nodes {
		u.Nodes = append(u.Nodes, n)
	}
	for _, b := range s.Blocks {
		u.Blocks = append(u.Blocks, b)
	}
	for _, a := range s.Alive {
		u.Alive = append(u.Alive, a)
	}
	for k, err := range s.Bad {
		u.Bad = append(u.Bad, BadKey{k, err})
	}
	return u
}

// checkBlocksOf compares the index with a search through all blocks.
func checkBlocksOf(t *testing.T, s *State) {
	t.Helper()
	for network, n := range s.Networks {
		for node, owner := range s.Nodes {
			want := 0
			for _, b := range s.Blocks {
				if b.Network == network && b.Node == node && b.Token == owner.Token && n.Contains(b.Prefix) {
					want++
				}
			}
			got := s.BlocksOf(network, node)
			if len(got) != want {
				t.Fatalf("blocks of %s on %s: %v, want %d", node, network, got, want)
			}
			for i := 1; i < len(got); i++ {
				if comparePrefix(got[i-1], got[i]) >= 0 {
					t.Fatalf("not sorted: %v", got)
				}
			}
		}
	}
	if s.BlocksOf("none", "a") != nil || s.BlocksOf("a", "none") != nil {
		t.Fatal("blocks of nobody")
	}
}

func TestTaken(t *testing.T) {
	s := NewState()
	p := netip.MustParsePrefix("10.42.1.0/24")
	s.Apply(Update{Blocks: []Block{{Network: "blue", Prefix: p, Node: "a", Token: "t"}}})
	if !s.Taken("blue")(p) || s.Taken("red")(p) || s.Taken("blue")(netip.MustParsePrefix("10.42.2.0/24")) {
		t.Error("taken is what somebody owns on this network")
	}
}
