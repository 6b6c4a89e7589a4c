package main

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/link/ipvlan"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/berth-cni/berth/pkg/steptest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

const everything = `{"cniVersion": "1.1.0", "name": "lan", "type": "ipvlan", "mtu": 1300, "mode": "l3",
	"ipam": {"ranges": [[{"subnet": "192.0.2.0/24", "gateway": "192.0.2.2"}], [{"subnet": "2001:db8::/64"}]], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}`

// add adds container n in the namespace, with step k faulty if f says so.
func add(t *testing.T, s *attach.Store, n byte, netns string, k int, f steptest.Fault) (steps int, err error) {
	t.Helper()
	r, err := mode.Request(t.Context(), &cni.CmdArgs{ContainerID: key(n).Container, IfName: "eth0", Netns: netns,
		StdinData: []byte(everything), Args: fmt.Sprintf("IP=192.0.2.%d,2001:db8::%x", n, n)})
	if err != nil {
		t.Fatal(err)
	}
	a, err := r.Adding()
	if err != nil {
		t.Fatal(err)
	}
	steptest.Spoil(a.Steps, k, f)
	return len(a.Steps), s.Add(t.Context(), a)
}

func key(n byte) attach.Key {
	return attach.Key{Network: "lan", Container: fmt.Sprint("c", n), IfName: "eth0"}
}

// state is what the host and the namespace have, and what the store says.
func state(t *testing.T, s *attach.Store, netns string) string {
	t.Helper()
	var b strings.Builder
	ns := filepath.Base(netns)
	for _, cmd := range []string{"ip -o link", "ip -o address", "ip route", "ip -6 route", "bridge fdb show dev up0",
		"ip -n " + ns + " -o link", "ip -n " + ns + " -o address", "ip -n " + ns + " route", "ip -n " + ns + " -6 route"} {
		f := strings.Fields(cmd)
		out, err := nstest.Output(f[0], f[1:]...)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out) {
			if !strings.Contains(line, "fe80::") && !strings.HasPrefix(line, "33:33:") { // they come and go late
				b.WriteString(line)
			}
		}
	}
	all, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		fmt.Fprintln(&b, "record", a.Key)
	}
	err = s.View(t.Context(), func(tx *attach.Tx) error {
		for n := range byte(20) {
			if holder, ok := tx.Holder("lan", netip.AddrFrom4([4]byte{192, 0, 2, n})); ok {
				fmt.Fprintln(&b, "lease", n, holder)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestFaultLeavesNothing: whichever step fails, and however, the kernel and the store are as
// before, without a neighbour and with one.
func TestFaultLeavesNothing(t *testing.T) {
	uplink(t)
	t.Setenv(attach.DirEnv, t.TempDir())
	s := attach.New("", cni.Decode)
	netns, neighbour := nstest.Namespace(t), nstest.Namespace(t)
	if ipvlan.Supported() != nil { // the kernel itself is the fault
		before := state(t, s, netns)
		if _, err := add(t, s, 5, netns, 0, steptest.None); err == nil || !strings.Contains(err.Error(), "this kernel has no ipvlan") {
			t.Errorf("got %v", err)
		}
		if after := state(t, s, netns); after != before {
			t.Errorf("left\n%s\nof\n%s", after, before)
		}
		t.Skip("this kernel has no ipvlan (CONFIG_IPVLAN): the other faults cannot be had")
	}
	for _, alone := range []bool{true, false} {
		steps := 4
		if !alone {
			var err error
			if steps, err = add(t, s, 5, neighbour, 0, steptest.None); err != nil {
				t.Fatal(err)
			}
		}
		before := state(t, s, netns)
		for k := range steps {
			for _, how := range steptest.Faults {
				if _, err := add(t, s, 6, netns, k, how); err == nil || !strings.Contains(err.Error(), "fault") {
					t.Fatalf("step %d, %s: %v", k, how, err)
				}
				if after := state(t, s, netns); after != before {
					t.Errorf("step %d, %s:\n%s\nbefore:\n%s", k, how, after, before)
				}
			}
		}
	}
	check(t, s, 5)
	if _, err := add(t, s, 6, netns, 0, steptest.None); err != nil {
		t.Fatal(err)
	}
	if got := state(t, s, netns); !strings.Contains(got, "default dev eth0") || strings.Contains(got, "default via 2001:db8:") {
		t.Errorf("want the default routes by the device:\n%s", got)
	}
	for _, harm := range []string{"link del eth0", "address flush dev eth0", "route del default"} {
		if err := nstest.Run("ip", append([]string{"-n", filepath.Base(netns)}, strings.Fields(harm)...)...); err != nil {
			t.Fatal(err)
		}
		a, err := s.Get(t.Context(), key(6))
		if err != nil {
			t.Fatal(err)
		}
		if attach.Check(t.Context(), a) == nil {
			t.Errorf("%s: Check sees nothing", harm)
		}
		if err := attach.Reload(t.Context(), &attach.Adding{Attachment: a}); err != nil {
			t.Errorf("%s: %v", harm, err)
		}
		check(t, s, 6)
	}
}

func check(t *testing.T, s *attach.Store, n byte) {
	t.Helper()
	a, err := s.Get(t.Context(), key(n))
	if err != nil {
		t.Fatal(err)
	}
	if err := attach.Check(t.Context(), a); err != nil {
		t.Errorf("container %d: %v", n, err)
	}
}
