package macvlan

import (
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"github.com/berth-cni/berth/pkg/link/internal/linktest"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/berth-cni/berth/pkg/steptest"
	"golang.org/x/sys/unix"
)

func TestHostShimConforms(t *testing.T) {
	linktest.LAN(t)
	a := linktest.OnLAN(t, "c1", 3)
	steptest.Conform(t, &HostShim{Master: "up0"}, a, steptest.Harmless, linktest.State(t, a))
}

// The shim goes with its last user, in whatever order they go, and one that a killed
// ADD left is used.
func TestHostShimIsShared(t *testing.T) {
	linktest.LAN(t)
	s := &HostShim{Master: "up0"}
	a, b := linktest.OnLAN(t, "c1", 3), linktest.OnLAN(t, "c2", 4)
	linktest.AddAll(t, a, s)
	linktest.AddAll(t, b, s)
	for _, x := range []*attach.Attachment{a, b} {
		if !linktest.Exists(t, s.Name()) {
			t.Fatal("the shim is gone before its last user")
		}
		if err := s.Del(t.Context(), x); err != nil {
			t.Fatal(err)
		}
	}
	if linktest.Exists(t, s.Name()) {
		t.Error("the shim is there without users")
	}
	linktest.Run(t, "ip link add "+s.Name()+" link up0 type macvlan mode bridge")
	linktest.AddAll(t, a, s)
	if err := s.Check(t.Context(), a); err != nil {
		t.Errorf("on top of a shim that was left: %v", err)
	}
	linktest.Run(t, "ip link del "+s.Name())
	if s.Check(t.Context(), a) == nil {
		t.Error("Check sees a shim that is not there")
	}
	if err := s.Del(t.Context(), a); err != nil {
		t.Error(err)
	}
}

// A route of somebody else to the container's address is refused, not taken.
func TestHostShimRouteTaken(t *testing.T) {
	linktest.LAN(t)
	linktest.Run(t, "ip route add 10.88.0.3/32 dev up0")
	a := linktest.OnLAN(t, "c1", 3)
	before := linktest.State(t, a)()
	if err := (&HostShim{Master: "up0"}).Add(t.Context(), &attach.Adding{Attachment: a}); !errors.Is(err, unix.EEXIST) || !strings.Contains(err.Error(), "10.88.0.3") {
		t.Errorf("got %v", err)
	}
	if after := linktest.State(t, a)(); after != before {
		t.Errorf("left\n%s\nof\n%s", after, before)
	}
}

// The shim answers for the host to its containers only: the network's other hosts
// know the host at one MAC.
func TestHostShimIsSilent(t *testing.T) {
	other := linktest.LAN(t)
	a := linktest.OnLAN(t, "c1", 3)
	linktest.AddAll(t, a, &HostShim{Master: "up0"}, &Interface{Master: "up0", Mode: "bridge"})
	for _, to := range []string{"10.88.0.3", "fd00:88::3"} {
		if err := nstest.Run("ping", "-c1", "-W1", to); err != nil {
			t.Error(err)
		}
	}
	for _, to := range []string{"10.88.0.1", "fd00:88::1", "10.88.255.2", "fd00:88::ff02"} {
		if err := linktest.Ping(t, a.Netns, to); err != nil {
			t.Error(err)
		}
	}
	nstest.In(t, other, func() {
		out, err := nstest.Output("busybox", "arping", "-c2", "-I", "up0", "10.88.0.1")
		if err != nil || strings.Count(out, "reply from") != 2 {
			t.Errorf("the host answers ARP %d times for 2: %v\n%s", strings.Count(out, "reply from"), err, out)
		}
	})
}

// A shim that is made anew with another address is found by the containers that still
// have their route by the old one.
func TestHostShimMoves(t *testing.T) {
	for _, taken := range []bool{false, true} {
		linktest.LAN(t)
		a := &attach.Adding{Attachment: linktest.OnLAN(t, "c1", 3)}
		shim, macvlan := &HostShim{Master: "up0"}, &Interface{Master: "up0", Mode: "bridge"}
		a.Steps = []attach.Step{shim, macvlan}
		for _, s := range a.Steps {
			if err := s.Add(t.Context(), a); err != nil {
				t.Fatal(err)
			}
		}
		if taken {
			linktest.Run(t, "ip -n "+filepath.Base(a.Netns)+" -6 route del fd00:88::1/128")
		}
		linktest.Run(t, "ip link del "+shim.Name()+"\nip link set up0 address 02:00:00:00:00:77")
		outside := *macvlan
		outside.Expect(&iface.Expected{})
		a.Steps = []attach.Step{shim, &outside}
		if err := attach.Reload(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		err := linktest.Ping(t, a.Netns, "fd00:88::1")
		for range 5 { // the new shim hears who asks for its address a moment after it has it
			if err == nil || taken {
				break
			}
			err = linktest.Ping(t, a.Netns, "fd00:88::1")
		}
		if (err != nil) != taken {
			t.Errorf("the container's route to the host taken out %v: %v", taken, err)
		}
		if err := macvlan.Check(t.Context(), a.Attachment); (err != nil) != taken {
			t.Errorf("taken out %v: %v", taken, err)
		}
	}
}

func TestSource(t *testing.T) {
	have := []netip.Prefix{netip.MustParsePrefix("169.254.1.1/16"), netip.MustParsePrefix("10.1.0.1/16"), netip.MustParsePrefix("10.2.0.1/16"),
		netip.MustParsePrefix("fe80::1/64"), netip.MustParsePrefix("fd00::1/64")}
	for dst, want := range map[string]string{"10.2.0.9": "10.2.0.1", "10.9.0.9": "10.1.0.1", "fd00::9": "fd00::1", "fe80::9": "fd00::1"} {
		if got := source(have, netip.MustParseAddr(dst)); got.String() != want {
			t.Errorf("source for %s: %s, want %s", dst, got, want)
		}
	}
	if got := source(have[:1], netip.MustParseAddr("10.1.0.1")); got.IsValid() {
		t.Errorf("got %s from a link-local address", got)
	}
}
