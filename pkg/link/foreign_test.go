package link

import (
	"path/filepath"
	"testing"

	"github.com/berth-cni/berth/pkg/link/internal/linktest"
	"github.com/berth-cni/berth/pkg/link/netns"
	"github.com/berth-cni/berth/pkg/nstest"
)

// TestFindForeign has interfaces of several suites in one namespace: only those of the
// configuration's kind are found.
func TestFindForeign(t *testing.T) {
	nstest.Host(t)
	c := nstest.Namespace(t)
	id := filepath.Base(c)
	linktest.Run(t, `ip link add cni0 type bridge
ip link add docker0 type bridge
ip link add up0 type veth peer name up1
ip link add v0 type veth peer name eth0 netns `+id+`
ip link set v0 master cni0
ip link add v1 type veth peer name docker netns `+id+`
ip link set v1 master docker0
ip link add v2 type veth peer name routed netns `+id+`
ip link add m0 link up0 netns `+id+` type macvlan mode bridge
ip -n `+id+` link add inner type veth peer name outer
ip -n `+id+` link add m1 link inner type macvlan mode bridge
ip -n `+id+` link add pair0 type veth peer name pair1`)
	bridge := ForeignKind{On: "cni0"}
	for _, test := range []struct {
		ifName string
		kind   ForeignKind
		found  bool
	}{
		{"eth0", bridge, true},
		{"eth0", ForeignKind{}, true},
		{"docker", bridge, false},
		{"eth0", ForeignKind{On: "gone"}, false},
		{"routed", bridge, false},
		{"routed", ForeignKind{}, false},
		{"pair0", ForeignKind{}, false},
		{"inner", ForeignKind{}, false},
		{"none", bridge, false},
		{"m0", bridge, false},
		{"m0", ForeignKind{Child: "macvlan", On: "up0"}, true},
		{"m0", ForeignKind{Child: "macvlan"}, true},
		{"m0", ForeignKind{Child: "macvlan", On: "up1"}, false},
		{"m0", ForeignKind{Child: "macvlan", On: "up0", Inside: true}, false},
		{"m1", ForeignKind{Child: "macvlan", On: "inner", Inside: true}, true},
		{"m1", ForeignKind{Child: "macvlan", On: "inner"}, false},
		{"eth0", ForeignKind{Child: "macvlan"}, false},
	} {
		f, err := FindForeign(c, test.ifName, test.kind)
		if err != nil || (f != nil) != test.found {
			t.Errorf("%s as %+v: %v, %v, want found %v", test.ifName, test.kind, f, err, test.found)
		}
	}
	for _, test := range []struct {
		up, ifName string
		alone      bool
	}{{"lo", "eth0", true}, {"eth0", "eth0", true}, {"eth0", "net1", false}} {
		linktest.Run(t, "ip -n "+id+" link set "+test.up+" up")
		if alone, err := Alone(c, test.ifName); err != nil || alone != test.alone {
			t.Errorf("%s up: is %s alone: %v, %v, want %v", test.up, test.ifName, alone, err, test.alone)
		}
	}
	if alone, err := Alone(c+"-gone", "eth0"); err != nil || !alone {
		t.Errorf("a container that is gone has others: %v, %v", alone, err)
	}
	if alone, err := Alone(netns.OwnPath, "eth0"); err != nil || alone {
		t.Errorf("the host's own namespace is alone: %v, %v", alone, err)
	}
	if f, err := FindForeign(netns.OwnPath, "v0", ForeignKind{}); f != nil || err != nil {
		t.Errorf("in the host's own namespace: %v, %v", f, err)
	}
}
