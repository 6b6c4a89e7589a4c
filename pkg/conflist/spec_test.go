package conflist

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var prefix = netip.MustParsePrefix

const defaultPools = "172.17.0.0/16,172.18.0.0/15:16,172.20.0.0/14:16,172.24.0.0/13:16,192.168.0.0/16:20"

func prefixes(words ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, w := range words {
		all = append(all, prefix(w))
	}
	return all
}

func addrs(words ...string) []netip.Addr {
	var all []netip.Addr
	for _, w := range words {
		all = append(all, netip.MustParseAddr(w))
	}
	return all
}

func pools(t testing.TB, words string) []Pool {
	t.Helper()
	var all []Pool
	for w := range strings.SplitSeq(words, ",") {
		p, err := ParsePool(w)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// host has an eth0, a bridge of nobody, and a network.
func host(t *testing.T) *Known {
	return &Known{
		Networks: []string{"old"}, Links: map[string]string{"br-old": "old"},
		Taken: []Taken{
			{Prefix: prefix("172.17.0.0/16"), By: "network old", Link: "br-old", Driver: Bridge},
			{Prefix: prefix("192.168.5.0/24"), By: "network lan", Link: "eth0", Driver: Macvlan,
				from: netip.MustParseAddr("192.168.5.64"), to: netip.MustParseAddr("192.168.5.127")},
			{Prefix: prefix("172.17.0.0/16"), By: "this host, through br-old", Link: "br-old"},
			{Prefix: prefix("192.168.5.0/24"), By: "this host, through eth0", Link: "eth0"},
		},
		Pools: DefaultPools(), Random: bytes.NewReader(make([]byte, 64)),
		Now: time.Date(2026, 3, 1, 12, 0, 0, 5, time.UTC),
		Exists: func(name string) (bool, bool, error) {
			return name == "eth0" || name == "br0" || name == "br-left", name != "eth0", nil
		},
	}
}

func TestConflists(t *testing.T) {
	no := false
	for name, s := range map[string]Spec{
		"plain":    {Driver: Bridge},
		"internal": {Driver: Bridge, Internal: true, IPv6: true, NoICC: true, Labels: map[string]string{"team": "web"}},
		"full": {Driver: Bridge, Subnets: prefixes("10.9.0.0/16", "fd09::/64"), Gateways: addrs("fd09::9", "10.9.0.254"),
			IPRanges: prefixes("10.9.0.0/24"), Aux: []string{"printer=10.9.0.7", "nas=10.9.3.8"}, Isolate: &no, NoNames: true, DNS: addrs("9.9.9.9"),
			Options: []string{"mtu=1400", "com.docker.network.bridge.name=br0", "com.docker.network.bridge.enable_ip_masquerade=false", "vlan=5", "firewallBackend=iptables"}},
		"routed":      {Driver: Bridge, Subnets: prefixes("10.9.0.0/16", "fd09::/64"), Options: []string{"com.docker.network.bridge.gateway_mode_ipv6=routed", "ipspoofchk=false", "acceptRA=true"}},
		"isolated":    {Driver: Bridge, Internal: true, Subnets: prefixes("10.9.0.0/16"), Options: []string{"com.docker.network.bridge.gateway_mode_ipv4=isolated"}},
		"unprotected": {Driver: Bridge, IPv6: true, Options: []string{"gatewayModeIPv4=nat-unprotected"}},
		"macvlan": {Driver: Macvlan, Subnets: prefixes("192.168.5.0/24"), Gateways: addrs("192.168.5.1"), IPRanges: prefixes("192.168.5.128/26"),
			Options: []string{"parent=eth0", "macvlan_mode=bridge", "hostShim=true"}},
		"ipvlan": {Driver: IPVlan, Subnets: prefixes("192.168.6.0/24", "fd06::/64"),
			Options: []string{"parent=eth0", "ipvlan_mode=l3", "ipvlan_flag=private", "mtu=1400"}},
		"sticky": {Driver: Bridge, Subnets: prefixes("10.9.0.0/16"), Sticky: "pod"},
		"vlan":   {Driver: Macvlan, IPv6: true, Options: []string{"parent=eth0.10"}},
	} {
		s.Name = name
		c, err := s.Plan(host(t))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		data, err := c.JSON()
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name+".conflist", data)
		f, err := decode(data)
		if err != nil || f.Mark == nil || f.Driver() != s.Driver || len(f.Foreign()) != 0 || len(f.Taken()) == 0 {
			t.Errorf("%s: read back: %+v, %v", name, f, err)
		}
	}
}

// TestNoIPVlan: a network that no container could be on is not made.
func TestNoIPVlan(t *testing.T) {
	h := host(t)
	h.NoIPVlan = errors.New("this kernel has none")
	_, err := (&Spec{Name: "n", Driver: IPVlan, Options: []string{"parent=eth0"}}).Plan(h)
	if err == nil || err.Error() != "--driver ipvlan: this kernel has none" {
		t.Errorf("got %v", err)
	}
}

// Everything that is wrong is said at once, with the flag and what is allowed.
func TestRefused(t *testing.T) {
	yes := true
	for _, c := range []struct {
		spec Spec
		want string
	}{
		{Spec{Name: "OLD", Driver: Bridge, Subnets: prefixes("10.9.0.0/16")},
			`name: OLD: DNS takes it for network old: want one that differs in more than capitals`},
		{Spec{Name: "old", Driver: Bridge, Subnets: prefixes("10.1.0.1/16", "10.2.0.0/31"), Gateways: addrs("10.7.0.1"), Options: []string{"mtu=5", "no", "nope=1"}},
			`name: old: there is a network of that name
--opt: mtu=5: want a number, 68 to 65535
--opt: no: want key=value
--opt: nope: a bridge network has no such option: want mtu=BYTES, mode=bridge|routed, firewallBackend=auto|nftables|iptables, bridge=NAME, icc=true|false, ipMasq=true|false, gatewayModeIPv4=nat|nat-unprotected|routed|isolated, gatewayModeIPv6=nat|nat-unprotected|routed|isolated, hostBindingIPv4=ADDRESS, hairpinMode=true|false, promiscMode=true|false, portIsolation=true|false, macspoofchk=true|false, ipspoofchk=true|false, forceAddress=true|false, vlan=NUMBER, enabledad=true|false, acceptRA=true|false
--subnet: 10.1.0.1/16: has host bits set: the network address of this length is 10.1.0.0/16
--subnet: 10.2.0.0/31: is too small: want /30 or shorter`},
		{Spec{Name: "host", Driver: Bridge}, "name: host: is predefined: want another"},
		{Spec{Name: "container:web", Driver: Bridge}, "name: container:web: is predefined: want another"},
		{Spec{Name: "a/b", Driver: Bridge}, "name: a/b: want a letter or digit, then letters, digits and any of _.-, 128 bytes at most"},
		{Spec{Name: "left", Driver: Bridge}, "bridge: br-left: is there, and no network's: --opt bridge=br-left takes it, and leaves it there when the network goes"},
		{Spec{Name: "n", Driver: Bridge, Options: []string{"bridge=eth0"}}, "bridge: eth0: is an interface of this host, and no bridge: --opt bridge=NAME takes another"},
		{Spec{Name: "n", Driver: Bridge, Options: []string{"mtu=1400", "com.docker.network.driver.mtu=1500"}}, "--opt: com.docker.network.driver.mtu=1500: is given twice, and as mtu=1400 before"},
		{Spec{Name: "n", Driver: Bridge, Internal: true, NoICC: true, Options: []string{"ipMasq=true", "icc=true"}},
			"--opt: ipMasq=true: cannot be together with --internal\n--opt: icc=true: cannot be together with --no-icc"},
		{Spec{Name: "n", Driver: Bridge, Options: []string{"gatewayModeIPv4=NAT"}}, `--opt: gatewayModeIPv4=NAT: "NAT": want one of nat, nat-unprotected, routed, isolated`},
		{Spec{Name: "n", Driver: Bridge, Options: []string{"gatewayModeIPv6=nat"}}, "--gateway-mode-ipv6: nat: the network has no subnet of this family"},
		{Spec{Name: "n", Driver: Bridge, Options: []string{"gatewayModeIPv4=isolated"}}, "--gateway-mode-ipv4: isolated: want --internal, too: a network without a gateway has no way in or out"},
		{Spec{Name: "n", Driver: Bridge, Options: []string{"gatewayModeIPv4=routed", "ipMasq=true"}}, "--opt: ipMasq=true: cannot be together with --gateway-mode-ipv4 routed"},
		{Spec{Name: "n", Driver: Bridge, Internal: true, Subnets: prefixes("10.1.0.0/16"), Gateways: addrs("10.1.0.9"), Options: []string{"gatewayModeIPv4=isolated"}},
			"--gateway: 10.1.0.9: cannot be together with --gateway-mode-ipv4 isolated"},
		{Spec{Name: "n", Driver: Macvlan, Options: []string{"parent=eth0", "gatewayModeIPv4=nat"}},
			"--opt: gatewayModeIPv4: a macvlan network has no such option: want mtu=BYTES, parent=INTERFACE, macvlan_mode=bridge|private|vepa|passthru, hostShim=true|false, linkInContainer=true|false, bcqueuelen=NUMBER, enabledad=true|false, acceptRA=true|false"},
		{Spec{Name: "n", Driver: Bridge, IPv6: true, Options: []string{"mtu=1000"}}, "--mtu: 1000: want at least 1280 bytes for IPv6"},
		{Spec{Name: "n", Driver: Bridge, Subnets: prefixes("172.16.0.0/12")}, "--subnet: 172.16.0.0/12: overlaps 172.17.0.0/16 of network old"},
		{Spec{Name: "n", Driver: Bridge, Subnets: prefixes("10.0.0.0/8", "10.1.0.0/16")}, "--subnet: 10.1.0.0/16: overlaps 10.0.0.0/8, which is given, too"},
		{Spec{Name: "n", Driver: Bridge, Subnets: prefixes("10.1.0.0/16"), Gateways: addrs("10.1.0.0", "10.1.255.255", "10.2.0.1", "10.1.0.1", "10.1.0.2")},
			`--gateway: 10.1.0.0: is the network or broadcast address of 10.1.0.0/16
--gateway: 10.1.255.255: is the network or broadcast address of 10.1.0.0/16
--gateway: 10.2.0.1: is in no subnet of the network
--gateway: 10.1.0.2: 10.1.0.0/16 has the gateway 10.1.0.1`},
		{Spec{Name: "n", Driver: Bridge, Subnets: prefixes("10.1.0.0/16"), IPRanges: prefixes("10.1.1.1/24", "10.0.0.0/8", "10.2.0.0/24", "10.1.1.0/24", "10.1.2.0/24")},
			`--ip-range: 10.1.1.1/24: has host bits set: want 10.1.1.0/24
--ip-range: 10.0.0.0/8: is in no subnet of the network
--ip-range: 10.2.0.0/24: is in no subnet of the network
--ip-range: 10.1.2.0/24: 10.1.0.0/16 has the range 10.1.1.0-10.1.1.255`},
		{Spec{Name: "n", Driver: Bridge, Subnets: prefixes("10.1.0.0/16"), Aux: []string{"x", "x=y", "g=10.1.0.1", "o=10.2.0.1", "a=10.1.0.4", "a=10.1.0.5"}},
			`--aux-address: x: want name=address
--aux-address: x=y: want name=address
--aux-address: g=10.1.0.1: is the gateway
--aux-address: o=10.2.0.1: is in no subnet of the network
--aux-address: a=10.1.0.5: a is 10.1.0.4, too`},
		{Spec{Name: "n", Driver: Bridge, Subnets: prefixes("10.1.0.0/30"), Aux: []string{"a=10.1.0.2"}},
			`ipam.ranges[0][0].subnet: "10.1.0.0/30": has no address to give out in 10.1.0.1-10.1.0.2: all are excluded, the gateway, or reserved`},
		{Spec{Name: "n", Driver: Macvlan, Internal: true, NoICC: true, Options: []string{"macvlan_mode=ipvlan"}},
			`--opt: macvlan_mode=ipvlan: want bridge, private, vepa or passthru
--internal: a macvlan network is on its parent's network, past the host's firewall
--no-icc: want --opt macvlan_mode=private, which keeps containers from each other
--opt: parent: want the interface of the host whose network the containers are to be on: --opt parent=eth0`},
		{Spec{Name: "n", Driver: Macvlan, Isolate: &yes, Options: []string{"parent=eth7.5", "macvlan_mode=vepa", "hostShim=true"}},
			`--isolate: a macvlan network is on its parent's network, past the host's firewall
--opt: hostShim=true: want macvlan_mode bridge: in vepa the host and the container cannot talk
--opt: parent=eth7.5: there is no such interface`},
		{Spec{Name: "n", Driver: IPVlan, Internal: true, NoICC: true, Options: []string{"ipvlan_mode=L2", "ipvlan_flag=passthru", "macvlan_mode=bridge"}},
			`--opt: ipvlan_mode=L2: want l2, l3, l3s
--opt: ipvlan_flag=passthru: want bridge, private, vepa
--opt: macvlan_mode: an ipvlan network has no such option: want mtu=BYTES, parent=INTERFACE, ipvlan_mode=l2|l3|l3s, ipvlan_flag=bridge|private|vepa, linkInContainer=true|false, enabledad=true|false, acceptRA=true|false
--internal: an ipvlan network is on its parent's network, past the host's firewall
--no-icc: want --opt ipvlan_flag=private, which keeps containers from each other
--opt: parent: want the interface of the host whose network the containers are to be on: --opt parent=eth0`},
		{Spec{Name: "n", Driver: Macvlan, Subnets: prefixes("192.168.5.0/24"), Options: []string{"parent=eth0"}},
			"--subnet: 192.168.5.0/24: overlaps 192.168.5.0/24 of network lan"},
		{Spec{Name: "n", Driver: Bridge, Subnets: prefixes("192.168.5.0/24")},
			"--subnet: 192.168.5.0/24: overlaps 192.168.5.0/24 of network lan"},
	} {
		_, err := c.spec.Plan(host(t))
		if err == nil || err.Error() != strings.TrimSuffix(c.want, "\n") {
			t.Errorf("%+v:\ngot  %v\nwant %s", c.spec, err, c.want)
		}
	}
}

// TestNoSpoofCheck: on a kernel that cannot, the default is without.
func TestNoSpoofCheck(t *testing.T) {
	h := host(t)
	h.NoSpoofCheck = errors.New("the kernel is too old")
	c, err := (&Spec{Name: "n", Driver: Bridge}).Plan(h)
	if err != nil || c.Plugins[0].IPSpoofCheck {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := (&Spec{Name: "n", Driver: Bridge, Options: []string{"ipspoofchk=true"}}).Plan(h); err == nil || err.Error() != "--opt: ipspoofchk=true: the kernel is too old" {
		t.Error(err)
	}
}

func TestBridgeName(t *testing.T) {
	for network, want := range map[string]string{"my-bridge": "br-my-bridge", "123456789012": "br-123456789012", "simon_network": "br-" + "x"} {
		got := BridgeName(network)
		if len(got) > 15 || want != "br-x" && got != want || want == "br-x" && len(got) != 15 {
			t.Errorf("%s: %s", network, got)
		}
	}
}

func TestPools(t *testing.T) {
	for word, want := range map[string]string{
		"10.0.0.0/8": "10.0.0.0/8", "10.1.2.3/8:24": "10.0.0.0/8:24", "fd00::/48:64": "fd00::/48:64", "fd00:1::/64": "fd00:1::/64", "10.0.0.0/8:8": "10.0.0.0/8",
		"10.0.0.0": "", "10.0.0.0/8:": "", "10.0.0.0/8:7": "", "10.0.0.0/8:31": "", "10.0.0.0/8:x": "", "": "", "::ffff:10.0.0.0/104": "", "10.0.0.0/31": "",
	} {
		p, err := ParsePool(word)
		if got := p.String(); err == nil && got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %s, %v", word, got, err)
		}
	}
}

// Docker's order; what overlaps is skipped, from inside or from around.
func TestFree(t *testing.T) {
	taken := func(words ...string) (all []Taken) {
		for _, p := range prefixes(words...) {
			all = append(all, Taken{Prefix: p})
		}
		return all
	}
	for _, c := range []struct {
		pools string
		v6    bool
		taken []Taken
		want  string
	}{
		{defaultPools, false, nil, "172.17.0.0/16"},
		{defaultPools, false, taken("172.17.3.0/24", "172.18.0.0/16"), "172.19.0.0/16"},
		{defaultPools, false, taken("172.16.0.0/12"), "192.168.0.0/20"},
		{defaultPools, false, taken("172.16.0.0/12", "192.168.0.0/18", "192.168.65.0/24"), "192.168.80.0/20"},
		{defaultPools, false, taken("172.16.0.0/12", "192.168.0.0/16"), ""},
		{defaultPools, false, taken("0.0.0.0/1", "128.0.0.0/1"), ""},
		{defaultPools, true, nil, ""},
		{"10.0.0.0/8:30,fd00::/16:64", true, taken("fd00::/64", "fd00:0:0:1::/64", "10.0.0.0/8"), "fd00:0:0:2::/64"},
		{"0.0.0.0/0:30", false, taken("0.0.0.0/1"), "128.0.0.0/30"},
		{"255.255.255.0/24:26", false, taken("255.255.255.0/24"), ""},
		{"fd00::/8:64", true, taken("fd00::/9"), "fd80::/64"},
	} {
		got, ok := Free(pools(t, c.pools), c.v6, c.taken)
		if ok != (c.want != "") || ok && got.String() != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestFreeULA(t *testing.T) {
	random := bytes.NewReader([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14})
	got, err := FreeULA(random, []Taken{{Prefix: prefix("fd01:200::/24")}})
	if err != nil || got.String() != "fd08:90a:b0c:d0e::/64" {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := FreeULA(random, nil); err == nil {
		t.Error("want an error without randomness")
	}
	// A VPN's route to all of them: there is an end of trying.
	if got, err := FreeULA(zeros{}, []Taken{{Prefix: prefix("fc00::/7")}}); err == nil {
		t.Errorf("%s is free", got)
	}
}

// zeros are random bytes without end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }
