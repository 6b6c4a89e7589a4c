package integration

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// routed is the network that most tests are on, without a bridge.
const routed = `{"type": "bridge", "mode": "routed", "isDefaultGateway": true, "ipMasq": true, "capabilities": {"portMappings": true, "ips": true, "mac": true}, ` + ownIPAM + `}`

// hostEnd is the host's end of a container's interface.
func (b *bed) hostEnd(r result) string {
	b.t.Helper()
	for _, i := range r.Interfaces {
		if i.Sandbox == "" && strings.HasPrefix(i.Name, "veth") {
			return i.Name
		}
	}
	b.t.Fatal("the result has no interface of the host")
	return ""
}

// TestRoutedGatewayModes: each mode lets through without a bridge what it does with one.
func TestRoutedGatewayModes(t *testing.T) {
	t.Parallel()
	for _, modes := range [][2]string{{"", ""}, {"nat", "nat"}, {"nat-unprotected", "nat-unprotected"}, {"routed", "routed"}, {"nat", "routed"}} {
		t.Run(modes[0]+" "+modes[1], func(t *testing.T) {
			t.Parallel()
			gatewayMode(t, "nftables", modes, `"mode": "routed"`)
		})
	}
}

// TestRoutedReach: everybody reaches a published port, and the container's own, and the
// container sees who it is; there is no bridge, and nothing is left.
func TestRoutedReach(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	n, before := b.used(routed)
	c, neighbour := b.container("c1"), b.container("c2")
	r, addr := b.add(n, c, tcpPort(8080, 80))
	_, other := b.add(n, neighbour)
	serve(t, c, ":80")
	if out, err := b.Output("ip", "-br", "link", "show", "type", "bridge"); err != nil || out != "" {
		t.Errorf("there are bridges: %s, %v", out, err)
	}
	six, gateway6 := first6(r), r.IPs[1].Gateway
	if !strings.HasSuffix(r.IPs[0].Address, "/32") || r.IPs[0].Gateway != gateway || !strings.HasPrefix(gateway6, "fe80::") {
		t.Errorf("addresses %+v", r.IPs)
	}
	b.answers(b.outside, sandbox.HostAddr4+":8080", c, sandbox.OutsideAddr4)
	b.answers(b.outside, "["+sandbox.HostAddr6+"]:8080", c, sandbox.OutsideAddr6)
	b.answers(b, "127.0.0.1:8080", c, gateway)
	b.answers(b, sandbox.HostAddr4+":8080", c, sandbox.HostAddr4)
	b.answers(b, "["+sandbox.HostAddr6+"]:8080", c, sandbox.HostAddr6)
	b.answers(b, addr+":80", c, gateway)
	b.answers(b, six+":80", c, sandbox.HostAddr6)
	b.answers(neighbour, addr+":80", c, other)
	b.answers(neighbour, six+":80", c, "")
	b.answers(neighbour, sandbox.HostAddr4+":8080", c, other) // who asks by the host keeps its address, too
	b.answers(c, sandbox.HostAddr4+":8080", c, gateway)       // itself
	b.answers(c, "["+sandbox.HostAddr6+"]:8080", c, "")
	for _, box := range []*sandbox.Container{c, neighbour} {
		must(t, n.Check(box, tcpPort(8080, 80)))
		must(t, n.Del(box, tcpPort(8080, 80)))
		must(t, box.Remove())
	}
	b.same(before, "after DEL")
}

