package link

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"github.com/berth-cni/berth/pkg/link/internal/linktest"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/berth-cni/berth/pkg/steptest"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func TestVethConforms(t *testing.T) {
	for _, v := range []Veth{
		{}, {MTU: 1400}, {Hairpin: true}, {Isolated: true}, {NoICC: true}, {MACSpoofCheck: true}, {DAD: true},
	} {
		v.Bridge = "berth0"
		t.Run(fmt.Sprintf("%+v", v), func(t *testing.T) {
			if v.MACSpoofCheck {
				needLock(t)
			}
			nstest.Host(t)
			a := linktest.Attachment(t, "c1", 2)
			if err := (&Bridge{Name: "berth0", Gateway: true}).Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
				t.Fatal(err)
			}
			steptest.Conform(t, &v, a, steptest.Refused, linktest.State(t, a))
		})
	}
}

// two attaches two containers to one bridge.
func two(t *testing.T, br Bridge, v Veth) (a, b *attach.Attachment) {
	t.Helper()
	nstest.Host(t)
	br.Name, v.Bridge = "berth0", "berth0"
	a, b = linktest.Attachment(t, "c1", 2), linktest.Attachment(t, "c2", 3)
	for _, x := range []*attach.Attachment{a, b} {
		if err := br.Add(t.Context(), &attach.Adding{Attachment: x}); err != nil {
			t.Fatal(err)
		}
		if err := v.Add(t.Context(), &attach.Adding{Attachment: x}); err != nil {
			t.Fatal(err)
		}
	}
	return a, b
}

// The first packet must get through: the bridge forwards for the port when Add
// returns, and no address waits for duplicate address detection.
func TestReachAtOnce(t *testing.T) {
	a, _ := two(t, Bridge{Gateway: true}, Veth{})
	for _, to := range []string{"10.88.0.3", "fd00:88::3", "10.88.0.1", "fd00:88::1"} {
		if err := linktest.Ping(t, a.Netns, to); err != nil {
			t.Error(err)
		}
	}
}

func TestIsolatedPorts(t *testing.T) {
	a, _ := two(t, Bridge{Gateway: true}, Veth{Isolated: true})
	if linktest.Ping(t, a.Netns, "10.88.0.3") == nil {
		t.Error("isolated ports reach each other")
	}
	if err := linktest.Ping(t, a.Netns, "10.88.0.1"); err != nil {
		t.Error(err)
	}
}

func TestMACSpoofCheck(t *testing.T) {
	needLock(t)
	a, _ := two(t, Bridge{Gateway: true}, Veth{MACSpoofCheck: true})
	if err := linktest.Ping(t, a.Netns, "10.88.0.3"); err != nil {
		t.Errorf("with its own MAC: %v", err)
	}
	nstest.In(t, a.Netns, func() {
		if err := nstest.Run("ip", "link", "set", "eth0", "address", "02:00:00:00:00:99"); err != nil {
			t.Fatal(err)
		}
	})
	if linktest.Ping(t, a.Netns, "10.88.0.3") == nil {
		t.Error("a frame with another source MAC got through")
	}
}

// needLock skips a test on a kernel without locked ports, where ADD is refused.
func needLock(t *testing.T) {
	t.Helper()
	nstest.Host(t)
	a := linktest.Attachment(t, "c1", 2)
	if err := (&Bridge{Name: "berth0"}).Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
		t.Fatal(err)
	}
	v := &Veth{Bridge: "berth0", MACSpoofCheck: true}
	err := v.Add(t.Context(), &attach.Adding{Attachment: a})
	if err == nil {
		err = v.Del(t.Context(), a)
	}
	if errors.Is(err, ErrNoLock) {
		if linktest.Exists(t, a.HostIfName()) {
			t.Error("the refused port is left")
		}
		t.Skip("this kernel has no locked ports (5.18)")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// With DAD an address is no longer tentative when Add returns, and one that another
// host has is refused.
func TestDAD(t *testing.T) {
	nstest.Host(t)
	a, b := linktest.Attachment(t, "c1", 2), linktest.Attachment(t, "c2", 2)
	v := &Veth{Bridge: "berth0", DAD: true}
	if err := (&Bridge{Name: "berth0"}).Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
		t.Fatal(err)
	}
	if err := v.Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
		t.Fatal(err)
	}
	nstest.In(t, a.Netns, func() {
		if out, err := nstest.Output("ip", "-6", "address", "show", "tentative"); err != nil || strings.Contains(out, "fd00") {
			t.Errorf("tentative: %s (%v)", out, err)
		}
	})
	b.MAC = "02:00:00:00:00:02"
	if err := v.Add(t.Context(), &attach.Adding{Attachment: b}); err == nil || !strings.Contains(err.Error(), "fd00:88::2") {
		t.Errorf("a duplicate: %v", err)
	}
}

func TestInterfaceExistsInContainer(t *testing.T) {
	nstest.Host(t)
	a := linktest.Attachment(t, "c1", 2)
	if err := (&Bridge{Name: "berth0"}).Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
		t.Fatal(err)
	}
	nstest.In(t, a.Netns, func() {
		if err := nstest.Run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "other"); err != nil {
			t.Fatal(err)
		}
	})
	before := linktest.State(t, a)()
	err := (&Veth{Bridge: "berth0"}).Add(t.Context(), &attach.Adding{Attachment: a})
	if !errors.Is(err, unix.EEXIST) || !strings.Contains(err.Error(), "the container has an interface eth0") {
		t.Errorf("got %v", err)
	}
	if after := linktest.State(t, a)(); after != before {
		t.Errorf("left\n%s\nwant\n%s", after, before)
	}
}

// Each address, route and look-up that fails inside the container takes the whole
// interface with it.
func TestVethRollsBack(t *testing.T) {
	nstest.Host(t)
	a := linktest.Attachment(t, "c1", 2)
	if err := (&Bridge{Name: "berth0"}).Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
		t.Fatal(err)
	}
	a.Routes = append(a.Routes, attach.Route{Dst: netip.MustParsePrefix("192.0.2.0/24"), Gateway: netip.MustParseAddr("203.0.113.1")})
	before := linktest.State(t, a)()
	err := (&Veth{Bridge: "berth0"}).Add(t.Context(), &attach.Adding{Attachment: a})
	if err == nil || !strings.Contains(err.Error(), "192.0.2.0/24 by 203.0.113.1") {
		t.Errorf("an unreachable gateway: %v", err)
	}
	if after := linktest.State(t, a)(); after != before {
		t.Errorf("left\n%s\nwant\n%s", after, before)
	}
}

func TestMAC(t *testing.T) {
	a := &attach.Attachment{Addresses: []attach.Address{{Prefix: netip.MustParsePrefix("10.88.1.2/16")}}}
	if got := iface.MAC(a); got != "02:42:0a:58:01:02" {
		t.Errorf("MAC of 10.88.1.2 is %s", got)
	}
	a.Addresses = []attach.Address{{Prefix: netip.MustParsePrefix("fd00::2/64")}}
	v6 := iface.MAC(a)
	if a.Addresses = nil; iface.MAC(a) == v6 || !strings.HasPrefix(v6, "02:42:") {
		t.Errorf("MAC of fd00::2 is %s, without an address %s", v6, iface.MAC(a))
	}
}
