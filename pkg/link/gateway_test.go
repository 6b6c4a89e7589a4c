package link

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
)

// TestGateway: what IPAM gave is completed once, when it is known: with the claim, or
// behind a delegated IPAM.
func TestGateway(t *testing.T) {
	for _, c := range []struct {
		step          Gateway
		addrs, routes string
		want          string // gateways, routes, MAC
	}{
		{Gateway{}, "10.1.0.2/24", "", "[invalid IP] [] 02:42:0a:01:00:02"},
		{Gateway{}, "10.1.0.2/24 10.1.0.254", "", "[10.1.0.254] [] 02:42:0a:01:00:02"},
		{Gateway{Gateway: true}, "10.1.0.2/24", "", "[10.1.0.1] [] 02:42:0a:01:00:02"},
		{Gateway{Gateway: true, DefaultRoute: true}, "10.1.0.2/24,fd00::2/64", "",
			"[10.1.0.1 fd00::1] [0.0.0.0/0 by 10.1.0.1 ::/0 by fd00::1] 02:42:0a:01:00:02"},
		{Gateway{Gateway: true, DefaultRoute: true}, "10.1.0.2/24", "0.0.0.0/0 by 10.1.0.9", "[10.1.0.1] [0.0.0.0/0 by 10.1.0.9] 02:42:0a:01:00:02"},
		{Gateway{DefaultRoute: true}, "10.1.0.2/24", "", "[invalid IP] [] 02:42:0a:01:00:02"},
		{Gateway{Gateway: true, NoDefault: true}, "10.1.0.2/24", "0.0.0.0/0 by 10.1.0.9,10.7.0.0/16 by 10.1.0.9",
			"[10.1.0.1] [10.7.0.0/16 by 10.1.0.9] 02:42:0a:01:00:02"},
		{Gateway{Gateway: true, Isolated4: true, NoDefault: true}, "10.1.0.2/24 10.1.0.254,fd00::2/64", "",
			"[invalid IP fd00::1] [] 02:42:0a:01:00:02"},
		{Gateway{Isolated4: true, Isolated6: true, NoDefault: true}, "10.1.0.2/24,fd00::2/64 fd00::9", "0.0.0.0/0 by 10.1.0.9",
			"[invalid IP invalid IP] [] 02:42:0a:01:00:02"},
		{Gateway{Gateway: true, DefaultRoute: true, NoDefault: true, Priority: 7}, "10.1.0.2/24,fd00::2/64", "",
			"[10.1.0.1 fd00::1] [0.0.0.0/1 by 10.1.0.1 at 2147483136 128.0.0.0/1 by 10.1.0.1 at 2147483136 ::/1 by fd00::1 at 2147483136 8000::/1 by fd00::1 at 2147483136] 02:42:0a:01:00:02"},
		{Gateway{Gateway: true, DefaultRoute: true, Priority: MaxGatewayPriority}, "10.1.0.2/24", "",
			"[10.1.0.1] [0.0.0.0/0 by 10.1.0.1 0.0.0.0/1 by 10.1.0.1 at 1073741824 128.0.0.0/1 by 10.1.0.1 at 1073741824] 02:42:0a:01:00:02"},
		{Gateway{Gateway: true, NoDefault: true, Priority: 7}, "10.1.0.2/24", "10.7.0.0/16 by 10.1.0.9", "[10.1.0.1] [10.7.0.0/16 by 10.1.0.9] 02:42:0a:01:00:02"},
		{Gateway{MAC: "02:00:00:00:00:09"}, "10.1.0.2/24", "", "[invalid IP] [] 02:00:00:00:00:09"},
	} {
		for _, delegated := range []bool{false, true} {
			a := &attach.Adding{Attachment: &attach.Attachment{}, Delegated: delegated}
			give := func() {
				for s := range strings.SplitSeq(c.addrs, ",") {
					p, gw, _ := strings.Cut(s, " ")
					addr := attach.Address{Prefix: netip.MustParsePrefix(p)}
					addr.Gateway, _ = netip.ParseAddr(gw)
					a.Addresses = append(a.Addresses, addr)
				}
				for s := range strings.SplitSeq(c.routes, ",") {
					if dst, gw, ok := strings.Cut(s, " by "); ok {
						a.Routes = append(a.Routes, attach.Route{Dst: netip.MustParsePrefix(dst), Gateway: netip.MustParseAddr(gw)})
					}
				}
			}
			if !delegated {
				give()
			}
			if err := c.step.Claim(nil, a); err != nil {
				t.Fatal(err)
			}
			if delegated {
				give()
			}
			if err := c.step.Add(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			gateways, routes := []netip.Addr{}, []string{}
			for _, addr := range a.Addresses {
				gateways = append(gateways, addr.Gateway)
			}
			for _, r := range a.Routes {
				word := fmt.Sprint(r.Dst, " by ", r.Gateway)
				if r.Priority != 0 {
					word += fmt.Sprint(" at ", r.Priority)
				}
				routes = append(routes, word)
			}
			want := c.want
			if delegated { // the MAC is there before the addresses, and stays
				want = strings.ReplaceAll(want, "02:42:0a:01:00:02", iface.MAC(&attach.Attachment{}))
			}
			if got := fmt.Sprintf("%v %v %s", gateways, routes, a.MAC); got != want {
				t.Errorf("%+v, delegated %v: %s, want %s", c.step, delegated, got, want)
			}
		}
	}
	asked := &attach.Adding{Attachment: &attach.Attachment{MAC: "02:00:00:00:00:01"}}
	if err := (&Gateway{MAC: "02:00:00:00:00:09"}).Claim(nil, asked); err != nil || asked.MAC != "02:00:00:00:00:01" {
		t.Errorf("the MAC that was asked for is %s, %v", asked.MAC, err)
	}
}

func TestParseMAC(t *testing.T) {
	for s, want := range map[string]string{
		"02:42:AC:11:00:02": "02:42:ac:11:00:02", "02-42-ac-11-00-02": "02:42:ac:11:00:02", "0242.ac11.0002": "02:42:ac:11:00:02",
		"": "", "x": "", "01:00:00:00:00:01": "", "ff:ff:ff:ff:ff:ff": "", "00:00:00:00:00:00": "", "02:00:00:00:00:00:00:01": "",
	} {
		got, err := ParseMAC(s)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", s, got, err, want)
		}
	}
}
