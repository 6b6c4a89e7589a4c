package link

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link/netns"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/berth-cni/berth/pkg/steptest"
	"golang.org/x/sys/unix"
)

// run runs commands, one a line.
func run(t *testing.T, lines string) {
	t.Helper()
	for line := range strings.Lines(lines) {
		if f := strings.Fields(line); len(f) > 0 {
			if err := nstest.Run(f[0], f[1:]...); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// lan gives the test a host whose up0 is cabled to another host, .2, and returns
// that one's namespace.
func lan(t *testing.T) string {
	t.Helper()
	nstest.Host(t)
	other := nstest.Namespace(t)
	run(t, strings.ReplaceAll(`ip link add up0 type veth peer name up0 netns OTHER
		ip addr add 10.88.0.1/16 dev up0
		ip addr add fd00:88::1/64 dev up0 nodad
		ip link set up0 up
		ip -n OTHER addr add 10.88.255.2/16 dev up0
		ip -n OTHER addr add fd00:88::ff02/64 dev up0 nodad
		ip -n OTHER link set up0 up`, "OTHER", filepath.Base(other)))
	for _, ns := range []string{other, netns.OwnPath} {
		c, err := dialAt(ns)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.AwaitUp("up0"); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	return other
}

// onLAN is an attachment with its namespace's cookie, as the plugin has it.
func onLAN(t *testing.T, container string, n int) *attach.Attachment {
	t.Helper()
	a := attachment(t, container, n)
	ns, err := netns.Open(a.Netns)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if a.Cookie, err = ns.Cookie(); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestMacvlanConforms(t *testing.T) {
	for _, m := range []Macvlan{{Mode: "bridge"}, {Mode: "private"}, {Mode: "vepa"}, {Mode: "passthru"},
		{Mode: "bridge", MTU: 1400, QueueLen: 500}, {Mode: "bridge", DAD: true}} {
		m.Master = "up0"
		t.Run(fmt.Sprintf("%+v", m), func(t *testing.T) {
			lan(t)
			a := onLAN(t, "c1", 3)
			steptest.Conform(t, &m, a, steptest.Refused, state(t, a))
		})
	}
	t.Run("master in the container", func(t *testing.T) {
		nstest.Host(t)
		a := onLAN(t, "c1", 3)
		run(t, "ip link add up0 type veth peer name up0 netns "+filepath.Base(a.Netns)+"\nip link set up0 up\nip -n "+filepath.Base(a.Netns)+" link set up0 up")
		steptest.Conform(t, &Macvlan{Master: "up0", Mode: "bridge", Inside: true}, a, steptest.Refused, state(t, a))
	})
}

// addAll adds steps, of which the test deletes none.
func addAll(t *testing.T, a *attach.Attachment, steps ...attach.Step) {
	t.Helper()
	for _, s := range steps {
		if err := s.Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
			t.Fatal(err)
		}
	}
}

func there(t *testing.T, name string) bool {
	t.Helper()
	ok, err := Exists(name)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func TestMacvlanRefusals(t *testing.T) {
	lan(t)
	run(t, `ip link add br0 type bridge
		ip link add port0 type veth peer name port1
		ip link set port0 master br0`)
	a, b := onLAN(t, "c1", 3), onLAN(t, "c2", 4)
	addAll(t, a, &Macvlan{Master: "up0", Mode: "bridge"})
	before := state(t, b)()
	for _, test := range []struct {
		step Macvlan
		is   error
		says string
	}{
		{Macvlan{Master: "up0", Mode: "passthru"}, ErrMaster, "other children"},
		{Macvlan{Master: "port0", Mode: "bridge"}, ErrMaster, "port of a bridge"},
		{Macvlan{Master: "lo", Mode: "bridge"}, ErrMaster, "not an Ethernet interface"},
		{Macvlan{Master: "nobody", Mode: "bridge"}, unix.ENODEV, "nobody"},
		{Macvlan{Master: "up0", Mode: "bridge", MTU: 1501}, unix.EINVAL, "larger than the master's, 1500"},
	} {
		err := test.step.Add(t.Context(), &attach.Adding{Attachment: b})
		if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%+v: %v, want %q", test.step, err, test.says)
		}
	}
	run(t, "ip -n "+filepath.Base(b.Netns)+" link add eth0 type bridge")
	if err := (&Macvlan{Master: "up0", Mode: "bridge"}).Add(t.Context(), &attach.Adding{Attachment: b}); err == nil || !strings.Contains(err.Error(), "has an interface eth0 already") {
		t.Errorf("eth0 is taken: %v", err)
	}
	if err := (&Macvlan{Master: "up0", Mode: "bridge"}).Del(t.Context(), b); err != nil {
		t.Error(err)
	}
	run(t, "ip -n "+filepath.Base(b.Netns)+" link del eth0") // Del has not touched it
	if after := state(t, b)(); after != before {
		t.Errorf("left\n%s\nof\n%s", after, before)
	}
}

// Passthru may change the master's MAC; the kernel gives it back.
func TestPassthruMAC(t *testing.T) {
	lan(t)
	mac := func() string {
		p, err := FindParent("", "up0")
		if err != nil || p == nil {
			t.Fatal(err)
		}
		return p.MAC
	}
	own := mac()
	a, b := onLAN(t, "c1", 3), onLAN(t, "c2", 4)
	a.MAC = "02:00:00:00:00:99"
	m := &Macvlan{Master: "up0", Mode: "passthru"}
	addAll(t, a, m)
	if err := m.Check(t.Context(), a); err != nil || mac() != a.MAC {
		t.Errorf("the master has the MAC %s, want %s (%v)", mac(), a.MAC, err)
	}
	for _, mode := range []string{"passthru", "bridge"} {
		if err := (&Macvlan{Master: "up0", Mode: mode}).Add(t.Context(), &attach.Adding{Attachment: b}); !errors.Is(err, ErrMaster) {
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
	lan(t)
	m := &Macvlan{Master: "up0", Mode: "bridge"}
	a, b := onLAN(t, "c1", 3), onLAN(t, "c2", 4)
	addAll(t, a, m)
	addAll(t, b, m)
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
	run(t, in+"down\n"+in+"name "+macvlanName(a)) // at once since 6.2
	if err := m.Del(t.Context(), a); err != nil {
		t.Error(err)
	}
	nstest.In(t, a.Netns, func() {
		if there(t, macvlanName(a)) {
			t.Error("an interface without its name is left")
		}
	})
}

// An unplugged master is no reason to fail.
func TestMacvlanWithoutCarrier(t *testing.T) {
	other := lan(t)
	run(t, "ip -n "+filepath.Base(other)+" link set up0 down")
	addAll(t, onLAN(t, "c1", 3), &HostShim{Master: "up0"}, &Macvlan{Master: "up0", Mode: "bridge"})
}

func TestFindParent(t *testing.T) {
	other := lan(t)
	if p, err := FindParent("", ""); p != nil || err != nil {
		t.Errorf("without a default route: %+v, %v", p, err)
	}
	if p, err := FindParent("", "nobody"); p != nil || err != nil {
		t.Errorf("no such interface: %+v, %v", p, err)
	}
	run(t, "ip link set up0 mtu 1400\nip route add default via 10.88.255.2")
	if p, err := FindParent("", ""); err != nil || p == nil || p.Name != "up0" || p.MTU != 1400 {
		t.Errorf("the default route's: %+v, %v", p, err)
	}
	if p, err := FindParent(other, "up0"); err != nil || p == nil || p.MTU != 1500 {
		t.Errorf("the other host's: %+v, %v", p, err)
	}
}
