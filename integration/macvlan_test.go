package integration

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/sandbox"
)

// The network that the cable is: the host is .1, the other host .2.
const (
	macvlanIPAM = `"ipam": {"ranges": [[{"subnet": "192.0.2.0/24", "rangeStart": "192.0.2.16", "gateway": "192.0.2.2"}],
		[{"subnet": "2001:db8::/64", "rangeStart": "2001:db8::16", "gateway": "2001:db8::2"}]], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}`
	macvlan = `{"type": "macvlan", ` + macvlanIPAM + `}`
)

// far is the other host of the cable, with a container of its own on a macvlan.
func (b *bed) far() *sandbox.Container {
	b.t.Helper()
	c := b.container("far")
	must(b.t, b.Script(`ip -n outside link add far0 link eth0 type macvlan mode bridge
		ip -n outside link set far0 netns far
		ip -n far addr add 192.0.2.99/24 dev far0
		ip -n far addr add 2001:db8::99/64 dev far0 nodad
		ip -n far link set far0 up`))
	return c
}

// first6 is the first IPv6 address of a result, as a host of a URL.
func first6(r result) string {
	for _, ip := range r.IPs {
		if addr, _, _ := strings.Cut(ip.Address, "/"); strings.Contains(addr, ":") {
			return "[" + addr + "]"
		}
	}
	return ""
}

// usedMacvlan is [bed.used] for a macvlan, whose ports are not published.
func (b *bed) usedMacvlan(plugin string) (*sandbox.Network, sandbox.Snapshot) {
	b.t.Helper()
	n := b.network(plugin)
	first := b.container("first")
	_, err := n.Add(first)
	must(b.t, err)
	must(b.t, n.Del(first))
	must(b.t, first.Remove())
	return n, b.snapshot()
}

// callMacvlan is [bed.call] of the macvlan plugin.
func (b *bed) callMacvlan(c sandbox.Call) sandbox.Reply {
	c.Plugin = filepath.Join(b.bin, "macvlan")
	return b.call(c)
}