// TestRoutedPolicies: who a network lets its containers talk to.
func TestRoutedPolicies(t *testing.T) {
	t.Parallel()
	type way struct{ neighbour, far, outside, host bool }
	for keys, want := range map[string]way{
		``:                               {true, true, true, true},
		`"icc": false`:                   {false, true, true, true},
		`"internal": true`:               {true, false, false, true},
		`"isolate": true`:                {true, false, true, true},
		`"internal": true, "icc": false`: {false, false, false, true},
		`"gatewayModeIPv4": "nat", "gatewayModeIPv6": "nat", "isolate": true`: {true, false, true, true},
	} {
		t.Run(keys, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			conf := strings.Replace(routed, `"ipMasq": true, `, "", 1)
			if keys != "" {
				conf = with(conf, keys)
			}
			if !strings.Contains(keys, "gatewayMode") {
				conf = with(conf, `"ipMasq": true`)
			}
			n := b.network(conf)
			c, neighbour, far := b.container("c1"), b.container("c2"), b.container("far")
			ports := tcpPort(8080, 80)
			r, addr := b.add(n, c, ports)
			b.add(n, neighbour)
			other, err := b.Network(`{"cniVersion": "1.1.0", "name": "other", "plugins": [{"type": "bridge", "mode": "routed", "isDefaultGateway": true, "isolate": true,
				"ipam": {"ranges": [[{"subnet": "10.7.0.0/24"}], [{"subnet": "fd00:7::/64"}]]}}]}`, b.bin)
			must(t, err)
			b.add(other, far)
			serve(t, c, ":80")
			serve(t, c, ":81")
			serve(t, b.outside, ":7000")
			for _, own := range []string{addr, first6(r)} {
				for _, from := range []struct {
					who interface {
						Ask(string) (string, error)
					}
					reaches bool
				}{{neighbour, want.neighbour}, {far, want.far}, {b, want.host}} {
					if from.reaches {
						b.answers(from.who, own+":81", c, "")
					} else {
						b.unreachable(from.who, own+":81", keys)
					}
				}
			}
			for _, out := range []string{sandbox.OutsideAddr4, "[" + sandbox.OutsideAddr6 + "]"} {
				if want.outside {
					b.answers(c, out+":7000", b.outside, "")
				} else {
					b.unreachable(c, out+":7000", keys)
				}
			}
			if !strings.Contains(keys, "internal") { // what is published is reached in spite of all
				b.answers(neighbour, sandbox.HostAddr4+":8080", c, "")
				b.answers(far, sandbox.HostAddr4+":8080", c, "")
			}
		})
	}
}

// TestRoutedSettingsChange: a network takes the settings that its conflist has got to with the
// next ADD, at the interfaces of all its containers.
func TestRoutedSettingsChange(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	n := b.network(routed)
	c, neighbour := b.container("c1"), b.container("c2")
	_, addr := b.add(n, c)
	b.add(n, neighbour)
	serve(t, c, ":80")
	serve(t, b.outside, ":7000")
	b.answers(neighbour, addr+":80", c, "")
	closed := b.network(with(routed, `"icc": false`, `"internal": true`))
	b.add(closed, b.container("c3"))
	b.unreachable(neighbour, addr+":80", "icc false")
	b.unreachable(c, sandbox.OutsideAddr4+":7000", "internal")
	b.add(n, b.container("c4"))
	b.answers(neighbour, addr+":80", c, "")
	b.answers(c, sandbox.OutsideAddr4+":7000", b.outside, sandbox.HostAddr4)
}

// TestRoutedSpoof: a container that is held to its addresses speaks with no other one.
func TestRoutedSpoof(t *testing.T) {
	t.Parallel()
	for _, holds := range []string{"true", "false"} {
		t.Run(holds, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			n := b.network(with(routed, `"ipspoofchk": `+holds))
			c, neighbour := b.container("c1"), b.container("c2")
			_, addr := b.add(n, c)
			r, other := b.add(n, neighbour)
			heard := func() string {
				must(t, b.Script("ip netns exec c2 nft table inet spoof { chain in { type filter hook input priority 0 ; ip saddr 10.88.0.99 counter ; ip6 saddr fd00:88::99 counter ; } ; }"))
				_, _ = c.Output("ip", "addr", "add", "10.88.0.99/32", "dev", "eth0")
				_, _ = c.Output("ip", "addr", "add", "fd00:88::99/128", "dev", "eth0", "nodad")
				_, _ = c.Output("ping", "-c1", "-W1", "-I", "10.88.0.99", other)
				_, _ = c.Output("ping", "-c1", "-W1", "-I", "fd00:88::99", strings.Trim(first6(r), "[]"))
				out, err := neighbour.Output("nft", "list", "table", "inet", "spoof")
				must(t, err)
				return out
			}()
			if passed := strings.Count(heard, "packets 1"); (passed == 0) != (holds == "true") {
				t.Errorf("ipspoofchk %s: the neighbour saw\n%s", holds, heard)
			}
			ping(t, neighbour, addr)
			dropped, err := b.Output("nft", "list", "counter", "inet", "berth", "spoofed_ip")
			must(t, err)
			if strings.Contains(dropped, "packets 0") == (holds == "true") {
				t.Errorf("ipspoofchk %s: %s", holds, dropped)
			}
		})
	}
}

