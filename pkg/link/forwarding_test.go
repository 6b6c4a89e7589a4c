package link

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/proc"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/internal/linktest"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/berth-cni/berth/pkg/steptest"
)

// shell runs commands, each a line, in the test's host.
func shell(t *testing.T, lines ...string) {
	t.Helper()
	for _, line := range lines {
		f := strings.Fields(line)
		if err := nstest.Run(f[0], f[1:]...); err != nil {
			t.Fatal(err)
		}
	}
}

func TestForwardingConforms(t *testing.T) {
	nstest.Host(t)
	shell(t, "sysctl -qw net.ipv4.ip_forward=0", "sysctl -qw net.ipv6.conf.all.forwarding=0")
	switches := func() string {
		v4, err4 := proc.Read(forwardingPath(false))
		v6, err6 := proc.Read(forwardingPath(true))
		return fmt.Sprint(v4, v6, err4, err6)
	}
	steptest.Conform(t, &Forwarding{Gateway: true}, linktest.Attachment(t, "c1", 2), steptest.Shared, switches)
}

// Each family is switched on for those that need it.
func TestForwardingFamilies(t *testing.T) {
	v4, v6 := netip.MustParsePrefix("10.88.0.2/16"), netip.MustParsePrefix("fd00:88::2/64")
	for name, c := range map[string]struct {
		step         Forwarding
		addrs        []netip.Prefix
		ports        int
		want4, want6 bool
	}{
		"gateway, IPv4":             {Forwarding{Gateway: true}, []netip.Prefix{v4}, 0, true, false},
		"gateway, both":             {Forwarding{Gateway: true}, []netip.Prefix{v4, v6}, 0, true, true},
		"no gateway":                {Forwarding{}, []netip.Prefix{v4, v6}, 0, false, false},
		"no gateway, but ports":     {Forwarding{}, []netip.Prefix{v6}, 1, false, true},
		"gateway without addresses": {Forwarding{Gateway: true}, nil, 0, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			nstest.Host(t)
			shell(t, "sysctl -qw net.ipv4.ip_forward=0", "sysctl -qw net.ipv6.conf.all.forwarding=0")
			a := &attach.Attachment{Ports: make([]attach.Port, c.ports)}
			for _, p := range c.addrs {
				a.Addresses = append(a.Addresses, attach.Address{Prefix: p})
			}
			if err := c.step.Check(t.Context(), a); (err != nil) != (c.want4 || c.want6) {
				t.Errorf("before: Check says %v", err)
			}
			if err := c.step.Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
				t.Fatal(err)
			}
			if err := c.step.Check(t.Context(), a); err != nil {
				t.Error(err)
			}
			for v6, want := range map[bool]bool{false: c.want4, true: c.want6} {
				if on, err := Forwards(v6); err != nil || on != want {
					t.Errorf("IPv6 %t: forwards %t (%v), want %t", v6, on, err, want)
				}
			}
		})
	}
}

// Who took router advertisements goes on to, whether or not one has come yet; but no
// bridge that leads to containers alone.
func TestForwardingKeepsAdvertisements(t *testing.T) {
	nstest.Host(t)
	shell(t,
		"sysctl -qw net.ipv6.conf.all.forwarding=0",
		"ip link add up0 type veth peer name up1", "ip link set up0 up", "ip link set up1 up", // none heard
		"ip link add ra0 type veth peer name ra1", "ip link set ra0 up", "ip link set ra1 up",
		"ip -6 address add 2001:db8::2/64 dev ra0 nodad", "ip -6 route add default via 2001:db8::1 dev ra0 proto ra",
		"ip link add off0 type veth peer name off1", "sysctl -qw net.ipv6.conf.off0.accept_ra=0",
		"ip link add docker0 type bridge", "ip link set docker0 up", // leads to containers
		"ip link add lan0 type bridge", "ip link set up1 master lan0", "ip link set lan0 up",
		"ip address add 192.0.2.2/24 dev lan0", "ip route add default via 192.0.2.1 dev lan0",
	)
	if err := forward(true); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"up0": "2", "ra0": "2", "off0": "0", "docker0": "1", "lan0": "2", "up1": "1", "lo": "1"} {
		if got, err := proc.Read(proc.Net("ipv6", "conf", name, "accept_ra")); err != nil || got != want {
			t.Errorf("accept_ra of %s is %s (%v), want %s", name, got, err, want)
		}
	}
	if out, err := nstest.Output("ip", "-6", "route", "show", "default", "proto", "ra"); err != nil || !strings.Contains(out, "ra0") {
		t.Errorf("the default route from a router advertisement is gone: %q (%v)", out, err)
	}
	// What somebody set before goes on, as it does on a host that forwarded before.
	shell(t, "sysctl -qw net.ipv6.conf.up0.accept_ra=1")
	if err := (&Forwarding{Gateway: true}).Add(t.Context(), &attach.Adding{Attachment: linktest.Attachment(t, "c1", 2)}); err != nil {
		t.Fatal(err)
	}
	if got, _ := proc.Read(proc.Net("ipv6", "conf", "up0", "accept_ra")); got != "1" {
		t.Errorf("accept_ra of up0 is %s: a host that forwards already is its administrator's", got)
	}
}

// Hardware that comes later asks for router advertisements by the kernel's default.
func TestKeepAdvertisementsOfWhatComesLater(t *testing.T) {
	nstest.Host(t)
	shell(t, "ip link add veth9 type veth peer name veth8", "ip link add br9 type bridge",
		"ip tuntap add tun9 mode tap", "sysctl -qw net.ipv6.conf.all.forwarding=1")
	for name, want := range map[string]string{"veth9": "1", "br9": "1", "lo": "1"} {
		if err := KeepAdvertisements(name); err != nil {
			t.Fatal(err)
		}
		if got, _ := proc.Read(proc.Net("ipv6", "conf", name, "accept_ra")); got != want {
			t.Errorf("accept_ra of %s is %s, want %s", name, got, want)
		}
	}
	d := &rtnl.Link{Kind: "vlan"}
	if !hardware(d) || hardware(&rtnl.Link{Kind: "veth"}) {
		t.Error("a VLAN stands for hardware, a veth does not")
	}
}