// TestMacvlan joins two hosts by a cable: containers of both reach each other and the
// other host; a host and its own container only with the shim.
func TestMacvlan(t *testing.T) {
	t.Parallel()
	for _, shim := range []bool{false, true} {
		t.Run(fmt.Sprintf("shim %v", shim), func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			far := b.far()
			n, before := b.usedMacvlan(with(macvlan, fmt.Sprintf(`"hostShim": %v`, shim)))
			must(t, n.Status())
			c, other := b.container("c1"), b.container("c2")
			r, addr := b.add(n, c)
			_, otherAddr := b.add(n, other)
			addr6 := first6(r)
			if len(r.Interfaces) != 1 || r.Interfaces[0].Name != "eth0" || r.Interfaces[0].Sandbox != c.Netns || r.Interfaces[0].Mac != "02:42:c0:00:02:11" {
				t.Errorf("interfaces %+v, want the container's eth0 only", r.Interfaces)
			}
			for _, s := range []*sandbox.Container{c, far, b.outside} {
				serve(t, s, ":80")
			}
			stop, err := b.Serve(":80")
			must(t, err)
			defer stop()

			b.answers(other, addr+":80", c, otherAddr)
			b.answers(other, addr6+":80", c, "")
			for _, peer := range []*sandbox.Container{far, b.outside} {
				b.answers(peer, addr+":80", c, "")
				b.answers(peer, addr6+":80", c, "")
			}
			b.answers(c, "192.0.2.99:80", far, addr)
			b.answers(c, "[2001:db8::99]:80", far, "")
			b.answers(c, sandbox.OutsideAddr4+":80", b.outside, addr)
			b.answers(c, "["+sandbox.OutsideAddr6+"]:80", b.outside, "")
			host := &sandbox.Container{ID: "host"}
			if shim {
				b.answers(b, addr+":80", c, sandbox.HostAddr4)
				b.answers(b, addr6+":80", c, sandbox.HostAddr6)
				b.answers(c, sandbox.HostAddr4+":80", host, addr)
				b.answers(c, "["+sandbox.HostAddr6+"]:80", host, "")
				b.answers(b.outside, sandbox.HostAddr4+":80", host, sandbox.OutsideAddr4)
			} else {
				b.unreachable(b, addr+":80", "no shim")
				b.unreachable(c, sandbox.HostAddr4+":80", "no shim")
			}

			must(t, n.Check(c))
			must(t, n.GC(other))
			b.unreachable(far, addr+":80", "collected")
			if err := n.Check(c); err == nil {
				t.Error("CHECK finds a collected container in order")
			}
			must(t, n.Check(other))
			must(t, n.Del(c))
			must(t, other.Remove()) // the namespace has gone before DEL
			must(t, n.Del(other))
			must(t, c.Remove())
			for range 50 { // the kernel takes a namespace's interfaces away in its own time
				if before.Diff(b.snapshot()) == nil {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
			b.same(before, "after all verbs")
		})
	}
}

// TestMacvlanModes: private children are apart, passthru is the only one.
func TestMacvlanModes(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	far := b.far()
	serve(t, far, ":80")
	n := b.network(with(macvlan, `"mode": "private"`))
	c, other := b.container("c1"), b.container("c2")
	_, addr := b.add(n, c)
	b.add(n, other)
	serve(t, c, ":80")
	b.unreachable(other, addr+":80", "private")
	b.answers(far, addr+":80", c, "")
	must(t, n.Del(c))
	must(t, n.Del(other))

	before := b.snapshot()
	n = b.network(with(macvlan, `"mode": "passthru"`))
	r, addr := b.add(n, c)
	out, err := b.Output("cat", "/sys/class/net/"+sandbox.Uplink+"/address")
	must(t, err)
	if r.Interfaces[0].Mac != strings.TrimSpace(out) {
		t.Errorf("passthru: MAC %s, want the master's, %s", r.Interfaces[0].Mac, out)
	}
	b.answers(far, addr+":80", c, "")
	if _, err := n.Add(other); err == nil || !strings.Contains(err.Error(), "passthru") {
		t.Errorf("a second passthru: %v", err)
	}
	must(t, n.Check(c))
	must(t, n.Del(c))
	b.same(before, "after passthru")
}

// TestMacvlanInContainer puts a macvlan on an interface of the container itself.
func TestMacvlanInContainer(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	c, peer := b.container("c1"), b.container("peer")
	must(t, b.Script(`ip link add up0 netns c1 type veth peer name up0 netns peer
		ip -n c1 link set up0 up
		ip -n peer link set up0 up
		ip -n peer addr add 192.0.2.2/24 dev up0`))
	n := b.network(with(macvlan, `"linkInContainer": true, "master": "up0"`))
	must(t, n.Status())
	_, addr := b.add(n, c)
	serve(t, c, ":80")
	b.answers(peer, addr+":80", c, "")
	must(t, n.Check(c))
	must(t, n.Del(c))
	if out, err := c.Output("ip", "-br", "link"); err != nil || strings.Contains(out, "eth0") || !strings.Contains(out, "up0") {
		t.Errorf("after DEL: %v %s", err, out)
	}
}

// TestMacvlanRefusals: each with the key, its value and what is allowed; and nothing
// is left.
func TestMacvlanRefusals(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	c := b.container("c1")
	must(t, b.Script(`ip link add br0 type bridge
		ip link add port0 type veth peer name port1
		ip link set port0 master br0
		ip -n c1 link add taken0 type bridge`))
	_, before := b.usedMacvlan(macvlan)
	for conf, words := range map[string][]string{
		`"mode": "source"`:                        {"mode", "source", "passthru"},
		`"master": "nobody"`:                      {"master", "nobody"},
		`"mtu": 9000`:                             {"mtu", "9000", "1500"},
		`"mac": "x"`:                              {"mac", "unicast"},
		`"hostShim": true, "mode": "vepa"`:        {"hostShim", "bridge"},
		`"linkInContainer": true`:                 {"master", "default route"},
		`"runtimeConfig": {"mac": "ff:00:00:00"}`: {"runtimeConfig.mac"},
	} {
		call := sandbox.Call{Verb: "ADD", Container: c.ID, Netns: c.Netns, Config: config(version, macvlan, conf)}
		b.refused(b.callMacvlan(call), 7, words...)
	}
	call := sandbox.Call{Verb: "ADD", Container: c.ID, Netns: c.Netns, Config: config(version, macvlan, `"master": "port0"`)}
	b.refused(b.callMacvlan(call), 0, "port0", "port of a bridge")
	call.Config, call.IfName = config(version, macvlan), "taken0"
	b.refused(b.callMacvlan(call), 0, "taken0")
	prev := `"prevResult": {"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "` + c.Netns + `"}]}`
	call.Config, call.IfName = config(version, macvlan, prev), "eth0"
	b.refused(b.callMacvlan(call), 7, "prevResult", "eth0")
	b.refused(b.callMacvlan(sandbox.Call{Verb: "STATUS", Config: config(version, macvlan, `"master": "nobody"`)}), 50, "nobody")
	b.same(before, "after refusals")

	must(t, b.Script("ip route del default\nip -6 route del default"))
	call.Config = config(version, macvlan)
	b.refused(b.callMacvlan(call), 7, "master", "default route")

	// Ports are ignored, and that is said.
	call.Config = config(version, macvlan, `"master": "uplink0"`, twoPorts)
	if r := b.good(b.callMacvlan(call)); !strings.Contains(r.Stderr, "ignored") {
		t.Errorf("no warning about ports in %q", r.Stderr)
	}
}

// TestMacvlanIPAM: layer 2 only, and addresses of another plugin.
func TestMacvlanIPAM(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	c := b.container("c1")
	n := b.network(`{"type": "macvlan", "capabilities": {"mac": true}}`)
	r, _ := b.add(n, c, sandbox.Cap("mac", "02:00:00:00:07:01"))
	if len(r.IPs) != 0 || r.Interfaces[0].Mac != "02:00:00:00:07:01" {
		t.Errorf("layer 2: %+v", r)
	}
	if out, err := c.Output("ip", "-br", "link", "show", "eth0"); err != nil || !strings.Contains(out, ",UP") {
		t.Errorf("layer 2: %v %s", err, out)
	}
	must(t, n.Check(c))
	must(t, n.Del(c))

	before := b.snapshot()
	n = b.network(`{"type": "macvlan", "hostShim": true, "ipam": {"type": "host-local", "subnet": "192.0.2.0/24", "rangeStart": "192.0.2.30",
		"gateway": "192.0.2.2", "routes": [{"dst": "0.0.0.0/0"}]}}`)
	_, addr := b.add(n, c)
	serve(t, c, ":80")
	b.answers(b.outside, addr+":80", c, "")
	b.answers(b, addr+":80", c, sandbox.HostAddr4)
	must(t, n.Check(c))
	must(t, n.Del(c))
	for _, l := range before.Diff(b.snapshot()) {
		if !strings.Contains(l, "/var/lib/cni/networks/") { // host-local's own
			t.Errorf("after host-local: %s", l)
		}
	}
}

// TestMacvlanVersions: the shape of the result in every version.
func TestMacvlanVersions(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for _, v := range versions {
		c := b.container("v" + v)
		call := sandbox.Call{Verb: "ADD", Container: c.ID, Netns: c.Netns, Config: config(v, macvlan)}
		out := b.good(b.callMacvlan(call)).Stdout
		if got, want := shape(t, out), wantShape(v); !slices.Equal(got, want) {
			t.Errorf("%s: the result has the keys %v, want %v", v, got, want)
		}
		call.Config = config(v, macvlan, `"prevResult": `+out)
		if v >= "0.4.0" {
			call.Verb = "CHECK"
			b.good(b.callMacvlan(call))
		}
		call.Verb = "DEL"
		b.good(b.callMacvlan(call))
	}
}

// TestMacvlanLikeReference wants the reference's result of the same configuration,
// apart from the MAC, which is random there, and the MTU, which it leaves out.
func TestMacvlanLikeReference(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	plugin := `{"type": "macvlan", "master": "uplink0", "mtu": 1400, "ipam": {"type": "host-local", "subnet": "192.0.2.0/24", "routes": [{"dst": "0.0.0.0/0"}]}}`
	var results []string
	for _, dir := range []string{b.ref, b.bin} {
		n, err := b.Network(conflist(version, plugin), dir, b.ref)
		must(t, err)
		c := b.container("c1")
		r, addr := b.add(n, c)
		out, err := c.Output("ip", "-4", "route")
		must(t, err)
		r.Interfaces[0].Mac, r.Interfaces[0].Mtu = "", 0
		data, err := json.Marshal(r)
		must(t, err)
		results = append(results, strings.ReplaceAll(string(data)+out, addr, "ADDRESS"))
		must(t, n.Del(c))
		must(t, c.Remove())
	}
	if results[0] != results[1] {
		t.Errorf("the reference\n%s\nBerth\n%s", results[0], results[1])
	}
}

// TestMacvlanHostNamespace: DEL touches nothing of the host's, whatever the path has
// become, and whoever's DEL it is.
func TestMacvlanHostNamespace(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	const path = "/run/netns/host"
	must(t, b.OwnNetns(path))
	n, _ := b.used(bridge)
	c := b.container("c1")
	b.add(n, c)
	before := b.snapshot()
	call := sandbox.Call{Verb: "ADD", Container: "host", Netns: path, Config: config(version, macvlan)}
	b.refused(b.callMacvlan(call), 4, "CNI_NETNS", path)
	for _, ifName := range []string{"eth0", sandbox.Uplink, "berth0", "lo"} {
		call.Verb, call.IfName = "DEL", ifName
		b.good(b.callMacvlan(call))
	}
	b.same(before, "DEL in the host's namespace")
	must(t, n.Check(c))

	// Attached as it should be, and then the path has become another's.
	m := b.network(macvlan)
	box, other := b.container("box"), b.container("other")
	b.add(m, box)
	b.add(m, other)
	must(t, b.Script("umount "+box.Netns+"\nmount --bind "+other.Netns+" "+box.Netns))
	must(t, m.Del(box))
	must(t, m.Check(other))
}
