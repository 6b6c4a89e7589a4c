package parent

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"github.com/berth-cni/berth/pkg/link/internal/linktest"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/berth-cni/berth/pkg/steptest"
	"golang.org/x/sys/unix"
)

// child is a macvlan on a master.
func child(master string) attach.Step {
	const bridge = 4 // MACVLAN_MODE_BRIDGE
	return children{&Child{Expectable: &iface.Expectable{}, Kind: "macvlan", Master: master, OwnMAC: true,
		Data:   func(data *netlink.Request) { data.Uint32(unix.IFLA_MACVLAN_MODE, bridge) },
		InMode: func(*rtnl.Link) error { return nil }, Refused: func(*rtnl.Link) string { return "" }}}
}

type children struct{ c *Child }

func (s children) Kind() string                                        { return s.c.Kind }
func (s children) Add(_ context.Context, a *attach.Adding) error       { return s.c.Add(a) }
func (s children) Del(_ context.Context, a *attach.Attachment) error   { return Del(s.c.Kind, a) }
func (s children) Check(_ context.Context, a *attach.Attachment) error { return s.c.Check(a) }

func TestSubinterfaceConforms(t *testing.T) {
	linktest.LAN(t)
	s := &Subinterface{Parent: "up0", VLAN: 10}
	a, b := linktest.OnLAN(t, "c1", 3), linktest.OnLAN(t, "c2", 4)
	if err := nstest.Run("ip", "link", "add", "link", "up0", "name", "probe", "type", "vlan", "id", "11"); err != nil {
		if err := s.Add(t.Context(), &attach.Adding{Attachment: a}); err == nil || !strings.Contains(err.Error(), "VLAN_8021Q") {
			t.Errorf("got %v, want an error that names the kernel's option", err)
		}
		t.Skip("this kernel has no VLAN devices (option VLAN_8021Q)")
	}
	linktest.Run(t, "ip link del probe")
	steptest.Conform(t, s, a, steptest.Harmless, linktest.State(t, a))
	linktest.AddAll(t, a, s)
	linktest.AddAll(t, b, s, child(s.Name()))
	for _, x := range []*attach.Attachment{a, b} {
		if !linktest.Exists(t, s.Name()) {
			t.Error("it is gone before its last user")
		}
		if err := errors.Join(child("").Del(t.Context(), x), s.Del(t.Context(), x)); err != nil {
			t.Error(err)
		}
	}
	if linktest.Exists(t, s.Name()) {
		t.Error("it is there without users")
	}
	linktest.Run(t, "ip link add link up0 name up0.10 type vlan id 10")
	linktest.AddAll(t, a, s)
	if err := s.Del(t.Context(), a); err != nil || !linktest.Exists(t, s.Name()) {
		t.Errorf("somebody else's is gone: %v", err)
	}
}

// The users of an interface, on one that this kernel has.
func TestUsers(t *testing.T) {
	linktest.LAN(t)
	linktest.Run(t, "ip link add shared type veth peer name shared1\nip link set shared up\nip link set shared1 up")
	c, err := iface.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	d, err := c.LinkByName("shared")
	if err != nil {
		t.Fatal(err)
	}
	expect := func(want bool) {
		t.Helper()
		if held, err := held(c, d); err != nil || held != want {
			t.Errorf("held: %v, %v, want %v", held, err, want)
		}
	}
	expect(false)
	m := child("shared")
	a, b := linktest.OnLAN(t, "c1", 3), linktest.OnLAN(t, "c2", 4)
	for _, x := range []*attach.Attachment{a, b} {
		for range 2 {
			if err := hold(c, d, x.MAC); err != nil {
				t.Fatal(err)
			}
		}
		linktest.AddAll(t, x, m)
		expect(true)
	}
	linktest.Run(t, "ip -n "+filepath.Base(b.Netns)+" link set eth0 down") // b stays a user
	for _, x := range []*attach.Attachment{a, b} {
		if !linktest.Exists(t, "shared") {
			t.Fatal("gone before its last user")
		}
		if err := errors.Join(m.Del(t.Context(), x), release(c, d, x.MAC)); err != nil {
			t.Fatal(err)
		}
	}
	if linktest.Exists(t, "shared") {
		t.Error("there without users")
	}
}

// TestSubinterfaceKnowsItsUsers: an interface that was made again does not know those who
// used the one before, until they are put back. A veth stands for it.
func TestSubinterfaceKnowsItsUsers(t *testing.T) {
	linktest.LAN(t)
	s := &Subinterface{Parent: "up0", VLAN: 10}
	a, b := linktest.OnLAN(t, "c1", 3), linktest.OnLAN(t, "c2", 4)
	if err := s.Check(t.Context(), a); err == nil {
		t.Error("it is not there")
	}
	linktest.Run(t, "ip link add up0.10 type veth peer name other")
	if err := s.Check(t.Context(), a); err == nil || !strings.Contains(err.Error(), "is down") {
		t.Errorf("down: %v", err)
	}
	linktest.Run(t, "ip link set up0.10 up")
	if err := s.Check(t.Context(), a); err != nil {
		t.Errorf("somebody else's: %v", err)
	}
	linktest.Run(t, "ip link set up0.10 alias berth")
	for _, x := range []*attach.Attachment{a, b} {
		if err := s.Check(t.Context(), x); err == nil || !strings.Contains(err.Error(), x.MAC) {
			t.Errorf("it does not know %s: %v", x.Container, err)
		}
		linktest.AddAll(t, x, s)
		if err := s.Check(t.Context(), x); err != nil {
			t.Error(err)
		}
	}
	for _, x := range []*attach.Attachment{a, b} {
		if !linktest.Exists(t, s.Name()) {
			t.Error("it is gone before its last user")
		}
		if err := s.Del(t.Context(), x); err != nil {
			t.Error(err)
		}
	}
	if linktest.Exists(t, s.Name()) {
		t.Error("it is there without users")
	}
}
