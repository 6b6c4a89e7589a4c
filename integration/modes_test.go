package integration

import (
	"slices"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// unreachable fails the test when somebody is answered at the address.
func (b *bed) unreachable(who interface {
	Ask(string) (string, error)
}, address, why string) {
	b.t.Helper()
	if answer, err := who.Ask(address); err == nil {
		b.t.Errorf("%s: %s is answered %q", why, address, answer)
	}
}

// TestInternal attaches to a network that leads nowhere but to itself.
func TestInternal(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	n, before := b.used(with(bridge, `"internal": true`))
	c, other := b.container("c1"), b.container("c2")
	_, addr := b.add(n, c, tcpPort(8080, 80))
	b.add(n, other)
	serve(t, c, ":80")
	serve(t, b.outside, ":7000")
	b.answers(other, addr+":80", c, "")
	b.unreachable(c, sandbox.OutsideAddr4+":7000", "internal")
	b.unreachable(b.outside, sandbox.HostAddr4+":8080", "internal: a port is published")
	must(t, n.Check(c, tcpPort(8080, 80)))
	for _, box := range []*sandbox.Container{c, other} {
		must(t, n.Del(box))
		must(t, box.Remove())
	}
	b.same(before, "after an internal network")
}

// TestNoICC attaches to a network whose containers cannot reach each other but
// through published ports.
func TestNoICC(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	n, before := b.used(with(bridge, `"icc": false`))
	c, other := b.container("c1"), b.container("c2")
	_, addr := b.add(n, c, tcpPort(8080, 80))
	b.add(n, other)
	serve(t, c, ":80")
	b.unreachable(other, addr+":80", "icc false")
	b.answers(other, gateway+":8080", c, "")
	b.answers(b.outside, sandbox.HostAddr4+":8080", c, sandbox.OutsideAddr4)
	must(t, n.Check(c, tcpPort(8080, 80)))
	for _, box := range []*sandbox.Container{c, other} {
		must(t, n.Del(box))
		must(t, box.Remove())
	}
	b.same(before, "after a network without icc")
}

// TestIsolate attaches to three networks: two isolated ones do not reach each other,
// but published ports; the third is reached.
func TestIsolate(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	net := func(name, bridge, subnet, more string) *sandbox.Network {
		n, err := b.Network(`{"cniVersion": "1.1.0", "name": "`+name+`", "plugins": [{"type": "bridge", "bridge": "`+bridge+`", "isDefaultGateway": true,
			"ipMasq": true, "capabilities": {"portMappings": true}, "ipam": {"subnet": "`+subnet+`"}`+more+`}]}`, b.bin)
		must(t, err)
		return n
	}
	one, two, open := b.container("one"), b.container("two"), b.container("open")
	_, addrOne := b.add(net("one", "br1", "10.1.0.0/24", `, "isolate": true`), one, tcpPort(8081, 80))
	_, addrTwo := b.add(net("two", "br2", "10.2.0.0/24", `, "isolate": true`), two, tcpPort(8082, 80))
	_, addrOpen := b.add(net("open", "br3", "10.3.0.0/24", ""), open)
	for _, c := range []*sandbox.Container{one, two, open} {
		serve(t, c, ":80")
	}
	b.unreachable(one, addrTwo+":80", "isolated from another")
	b.unreachable(two, addrOne+":80", "isolated from another")
	b.answers(one, sandbox.HostAddr4+":8082", two, "")
	b.answers(one, addrOpen+":80", open, "")

	overlap := sandbox.Call{Verb: "ADD", Container: "late", Netns: b.container("late").Netns,
		Config: `{"cniVersion": "1.1.0", "name": "late", "type": "bridge", "bridge": "br4", "isGateway": true, "ipam": {"subnet": "10.2.0.0/16"}}`}
	b.refused(b.call(overlap), 7, "10.2.0.0/16", "10.2.0.0/24", "two")
}

// TestRequested asks for an address and a MAC in each of the ways there are.
func TestRequested(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	n, before := b.used(bridge)
	args := with(bridge, `"args": {"cni": {"ips": ["10.88.7.3"], "mac": "02:00:00:00:07:03"}}`)
	for _, test := range []struct {
		ip, mac string
		n       *sandbox.Network
		opts    []sandbox.Option
	}{
		{"10.88.7.1", "02:00:00:00:07:01", n, []sandbox.Option{sandbox.Cap("ips", []string{"10.88.7.1/16"}), sandbox.Cap("mac", "02:00:00:00:07:01")}},
		{"10.88.7.2", "02:00:00:00:07:02", n, []sandbox.Option{sandbox.Arg("IP", "10.88.7.2"), sandbox.Arg("MAC", "02:00:00:00:07:02")}},
		{"10.88.7.3", "02:00:00:00:07:03", b.network(args), nil},
	} {
		c := b.container("c" + test.ip)
		r, addr := b.add(test.n, c, test.opts...)
		if addr != test.ip || r.Interfaces[len(r.Interfaces)-1].Mac != test.mac {
			t.Errorf("address %s and interfaces %+v, want %s and %s", addr, r.Interfaces, test.ip, test.mac)
		}
		out, err := c.Output("ip", "link", "show", "eth0")
		must(t, err)
		if !strings.Contains(out, test.mac) {
			t.Errorf("the interface has not the MAC %s: %s", test.mac, out)
		}
		other := b.container("o" + test.ip)
		if _, err := n.Add(other, sandbox.Cap("ips", []string{test.ip})); err == nil || !strings.Contains(err.Error(), c.ID) {
			t.Errorf("a second container with %s: %v, want an error that names %s", test.ip, err, c.ID)
		}
		must(t, test.n.Del(c, test.opts...))
		must(t, c.Remove())
		must(t, other.Remove())
	}
	b.same(before, "after requested addresses")
}

// TestFreedAddressRests wants another address for the next container than the one
// that has just become free.
func TestFreedAddressRests(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	n, _ := b.used(bridge)
	var seen []string
	for _, name := range []string{"a", "b", "c"} {
		c := b.container(name)
		_, addr := b.add(n, c)
		must(t, n.Del(c))
		if slices.Contains(seen, addr) {
			t.Errorf("%s is used again at once", addr)
		}
		seen = append(seen, addr)
	}
}

// TestCheckFinds breaks one thing after the other; CHECK finds each.
func TestCheckFinds(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ what, script string }{
		{"address", "ip -n c1 addr flush dev eth0 scope global"},
		{"default route", "ip -n c1 route del default"},
		{"interface down", "ip -n c1 link set eth0 down"},
		{"interface gone", "ip -n c1 link del eth0"},
		{"not a port of the bridge", "ip link set HOSTIF nomaster"},
		{"firewall flushed", "nft flush ruleset"},
		{"gateway address", "ip addr flush dev berth0 scope global"},
		{"bridge gone", "ip link del berth0"},
	} {
		t.Run(test.what, func(t *testing.T) {
			b := newBed(t)
			n := b.network(bridge)
			c := b.container("c1")
			r, _ := b.add(n, c, tcpPort(8080, 80))
			must(t, n.Check(c, tcpPort(8080, 80)))
			hostIf := ""
			for _, i := range r.Interfaces {
				if strings.HasPrefix(i.Name, "veth") {
					hostIf = i.Name
				}
			}
			must(t, b.Script(strings.ReplaceAll(test.script, "HOSTIF", hostIf)))
			if err := n.Check(c, tcpPort(8080, 80)); err == nil {
				t.Error("CHECK finds it in order")
			}
			must(t, n.Del(c, tcpPort(8080, 80)))
		})
	}
}
