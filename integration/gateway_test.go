package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// reach is what a gateway mode lets through, of one family. What is not named here is
// the same in all of them.
type reach struct {
	published   bool // a port of the host, from outside
	own         bool // the same port at the container's own address
	unpublished bool // another one there, and one that is published on 127.0.0.1 alone
	ping        bool // the container's own address
	hidden      bool // what it sends out has the host's address
}

var reaches = map[string]reach{
	"":                {published: true, own: true, unpublished: true, ping: true, hidden: true}, // with ipMasq
	"nat":             {published: true, hidden: true},
	"nat-unprotected": {published: true, own: true, unpublished: true, ping: true, hidden: true},
	"routed":          {own: true, ping: true},
}

// TestGatewayModes: what another host, which has a route to the containers, reaches in each
// mode, by both families, with both backends.
func TestGatewayModes(t *testing.T) {
	t.Parallel()
	for _, backend := range []string{"nftables", "iptables"} {
		for _, modes := range [][2]string{{"", ""}, {"nat", "nat"}, {"nat-unprotected", "nat-unprotected"}, {"routed", "routed"}, {"nat", "routed"}, {"routed", "nat"}} {
			t.Run(fmt.Sprintf("%s %s %s", backend, modes[0], modes[1]), func(t *testing.T) {
				t.Parallel()
				gatewayMode(t, backend, modes)
			})
		}
	}
}

func gatewayMode(t *testing.T, backend string, modes [2]string, more ...string) {
	b := newBed(t)
	keys := append(more, `"isDefaultGateway": true`, `"firewallBackend": "`+backend+`"`)
	if modes[0] == "" {
		keys = append(keys, `"ipMasq": true`)
	} else {
		keys = append(keys, `"gatewayModeIPv4": "`+modes[0]+`"`, `"gatewayModeIPv6": "`+modes[1]+`"`)
	}
	plugin := with(strings.Replace(bridge, `"ipMasq": true, `, "", 1), keys...)
	n := b.network(plugin)
	c, neighbour := b.container("c1"), b.container("neighbour")
	ports := sandbox.Cap("portMappings", []map[string]any{
		{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "127.0.0.1"}, {"hostPort": 8082, "containerPort": 82, "protocol": "tcp"}})
	r, addr := b.add(n, c, ports)
	b.add(n, neighbour)
	far := b.container("far")
	other, err := b.Network(`{"cniVersion": "1.1.0", "name": "other", "plugins": [{"type": "bridge", "bridge": "other0", "isDefaultGateway": true,
		"firewallBackend": "`+backend+`", "ipam": {"ranges": [[{"subnet": "10.7.0.0/24"}], [{"subnet": "fd00:7::/64"}]]}}]}`, b.bin)
	must(t, err)
	b.add(other, far)
	for _, port := range []string{":80", ":81", ":82"} {
		serve(t, c, port)
	}
	serve(t, b.outside, ":7000")
	b.routesIn("10.88.0.0/16", "fd00:88::/64")

	for i, f := range []struct{ host, outside, own string }{
		{sandbox.HostAddr4, sandbox.OutsideAddr4, addr}, {"[" + sandbox.HostAddr6 + "]", sandbox.OutsideAddr6, first6(r)},
	} {
		want := reaches[modes[i]]
		asked := func(who interface {
			Ask(string) (string, error)
		}, address string, reached bool) {
			t.Helper()
			if reached {
				b.answers(who, address, c, "")
			} else {
				b.unreachable(who, address, "mode "+modes[i])
			}
		}
		asked(b.outside, f.host+":8082", want.published)
		asked(b.outside, f.own+":82", want.own)
		asked(b.outside, f.own+":80", want.unpublished)
		asked(b.outside, f.own+":81", want.unpublished)
		asked(b, f.own+":81", true)
		asked(neighbour, f.own+":81", true)
		asked(far, f.own+":81", true) // isolate decides
		bare := strings.Trim(f.own, "[]")
		if _, err := b.outside.Output("ping", "-c1", "-W2", bare); (err == nil) != want.ping {
			t.Errorf("mode %s: ping %s from outside: %v", modes[i], bare, err)
		}
		ping(t, c, f.outside)
		peer := bare
		if want.hidden {
			peer = strings.Trim(f.host, "[]")
		}
		target := f.outside
		if strings.Contains(target, ":") {
			target = "[" + target + "]"
		}
		b.answers(c, target+":7000", b.outside, peer)
	}
	if reaches[modes[0]].published {
		b.answers(b, "127.0.0.1:8080", c, "")
	}
	must(t, n.Check(c, ports))
	must(t, other.Del(far))
	must(t, far.Remove())
	for _, box := range []*sandbox.Container{c, neighbour} {
		must(t, n.Del(box, ports))
		must(t, box.Remove())
	}
}

