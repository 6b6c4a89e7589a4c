package ipvlan

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link/internal/linktest"
	"github.com/berth-cni/berth/pkg/link/parent"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/berth-cni/berth/pkg/steptest"
	"golang.org/x/sys/unix"
)

// lan is [linktest.LAN] on a kernel that has ipvlans; on another one the test is skipped.
func lan(t *testing.T) string {
	t.Helper()
	other := linktest.LAN(t)
	if err := Supported(); err != nil {
		t.Skip(err)
	}
	return other
}

// on is an attachment as the plugin plans it: of the master's MAC, and in l3 without
// gateways.
func on(t *testing.T, master, mode, container string, n int) *attach.Attachment {
	t.Helper()
	a := linktest.OnLAN(t, container, n)
	if p, err := parent.Find("", master); err == nil && p != nil {
		a.MAC = p.MAC
	}
	if Routes(mode) {
		for i := range a.Addresses {
			a.Addresses[i].Gateway = attach.Address{}.Gateway
		}
		for i := range a.Routes {
			a.Routes[i].Gateway = attach.Address{}.Gateway
		}
	}
	return a
}

// TestSupported compares the answer with what becomes of an interface that is asked for, and
// has ADD say why there is none.
func TestSupported(t *testing.T) {
	linktest.LAN(t)
	made := nstest.Run("ip", "link", "add", "link", "up0", "name", "probe", "type", "ipvlan", "mode", "l2")
	err := Supported()
	if (made == nil) != (err == nil) {
		t.Fatalf("iproute2: %v, Supported: %v", made, err)
	}
	if linktest.Exists(t, "ipvlanprobe") {
		t.Error("the question has left an interface")
	}
	if err == nil {
		return
	}
	a := linktest.OnLAN(t, "c1", 3)
	before := linktest.State(t, a)()
	add := (&Interface{Master: "up0", Mode: "l2", Flag: "bridge"}).Add(t.Context(), &attach.Adding{Attachment: a})
	for _, err := range []error{err, add} {
		if !errors.Is(err, parent.ErrNoKind) || !strings.Contains(err.Error(), "this kernel has no ipvlan (CONFIG_IPVLAN)") {
			t.Errorf("got %v", err)
		}
	}
	if after := linktest.State(t, a)(); after != before {
		t.Errorf("left\n%s\nof\n%s", after, before)
	}
}

func TestIPVlanConforms(t *testing.T) {
	for _, v := range []Interface{{Mode: "l2", Flag: "bridge"}, {Mode: "l2", Flag: "private"}, {Mode: "l2", Flag: "vepa"}, {Mode: "l3", Flag: "bridge"},
		{Mode: "l3s", Flag: "private"}, {Mode: "l2", Flag: "bridge", MTU: 1400}, {Mode: "l2", Flag: "bridge", DAD: true}} {
		v.Master = "up0"
		t.Run(fmt.Sprintf("%+v", v), func(t *testing.T) {
			lan(t)
			a := on(t, "up0", v.Mode, "c1", 3)
			steptest.Conform(t, &v, a, steptest.Refused, linktest.State(t, a))
		})
	}
	t.Run("master in the container", func(t *testing.T) {
		nstest.Host(t)
		if err := Supported(); err != nil {
			t.Skip(err)
		}
		a := on(t, "up0", "l2", "c1", 3)
		linktest.Run(t, "ip link add up0 type veth peer name up0 netns "+filepath.Base(a.Netns)+"\nip link set up0 up\nip -n "+filepath.Base(a.Netns)+" link set up0 up")
		steptest.Conform(t, &Interface{Master: "up0", Mode: "l2", Flag: "bridge", Inside: true}, a, steptest.Refused, linktest.State(t, a))
	})
}

func TestIPVlanRefusals(t *testing.T) {
	lan(t)
	linktest.Run(t, `ip link add br0 type bridge
		ip link add port0 type veth peer name port1
		ip link set port0 master br0
		ip link add mac0 type veth peer name mac1
		ip link add link mac0 name child0 type macvlan mode bridge`)
	a, b := on(t, "up0", "l2", "c1", 3), on(t, "up0", "l2", "c2", 4)
	l2 := func(master string) Interface { return Interface{Master: master, Mode: "l2", Flag: "bridge"} }
	first := l2("up0")
	linktest.AddAll(t, a, &first)
	before := linktest.State(t, b)()
	large := l2("up0")
	large.MTU = 1501
	for _, test := range []struct {
		step Interface
		is   error
		says string
	}{
		{l2("mac0"), parent.ErrMaster, "children of another kind"},
		{l2("mac0"), unix.EBUSY, "busy"},
		{l2("port0"), parent.ErrMaster, "port of a bridge"},
		{l2("lo"), parent.ErrMaster, "not an Ethernet interface"},
		{l2("nobody"), unix.ENODEV, "nobody"},
		{large, unix.EINVAL, "larger than the master's, 1500"},
	} {
		err := test.step.Add(t.Context(), &attach.Adding{Attachment: b})
		if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%+v: %v, want %q", test.step, err, test.says)
		}
	}
	same := *b
	same.Addresses = a.Addresses
	if err := first.Add(t.Context(), &attach.Adding{Attachment: &same}); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("an address of another child: %v", err)
	}
	if after := linktest.State(t, b)(); after != before {
		t.Errorf("left\n%s\nof\n%s", after, before)
	}
}