// TestRoutedSpoofOfTwoNetworks: what a container is asked by its address on one network, it
// may answer by its interface on another.
func TestRoutedSpoofOfTwoNetworks(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"bridge", "routed"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			first := b.network(with(routed, `"ipspoofchk": true`))
			second, err := b.Network(`{"cniVersion": "1.1.0", "name": "second", "plugins": [{"type": "bridge", "mode": "`+mode+`", "bridge": "second0", "isGateway": true, "ipspoofchk": true,
				"ipam": {"ranges": [[{"subnet": "10.7.0.0/24"}], [{"subnet": "fd00:7::/64"}]]}, "capabilities": {"portMappings": true}}]}`, b.bin)
			must(t, err)
			c := b.container("c1")
			b.add(first, c)
			b.add(second, c, sandbox.IfName("eth1"), tcpPort(8080, 80))
			serve(t, c, ":80")
			b.answers(b.outside, sandbox.HostAddr4+":8080", c, sandbox.OutsideAddr4)
			b.answers(b.outside, "["+sandbox.HostAddr6+"]:8080", c, sandbox.OutsideAddr6)
		})
	}
}

// TestRoutedNames: containers find each other, and the Internet's names, also over TCP, and
// nobody else is answered.
func TestRoutedNames(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	n := b.network(with(routed, `"names": true`))
	one, two := b.named(n, "one"), b.named(n, "two")
	one.finds("two", two.addr)
	two.finds("one.demo", one.addr)
	if out, err := one.sh("dig +tcp +short two.demo"); err != nil || strings.TrimSpace(out) != two.addr {
		t.Errorf("by TCP: %q, %v", out, err)
	}
	for _, tcp := range []string{"+notcp", "+tcp"} {
		if out, err := b.outside.Output("dig", tcp, "+short", "+time=1", "+tries=1", "-p", "10053", "@"+sandbox.HostAddr4, "two.demo"); err == nil && strings.Contains(out, two.addr) {
			t.Errorf("who is no container is answered %q", out)
		}
	}
	b.ownDNS(one)
	must(t, n.Check(one.Container, one.opts...))
	must(t, n.Del(two.Container, two.opts...))
	if out, err := one.sh("getent hosts two.demo"); err == nil {
		t.Errorf("a name of one who has gone: %s", out)
	}
}

// TestRoutedAndBack: containers of a bridge live on when the network loses it, and those
// without when it gets one: they reach the outside and each other, are published, and go.
func TestRoutedAndBack(t *testing.T) {
	t.Parallel()
	plain := with(strings.Replace(bridge, `"ipMasq": true, `, "", 1), `"isDefaultGateway": true, "ipMasq": true`)
	bare := with(routed, `"bridge": "berth0"`)
	for _, modes := range [][2]string{{plain, bare}, {bare, plain}} {
		b := newBed(t)
		before, now := b.network(modes[0]), b.network(modes[1])
		old, young := b.container("old"), b.container("young")
		ports := map[*sandbox.Container]sandbox.Option{old: tcpPort(8080, 80), young: tcpPort(8081, 80)}
		r1, oldAddr := b.add(before, old, ports[old])
		r2, youngAddr := b.add(now, young, ports[young])
		serve(t, b.outside, ":7000")
		for c, at := range map[*sandbox.Container]string{old: "8080", young: "8081"} {
			serve(t, c, ":80")
			b.answers(c, sandbox.OutsideAddr4+":7000", b.outside, sandbox.HostAddr4)
			b.answers(b.outside, sandbox.HostAddr4+":"+at, c, sandbox.OutsideAddr4)
			must(t, now.Check(c, ports[c]))
		}
		ends := [2]string{b.hostEnd(r1), b.hostEnd(r2)}
		b.answers(old, youngAddr+":80", young, oldAddr)
		b.answers(young, oldAddr+":80", old, youngAddr)
		b.answers(old, first6(r2)+":80", young, "")
		b.answers(young, first6(r1)+":80", old, "")
		b.answers(b, oldAddr+":80", old, "")
		b.answers(b, youngAddr+":80", young, "")
		b.answers(b, first6(r1)+":80", old, "")
		b.answers(b, first6(r2)+":80", young, "")
		for _, c := range []*sandbox.Container{old, young} {
			must(t, now.Del(c, ports[c]))
			must(t, c.Remove())
		}
		if out, err := b.Output("ip", "-br", "link", "show", "type", "veth"); err != nil || strings.Contains(out, ends[0]) || strings.Contains(out, ends[1]) {
			t.Errorf("left: %s, %v", out, err)
		}
		if out, err := b.Output("ip", "-6", "neigh", "show", "proxy"); err != nil || out != "" {
			t.Errorf("the bridge answers still for %s, %v", out, err)
		}
	}
}