// routesIn gives the outside a route to a network of the host.
func (b *bed) routesIn(subnet4, subnet6 string) {
	b.t.Helper()
	must(b.t, b.Script("ip -n outside route add "+subnet4+" via "+sandbox.HostAddr4+"\nip -n outside -6 route add "+subnet6+" via "+sandbox.HostAddr6))
}

// TestGatewayModeChanges: a network takes the mode that its conflist has got to as soon as a
// container is attached, for those that are there, too.
func TestGatewayModeChanges(t *testing.T) {
	t.Parallel()
	for _, backend := range []string{"nftables", "iptables"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			net := func(more ...string) *sandbox.Network {
				return b.network(with(bridge, append(more, `"firewallBackend": "`+backend+`"`)...))
			}
			c := b.container("c1")
			n := net()
			r, addr := b.add(n, c)
			serve(t, c, ":80")
			b.routesIn("10.88.0.0/16", "fd00:88::/64")
			for i, step := range []struct {
				keys           []string
				inIPv4, inIPv6 bool
			}{
				{nil, true, true}, {[]string{`"gatewayModeIPv4": "nat"`}, false, true},
				{[]string{`"gatewayModeIPv4": "nat"`, `"gatewayModeIPv6": "nat"`}, false, false},
				{[]string{`"gatewayModeIPv6": "nat"`}, true, false}, {nil, true, true},
			} {
				b.add(net(step.keys...), b.container(fmt.Sprint("next", i)))
				for _, f := range []struct {
					address string
					in      bool
				}{{addr, step.inIPv4}, {first6(r), step.inIPv6}} {
					if f.in {
						b.answers(b.outside, f.address+":80", c, "")
					} else {
						b.unreachable(b.outside, f.address+":80", strings.Join(step.keys, ", "))
					}
				}
			}
			must(t, n.Check(c))
		})
	}
}

// TestIsolatedMode: a family without a gateway has none on the bridge, in the result, or in
// the container, and the containers reach each other.
func TestIsolatedMode(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		keys         string
		has4, has6   bool // a gateway
		addressesLen int  // of the bridge
	}{
		{`"gatewayModeIPv4": "isolated", "gatewayModeIPv6": "isolated"`, false, false, 0},
		{`"gatewayModeIPv4": "isolated"`, false, true, 2}, // the gateway's, and a link-local one
		{`"gatewayModeIPv6": "isolated"`, true, false, 1},
	} {
		t.Run(test.keys, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			n, before := b.used(with(bridge, `"internal": true`, test.keys))
			c, other := b.container("c1"), b.container("c2")
			r, addr := b.add(n, c, tcpPort(8080, 80))
			b.add(n, other)
			serve(t, c, ":80")
			b.routesIn("10.88.0.0/16", "fd00:88::/64")
			for _, ip := range r.IPs {
				has := test.has4
				if strings.Contains(ip.Address, ":") {
					has = test.has6
				}
				if has != (ip.Gateway != "") {
					t.Errorf("the result has the gateway %q of %s", ip.Gateway, ip.Address)
				}
			}
			on, err := b.Output("ip", "-o", "address", "show", "dev", "berth0")
			must(t, err)
			if got := strings.Count(on, "\n"); got != test.addressesLen {
				t.Errorf("the bridge has %d addresses, want %d:\n%s", got, test.addressesLen, on)
			}
			for _, family := range []string{"-4", "-6"} {
				if got := inside(t, c, "ip", family, "route", "show", "default"); got != "" {
					t.Errorf("there is a default route: %s", got)
				}
			}
			b.answers(other, addr+":80", c, "")
			b.answers(other, first6(r)+":80", c, "")
			for _, to := range []string{addr + ":80", first6(r) + ":80", sandbox.HostAddr4 + ":8080"} {
				b.unreachable(b.outside, to, "isolated")
			}
			must(t, n.Check(c))
			for _, box := range []*sandbox.Container{c, other} {
				must(t, n.Del(box))
				must(t, box.Remove())
			}
			b.same(before, "after an isolated network")
		})
	}
}

