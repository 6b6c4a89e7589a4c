package integration

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// later is a network on an interface that comes, goes and comes again.
const later = `{"type": "macvlan", "master": "later0", "ipam": {"ranges": [[{"subnet": "198.51.100.0/24", "rangeStart": "198.51.100.16"}],
	[{"subnet": "2001:db8:5::/64", "rangeStart": "2001:db8:5::16"}]]}}`

// plugIn makes the master: one end of a cable, with the host's addresses.
func (b *bed) plugIn() {
	b.t.Helper()
	must(b.t, b.Script(`ip link add later0 type veth peer name later0 netns outside
		ip -n outside link set later0 up
		ip link set later0 up
		ip addr add 198.51.100.1/24 dev later0
		ip addr add 2001:db8:5::1/64 dev later0 nodad`))
}

// TestMacvlanMaster: while the master is missing, ADD and STATUS say so; when it went,
// CHECK and the doctor tell of the containers that lost their interface and of the host's
// way to them; when it is there again, a reload gives both back, and an ADD works.
func TestMacvlanMaster(t *testing.T) {
	t.Parallel()
	for _, shim := range []bool{false, true} {
		for _, vlan := range []bool{false, true} {
			for _, first := range []string{"reload", "doctor", "ADD"} { // when the master is there again
				t.Run(fmt.Sprintf("shim %t, vlan %t, %s first", shim, vlan, first), func(t *testing.T) {
					t.Parallel()
					macvlanMaster(t, shim, vlan, first)
				})
			}
		}
	}
}

func macvlanMaster(t *testing.T, shim, vlan bool, first string) {
	b := newBed(t)
	conf := with(later, fmt.Sprintf(`"hostShim": %t`, shim))
	missing := "no such interface"
	if vlan { // the containers' cable is later0.10, which Berth makes
		if err := b.Script("ip link add link " + sandbox.Uplink + " name probe type vlan id 11\nip link del probe"); err != nil {
			t.Skipf("this kernel has no VLAN devices (option VLAN_8021Q): %v", err)
		}
		conf, missing = strings.Replace(conf, "later0", "later0.10", 1), "neither"
	}
	n := b.network(conf)
	berth := func(args ...string) (string, error) { return b.Output(filepath.Join(b.bin, "berth"), args...) }
	refused := func(name string) {
		t.Helper()
		c := b.container(name)
		b.refused(b.callMacvlan(sandbox.Call{Verb: "ADD", Container: c.ID, Netns: c.Netns, Config: config(version, conf)}), 7, "master", "later0", missing)
		b.refused(b.callMacvlan(sandbox.Call{Verb: "STATUS", Config: config(version, conf)}), 50, "later0")
		must(t, c.Remove())
	}
	refused("early")
	b.plugIn()
	must(t, n.Status())
	one, two, leaves := b.container("one"), b.container("two"), b.container("leaves")
	r, addr := b.add(n, one)
	_, addrTwo := b.add(n, two)
	b.add(n, leaves)
	serve(t, one, ":80")
	works := func(who *sandbox.Container, addr string) {
		t.Helper()
		b.answers(who, addr+":80", one, "")
		b.answers(who, first6(r)+":80", one, "")
		if shim && !vlan { // the host has its addresses on the parent
			b.answers(b, addr+":80", one, "198.51.100.1")
			b.answers(b, first6(r)+":80", one, "")
		}
		must(t, n.Check(one))
		must(t, n.Check(who))
		if out, err := berth("doctor"); err != nil {
			t.Errorf("the doctor: %v\n%s", err, out)
		}
	}
	works(two, addr)

	must(t, b.Script("ip link del later0"))
	refused("between")
	if err := n.Check(one); err == nil || !strings.Contains(err.Error(), "eth0") && !strings.Contains(err.Error(), "shim") {
		t.Errorf("CHECK without the interface: %v", err)
	}
	out, err := berth("doctor")
	if err == nil || !strings.Contains(out, "the interface of ") || shim && !strings.Contains(out, "the way from the host of ") {
		t.Errorf("the doctor: %v\n%s", err, out)
	}
	if out, err := berth("reload"); err == nil || !strings.Contains(out, "NOT put back") || !strings.Contains(out, "later0") || !strings.Contains(out, "no such device") {
		t.Errorf("reload: %v\n%s", err, out)
	}
	must(t, n.Del(leaves))

	b.plugIn()
	if first == "ADD" {
		three := b.container("three")
		b.add(n, three)
		must(t, n.Check(three))
		must(t, n.Del(three))
	}
	restore := []string{"reload"}
	if first == "doctor" {
		restore = []string{"doctor", "--fix"}
	}
	if out, err := berth(restore...); err != nil {
		t.Errorf("%v: %v\n%s", restore, err, out)
	}
	works(two, addr)
	four := b.container("four")
	b.add(n, four)
	works(four, addr)
	for _, c := range []*sandbox.Container{one, two, four} {
		must(t, n.Del(c))
	}
	if out, err := b.Output("ip", "-o", "link"); err != nil || strings.Contains(out, "shim") || strings.Contains(out, addrTwo) {
		t.Errorf("left: %v\n%s", err, out)
	}
}
