package macvlan

import (
	"errors"
	"fmt"
	"os"
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

func TestMacvlanConforms(t *testing.T) {
	for _, m := range []Interface{{Mode: "bridge"}, {Mode: "private"}, {Mode: "vepa"}, {Mode: "passthru"},
		{Mode: "bridge", MTU: 1400, QueueLen: 500}, {Mode: "bridge", DAD: true}} {
		m.Master = "up0"
		t.Run(fmt.Sprintf("%+v", m), func(t *testing.T) {
			linktest.LAN(t)
			a := linktest.OnLAN(t, "c1", 3)
			steptest.Conform(t, &m, a, steptest.Refused, linktest.State(t, a))
		})
	}
	t.Run("master in the container", func(t *testing.T) {
		nstest.Host(t)
		a := linktest.OnLAN(t, "c1", 3)
		linktest.Run(t, "ip link add up0 type veth peer name up0 netns "+filepath.Base(a.Netns)+"\nip link set up0 up\nip -n "+filepath.Base(a.Netns)+" link set up0 up")
		steptest.Conform(t, &Interface{Master: "up0", Mode: "bridge", Inside: true}, a, steptest.Refused, linktest.State(t, a))
	})
}

func TestMacvlanRefusals(t *testing.T) {
	linktest.LAN(t)
	linktest.Run(t, `ip link add br0 type bridge
		ip link add port0 type veth peer name port1
		ip link set port0 master br0`)
	a, b := linktest.OnLAN(t, "c1", 3), linktest.OnLAN(t, "c2", 4)
	linktest.AddAll(t, a, &Interface{Master: "up0", Mode: "bridge"})
	before := linktest.State(t, b)()
	for _, test := range []struct {
		step Interface
		is   error
		says string
	}{
		{Interface{Master: "up0", Mode: "passthru"}, parent.ErrMaster, "other children"},
		{Interface{Master: "port0", Mode: "bridge"}, parent.ErrMaster, "port of a bridge"},
		{Interface{Master: "lo", Mode: "bridge"}, parent.ErrMaster, "not an Ethernet interface"},
		{Interface{Master: "nobody", Mode: "bridge"}, unix.ENODEV, "nobody"},
		{Interface{Master: "up0", Mode: "bridge", MTU: 1501}, unix.EINVAL, "larger than the master's, 1500"},
	} {
		err := test.step.Add(t.Context(), &attach.Adding{Attachment: b})
		if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%+v: %v, want %q", test.step, err, test.says)
		}
	}
	linktest.Run(t, "ip -n "+filepath.Base(b.Netns)+" link add eth0 type bridge")
	if err := (&Interface{Master: "up0", Mode: "bridge"}).Add(t.Context(), &attach.Adding{Attachment: b}); err == nil || !strings.Contains(err.Error(), "has an interface eth0 already") {
		t.Errorf("eth0 is taken: %v", err)
	}
	if err := (&Interface{Master: "up0", Mode: "bridge"}).Del(t.Context(), b); err != nil {
		t.Error(err)
	}
	linktest.Run(t, "ip -n "+filepath.Base(b.Netns)+" link del eth0") // Del has not touched it
	if after := linktest.State(t, b)(); after != before {
		t.Errorf("left\n%s\nof\n%s", after, before)
	}
}

// Passthru may change the master's MAC; the kernel gives it back.
func TestPassthruMAC(t *testing.T) {
	linktest.LAN(t)
	mac := func() string {
		p, err := parent.Find("", "up0")
		if err != nil || p == nil {
			t.Fatal(err)
		}
		return p.MAC
	}
	own := mac()
	a, b := linktest.OnLAN(t, "c1", 3), linktest.OnLAN(t, "c2", 4)
	a.MAC = "02:00:00:00:00:99"
	m := &Interface{Master: "up0", Mode: "passthru"}
	linktest.AddAll(t, a, m)
	if err := m.Check(t.Context(), a); err != nil || mac() != a.MAC {
		t.Errorf("the master has the MAC %s, want %s (%v)", mac(), a.MAC, err)
	}
	for _, mode := range []string{"passthru", "bridge"} {
		if err := (&Interface{Master: "up0", Mode: mode}).Add(t.Context(), &attach.Adding{Attachment: b}); !errors.Is(err, parent.ErrMaster) {
			t.Errorf("a second child, in mode %s: %v", mode, err)
		}
	}
	if err := m.Del(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if mac() != own {
		t.Errorf("after Del the master has the MAC %s, want %s", mac(), own)
	}
	if out, _ := nstest.Output("ip", "-d", "link", "show", "up0"); !strings.Contains(out, "promiscuity 0") {
		t.Errorf("after Del the master is promiscuous: %s", out)
	}
}

// Del deletes in the namespace of ADD only, and there only what is the attachment's.
func TestMacvlanDelIsCareful(t *testing.T) {
	linktest.LAN(t)
	m := &Interface{Master: "up0", Mode: "bridge"}
	a, b := linktest.OnLAN(t, "c1", 3), linktest.OnLAN(t, "c2", 4)
	linktest.AddAll(t, a, m)
	linktest.AddAll(t, b, m)
	moved := *a
	moved.Netns = b.Netns // the path has become another namespace's
	own := *a
	own.Netns, own.IfName = "/proc/self/ns/net", "up0"
	gone := *a
	gone.Netns = "/run/netns/nobody"
	unmounted := *a
	unmounted.Netns = filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(unmounted.Netns, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	second := *b
	second.Container, second.Cookie = "c3", 0 // another attachment's record for the same name
	for _, x := range []attach.Attachment{moved, own, gone, unmounted, second} {
		if err := m.Del(t.Context(), &x); err != nil {
			t.Error(err)
		}
	}
	for _, x := range []*attach.Attachment{a, b} {
		if err := m.Check(t.Context(), x); err != nil {
			t.Error(err)
		}
	}
	// Killed before it had its name.
	in := "ip -n " + filepath.Base(a.Netns) + " link set eth0 "
	linktest.Run(t, in+"down\n"+in+"name "+parent.FirstName(kind, a)) // at once since 6.2
	if err := m.Del(t.Context(), a); err != nil {
		t.Error(err)
	}
	nstest.In(t, a.Netns, func() {
		if linktest.Exists(t, parent.FirstName(kind, a)) {
			t.Error("an interface without its name is left")
		}
	})
}

// An unplugged master is no reason to fail.
func TestMacvlanWithoutCarrier(t *testing.T) {
	other := linktest.LAN(t)
	linktest.Run(t, "ip -n "+filepath.Base(other)+" link set up0 down")
	linktest.AddAll(t, linktest.OnLAN(t, "c1", 3), &HostShim{Master: "up0"}, &Interface{Master: "up0", Mode: "bridge"})
}

// TestMacvlanDAD: Add is over when nobody else was found to have the addresses.
func TestMacvlanDAD(t *testing.T) {
	linktest.LAN(t)
	a := linktest.OnLAN(t, "c1", 3)
	linktest.AddAll(t, a, &Interface{Master: "up0", Mode: "bridge", DAD: true})
	out, err := nstest.Output("ip", "-n", filepath.Base(a.Netns), "-6", "address", "show", "dev", "eth0", "tentative")
	if err != nil || out != "" {
		t.Errorf("still tentative: %s (%v)", out, err)
	}
}