// TestCreatedNetworkIsProtected: of a network that berth makes only what is published is
// reached, and other modes are to be had in Docker's words.
func TestCreatedNetworkIsProtected(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.does("network create --no-names --subnet 10.99.0.0/24 --subnet fd00:99::/64 web")
	b.does("network create --no-names --subnet 10.98.0.0/24 --subnet fd00:98::/64 -o com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected --gateway-mode-ipv6 routed open")
	b.does("network create --no-names --internal --subnet 10.97.0.0/24 -o com.docker.network.bridge.gateway_mode_ipv4=isolated vault")
	b.routesIn("10.99.0.0/24", "fd00:99::/64")
	b.routesIn("10.98.0.0/24", "fd00:98::/64")
	web, open := b.container("web"), b.container("open")
	r, addr := b.add(b.file("web"), web, tcpPort(8080, 80))
	o, openAddr := b.add(b.file("open"), open, tcpPort(8081, 80))
	for _, c := range []*sandbox.Container{web, open} {
		serve(t, c, ":80")
		serve(t, c, ":81")
	}
	b.answers(b.outside, sandbox.HostAddr4+":8080", web, sandbox.OutsideAddr4)
	b.answers(b.outside, "["+sandbox.HostAddr6+"]:8080", web, sandbox.OutsideAddr6)
	for _, to := range []string{addr + ":80", addr + ":81", first6(r) + ":80", first6(r) + ":81", first6(o) + ":81"} {
		b.unreachable(b.outside, to, "not published there")
	}
	b.answers(b.outside, openAddr+":81", open, sandbox.OutsideAddr4)
	b.answers(b.outside, first6(o)+":80", open, sandbox.OutsideAddr6)
	must(t, b.Script("ip -n web address add 10.99.0.77/24 dev eth0\nip -n web address add fd00:99::77/64 dev eth0 nodad"))
	for _, from := range []string{addr, strings.Trim(first6(r), "[]"), "10.99.0.77", "fd00:99::77"} {
		to := "10.99.0.1"
		if strings.Contains(from, ":") {
			to = "fd00:99::1"
		}
		if _, err := web.Output("ping", "-c1", "-W1", "-I", from, to); (err == nil) != !strings.Contains(from, "77") {
			t.Errorf("from %s the container reaches its gateway: %v", from, err)
		}
	}
	vault := b.container("vault")
	if v, _ := b.add(b.file("vault"), vault); len(v.IPs) != 1 || v.IPs[0].Gateway != "" {
		t.Errorf("of an isolated network: %+v", v.IPs)
	}
	list := strings.Join(strings.Fields(b.does("network ls --format {{.Name}}={{.GatewayModeIPv4}}/{{.GatewayModeIPv6}}")), " ")
	if want := "open=nat-unprotected/routed vault=isolated/ web=nat/nat"; !strings.Contains(list, want) {
		t.Errorf("ls: %s, want %s", list, want)
	}
}

// TestSpoofOfSeveralNetworks: a container that is on two networks answers by the one that
// has its default route what it was asked on the other; once it has left that one, its
// address there is no longer its own.
func TestSpoofOfSeveralNetworks(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.does("network create --no-names --subnet 10.99.0.0/24 --subnet fd00:99::/64 one")
	b.does("network create --no-names --subnet 10.98.0.0/24 --subnet fd00:98::/64 two")
	c := b.container("c1")
	b.add(b.file("one"), c)
	b.does("network connect two c1 --ip 10.98.0.9,fd00:98::9 --publish 8088:80")
	serve(t, c, ":80")
	b.answers(b.outside, sandbox.HostAddr4+":8088", c, sandbox.OutsideAddr4)
	b.answers(b.outside, "["+sandbox.HostAddr6+"]:8088", c, sandbox.OutsideAddr6)
	b.does("network disconnect two c1")
	must(t, b.Script("ip -n c1 address add 10.98.0.9/32 dev eth0\nip -n c1 address add fd00:98::9/128 dev eth0 nodad"))
	for from, lost := range map[string]bool{"10.99.0.2": false, "fd00:99::2": false, "10.98.0.9": true, "fd00:98::9": true} {
		to := sandbox.HostAddr4
		if strings.Contains(from, ":") {
			to = sandbox.HostAddr6
		}
		if _, err := c.Output("ping", "-c1", "-W1", "-I", from, to); (err != nil) != lost {
			t.Errorf("from %s the container reaches %s: %v", from, to, err)
		}
	}
}
