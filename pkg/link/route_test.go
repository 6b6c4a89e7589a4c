package link

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link/internal/linktest"
	"github.com/berth-cni/berth/pkg/nstest"
	"golang.org/x/sys/unix"
)

// A container on two networks keeps the default route of the first.
func TestTwoDefaultRoutes(t *testing.T) {
	nstest.Host(t)
	a, b := linktest.Attachment(t, "c1", 2), linktest.Attachment(t, "c1", 2)
	b.Network, b.IfName, b.Netns = "other", "eth1", a.Netns
	for i := range b.Addresses {
		b.Addresses[i].Prefix = netip.MustParsePrefix(strings.Replace(b.Addresses[i].Prefix.String(), "88", "99", 1))
		b.Addresses[i].Gateway = netip.MustParseAddr(strings.Replace(b.Addresses[i].Gateway.String(), "88", "99", 1))
		b.Routes[i].Gateway = netip.Addr{}
	}
	for _, x := range []struct {
		bridge string
		a      *attach.Attachment
	}{{"berth0", a}, {"berth1", b}} {
		for _, s := range []attach.Step{&Bridge{Name: x.bridge, Gateway: true}, &Veth{Bridge: x.bridge}} {
			if err := s.Add(t.Context(), &attach.Adding{Attachment: x.a}); err != nil {
				t.Fatal(err)
			}
			if err := s.Check(t.Context(), x.a); err != nil {
				t.Error(err)
			}
		}
	}
	nstest.In(t, a.Netns, func() {
		for to, want := range map[string]string{"192.0.2.9": "via 10.88.0.1 dev eth0", "2001:db8::9": "via fd00:88::1 dev eth0"} {
			if out, err := nstest.Output("ip", "route", "get", to); err != nil || !strings.Contains(out, want) {
				t.Errorf("%s goes %s (%v), want %s", to, out, err, want)
			}
		}
	})
}

func TestRoutes(t *testing.T) {
	nstest.Host(t)
	a := linktest.Attachment(t, "c1", 2)
	table, scope := 100, unix.RT_SCOPE_LINK
	a.Routes = append(a.Routes,
		attach.Route{Dst: netip.MustParsePrefix("192.0.2.0/24"), MTU: 1300, AdvMSS: 1200, Priority: 50},
		attach.Route{Dst: netip.MustParsePrefix("198.51.100.0/24"), Scope: &scope},
		attach.Route{Dst: netip.MustParsePrefix("203.0.113.0/24"), Table: &table})
	br, v := &Bridge{Name: "berth0"}, &Veth{Bridge: "berth0"}
	for _, s := range []attach.Step{br, v} {
		if err := s.Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.Check(t.Context(), a); err != nil {
		t.Error(err)
	}
	nstest.In(t, a.Netns, func() {
		for cmd, want := range map[string]string{
			"ip route show 192.0.2.0/24":             "via 10.88.0.1 dev eth0 metric 50 mtu 1300 advmss 1200",
			"ip route show 198.51.100.0/24":          "dev eth0 scope link",
			"ip route show table 100 203.0.113.0/24": "via 10.88.0.1 dev eth0",
		} {
			f := strings.Fields(cmd)
			out, err := nstest.Output(f[0], f[1:]...)
			if err != nil || !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
				t.Errorf("%s: %q (%v), want %q", cmd, out, err, want)
			}
		}
		if err := nstest.Run("ip", "route", "del", "192.0.2.0/24"); err != nil {
			t.Fatal(err)
		}
	})
	if err := v.Check(t.Context(), a); err == nil || !strings.Contains(err.Error(), "192.0.2.0/24") {
		t.Errorf("Check with a route missing: %v", err)
	}
}