// TestRoutedLookedAfter: whatever somebody does to it, a reload and an agent put it back.
func TestRoutedLookedAfter(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]string{
		"interface down":  "ip link set VETH down",
		"route gone":      "ip route del ADDRESS",
		"addresses gone":  "ip addr flush dev VETH",
		"table flushed":   "nft flush ruleset",
		"group changed":   "ip link set VETH group 7",
		"FORWARD drops":   "iptables-nft -P FORWARD DROP\nip6tables-nft -P FORWARD DROP",
		"legacy drops":    "iptables-legacy -P FORWARD DROP\nip6tables-legacy -P FORWARD DROP",
		"forwarding off":  "sysctl -qw net.ipv4.ip_forward=0\nsysctl -qw net.ipv6.conf.all.forwarding=0",
		"interface gone":  "ip link del VETH",
		"localnet is off": "sysctl -qw net.ipv4.conf.VETH.route_localnet=0",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			n := b.network(routed)
			c := b.container("c1")
			r, addr := b.add(n, c, tcpPort(8080, 80))
			serve(t, c, ":80")
			serve(t, b.outside, ":7000")
			must(t, b.Script(strings.NewReplacer("VETH", b.hostEnd(r), "ADDRESS", addr).Replace(harm)))
			if n.Check(c, tcpPort(8080, 80)) == nil {
				t.Error("CHECK sees nothing")
			}
			if out, err := b.Output(filepath.Join(b.bin, "berth"), "reload"); err != nil {
				t.Errorf("reload: %v\n%s", err, out)
			}
			must(t, n.Check(c, tcpPort(8080, 80)))
			b.answers(b.outside, sandbox.HostAddr4+":8080", c, sandbox.OutsideAddr4)
			b.answers(b, "127.0.0.1:8080", c, gateway)
			b.answers(c, sandbox.OutsideAddr4+":7000", b.outside, sandbox.HostAddr4)
		})
	}
}

// TestRoutedSeen: what a person is shown of a network without a bridge, and its removal.
func TestRoutedSeen(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	must(t, b.Do(func() error {
		return errors.Join(os.MkdirAll("/etc/cni/net.d", 0o755), os.WriteFile("/etc/cni/net.d/10-demo.conflist", []byte(conflist(version, routed)), 0o644))
	}))
	n := b.network(routed)
	c := b.container("c1")
	r, addr := b.add(n, c, tcpPort(8080, 80))
	veth := b.hostEnd(r)
	berth := func(args ...string) string {
		t.Helper()
		out, err := b.Output(filepath.Join(b.bin, "berth"), args...)
		if err != nil {
			t.Errorf("berth %v: %v\n%s", args, err, out)
		}
		return out
	}
	for _, seen := range []struct {
		args []string
		want string
	}{{[]string{"ps"}, addr}, {[]string{"inspect", "c1"}, veth}, {[]string{"network", "inspect", "--format", "table", "demo"}, `mode=routed`}, {[]string{"graph"}, veth}, {[]string{"doctor"}, ""}} {
		if out := berth(seen.args...); !strings.Contains(out, seen.want) || strings.Contains(out, "bridge cni0") || strings.Contains(out, "cni0 is missing") {
			t.Errorf("berth %v does not show %s:\n%s", seen.args, seen.want, out)
		}
	}
	must(t, n.Del(c, tcpPort(8080, 80)))
	berth("network", "rm", "--force", "demo")
	if out, err := b.Output("nft", "list", "set", "inet", "berth", "groups"); err == nil && strings.Contains(out, "elements") {
		t.Errorf("left after network rm: %s", out)
	}
}

// TestRoutedHostLocal: another IPAM's addresses are routed as ours are.
func TestRoutedHostLocal(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	n := b.network(`{"type": "bridge", "mode": "routed", "isDefaultGateway": true, "ipMasq": true, "capabilities": {"portMappings": true},
		"ipam": {"type": "host-local", "ranges": [[` + subnet + `], [` + subnet6 + `]]}}`)
	c, neighbour := b.container("c1"), b.container("c2")
	r, addr := b.add(n, c, tcpPort(8080, 80))
	b.add(n, neighbour)
	serve(t, c, ":80")
	b.answers(neighbour, addr+":80", c, "")
	b.answers(neighbour, first6(r)+":80", c, "")
	b.answers(b.outside, sandbox.HostAddr4+":8080", c, sandbox.OutsideAddr4)
	must(t, n.Check(c, tcpPort(8080, 80)))
	must(t, n.Del(c, tcpPort(8080, 80)))
}