// TestIPVlanTraffic: children of a master reach each other and the other host, with the
// master's MAC, unless the flag keeps them apart; the other host routes to those of l3.
func TestIPVlanTraffic(t *testing.T) {
	for _, test := range []struct {
		mode, flag string
		together   bool
	}{{"l2", "bridge", true}, {"l2", "private", false}, {"l3", "bridge", true}, {"l3s", "bridge", true}} {
		t.Run(test.mode+" "+test.flag, func(t *testing.T) {
			other := lan(t)
			v := &Interface{Master: "up0", Mode: test.mode, Flag: test.flag}
			a, b := on(t, "up0", test.mode, "c1", 3), on(t, "up0", test.mode, "c2", 4)
			for _, x := range []*attach.Attachment{a, b} {
				x.Routes = nil
				linktest.AddAll(t, x, v)
			}
			if Routes(test.mode) { // nobody asks for neighbours there, nor answers
				linktest.Run(t, "ip -n "+filepath.Base(other)+" route add 10.88.0.3/32 via 10.88.0.1\nip -n "+filepath.Base(other)+" -6 route add fd00:88::3/128 via fd00:88::1")
			}
			for _, to := range []string{"10.88.255.2", "fd00:88::ff02"} {
				if err := reach(t, a.Netns, to, 30); err != nil {
					t.Errorf("to the other host %s: %v", to, err)
				}
			}
			for _, to := range []string{"10.88.0.4", "fd00:88::4"} {
				if err := reach(t, a.Netns, to, map[bool]int{true: 30, false: 1}[test.together]); (err == nil) != test.together {
					t.Errorf("to the neighbour %s: %v", to, err)
				}
			}
		})
	}
}

// reach sends packets until one is answered: the first may be lost while the master learns
// its neighbour's MAC.
func reach(t *testing.T, from, to string, most int) (err error) {
	for range most {
		if err = linktest.Ping(t, from, to); err == nil {
			break
		}
	}
	return err
}

// TestIPVlanMoves: the other host learns at once that an address has got to another MAC.
func TestIPVlanMoves(t *testing.T) {
	other := filepath.Base(lan(t))
	linktest.Run(t, `ip -n `+other+` neigh replace 10.88.0.3 lladdr 02:00:00:00:00:99 nud reachable dev up0
		ip -n `+other+` neigh replace fd00:88::3 lladdr 02:00:00:00:00:99 nud reachable dev up0`)
	a := on(t, "up0", "l2", "c1", 3)
	linktest.AddAll(t, a, &Interface{Master: "up0", Mode: "l2", Flag: "bridge"})
	for range 200 {
		out, err := nstest.Output("ip", "-n", other, "neigh", "show", "dev", "up0")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out, "02:00:00:00:00:99") {
			return
		}
		linktest.Wait()
	}
	t.Error("the other host still has the old MAC")
}

// TestIPVlanMode: Check sees that a younger child of the master has changed the mode of all,
// and a MAC that the master has changed is no fault.
func TestIPVlanMode(t *testing.T) {
	lan(t)
	v := &Interface{Master: "up0", Mode: "l2", Flag: "bridge"}
	a := on(t, "up0", "l2", "c1", 3)
	linktest.AddAll(t, a, v)
	linktest.Run(t, "ip link set up0 address 02:00:00:00:00:77")
	if err := v.Check(t.Context(), a); err != nil {
		t.Errorf("the master has another MAC: %v", err)
	}
	linktest.Run(t, "ip link add link up0 name young type ipvlan mode l2 private")
	if err := v.Check(t.Context(), a); err == nil || !strings.Contains(err.Error(), "flag bridge, but private") {
		t.Errorf("another flag: %v", err)
	}
	linktest.Run(t, "ip link del young\nip link add link up0 name young type ipvlan mode l3 bridge")
	if err := v.Check(t.Context(), a); err == nil || !strings.Contains(err.Error(), "mode l2, but l3") {
		t.Errorf("another mode: %v", err)
	}
}

// TestSubinterface: a VLAN's interface stays until its last user has gone, though all have
// its MAC.
func TestSubinterface(t *testing.T) {
	lan(t)
	s := &parent.Subinterface{Parent: "up0", VLAN: 10, SharedMAC: true}
	if err := nstest.Run("ip", "link", "add", "link", "up0", "name", "probe", "type", "vlan", "id", "11"); err != nil {
		t.Skip("this kernel has no VLAN devices (option VLAN_8021Q)")
	}
	v := &Interface{Master: s.Name(), Mode: "l2", Flag: "bridge"}
	a, b := on(t, "up0", "l2", "c1", 3), on(t, "up0", "l2", "c2", 4)
	for _, x := range []*attach.Attachment{a, b} {
		linktest.AddAll(t, x, s, v)
	}
	for _, x := range []*attach.Attachment{a, b} {
		if err := errors.Join(s.Check(t.Context(), x), v.Check(t.Context(), x)); err != nil {
			t.Error(err)
		}
	}
	for _, x := range []*attach.Attachment{a, b} {
		if !linktest.Exists(t, s.Name()) {
			t.Error("it is gone before its last user")
		}
		if err := errors.Join(v.Del(t.Context(), x), s.Del(t.Context(), x)); err != nil {
			t.Error(err)
		}
	}
	if linktest.Exists(t, s.Name()) {
		t.Error("it is there without users")
	}
}
