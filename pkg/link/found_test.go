package link

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link/internal/linktest"
	"github.com/berth-cni/berth/pkg/link/ipvlan"
	"github.com/berth-cni/berth/pkg/link/macvlan"
	"github.com/berth-cni/berth/pkg/link/netns"
	"github.com/berth-cni/berth/pkg/nstest"
)

// TestFind: the steps that made an interface can be told from what the kernel has.
func TestFind(t *testing.T) {
	shared := func(more ...attach.Step) []attach.Step {
		return append([]attach.Step{&Forwarding{Gateway: true}}, more...)
	}
	for name, steps := range map[string][]attach.Step{
		"plain":    shared(&Bridge{Name: "berth0", Gateway: true}, &Veth{Bridge: "berth0"}),
		"layer 2":  {&Forwarding{}, &Bridge{Name: "berth0"}, &Veth{Bridge: "berth0"}},
		"options":  shared(&Bridge{Name: "berth0", MTU: 9000, Gateway: true, Promisc: true}, &Veth{Bridge: "berth0", MTU: 1400, Hairpin: true, Isolated: true, DAD: true}),
		"spoofing": shared(&Bridge{Name: "berth0", Gateway: true}, &Veth{Bridge: "berth0", MACSpoofCheck: true}),
		"VLAN": shared(&Bridge{Name: "berth0", Gateway: true, VLANs: true, GatewayVLAN: 7},
			&Veth{Bridge: "berth0", VLAN: 7, Trunk: []int{8, 9}}),
		"macvlan": {&macvlan.Interface{Master: "up0", Mode: "private", MTU: 1400}},
		"ipvlan":  {&ipvlan.Interface{Master: "up0", Mode: "l2", Flag: "private", MTU: 1400}},
		"shim":    {&macvlan.HostShim{Master: "up0"}, &macvlan.Interface{Master: "up0", Mode: "bridge"}},
	} {
		t.Run(name, func(t *testing.T) {
			linktest.LAN(t)
			a := linktest.OnLAN(t, "c1", 3)
			needs(t, steps[0])
			if _, ok := steps[0].(*Forwarding); ok {
				linktest.Run(t, "ip address flush dev up0\nip address add 192.0.2.1/24 dev up0\nip route add default via 192.0.2.2")
			}
			if name == "layer 2" {
				a.Routes = nil
				for i := range a.Addresses {
					a.Addresses[i].Gateway = attach.Address{}.Gateway
				}
			}
			a.Steps = steps
			adding := &attach.Adding{Attachment: a}
			for _, s := range steps {
				err := s.Add(t.Context(), adding)
				if err != nil && strings.Contains(err.Error(), "BRIDGE_VLAN_FILTERING") {
					t.Skip("this kernel has no bridge VLAN filtering")
				}
				if errors.Is(err, ErrNoLock) {
					t.Skip(err)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			all, err := Find([]string{a.Netns, "/run/netns/none", netns.OwnPath, a.Netns})
			if err != nil || len(all) != 1 {
				t.Fatalf("%+v, %v", all, err)
			}
			x := all[0]
			if x.Hash != a.Hash() || x.IfName != a.IfName || x.Netns != a.Netns || x.Cookie != a.Cookie || x.MAC != a.MAC {
				t.Errorf("%+v", x)
			}
			for i, s := range steps {
				if m, ok := s.(*macvlan.Interface); ok && m.Mode == "bridge" {
					continue
				}
				if got, want := words(t, x.Steps[i]), words(t, s); got != want {
					t.Errorf("%s, want %s", got, want)
				}
			}
			slices.SortFunc(x.Addresses, func(a, b attach.Address) int { return a.Prefix.Addr().Compare(b.Prefix.Addr()) })
			if fmt.Sprint(x.Addresses) != fmt.Sprint(a.Addresses) && name != "macvlan" && name != "ipvlan" && name != "shim" {
				t.Errorf("%v, want %v", x.Addresses, a.Addresses)
			}
			found := &attach.Attachment{Key: a.Key, Netns: x.Netns, Cookie: x.Cookie, MAC: x.MAC, Addresses: x.Addresses, Routes: x.Routes, Steps: x.Steps}
			if err := attach.Check(t.Context(), found); err != nil {
				t.Errorf("what was found is not there: %v", err)
			}
			if len(x.Routes) < len(a.Routes) {
				t.Errorf("routes %+v, want %+v", x.Routes, a.Routes)
			}
		})
	}
}

// needs skips the test where the kernel lacks what a step makes.
func needs(t *testing.T, s attach.Step) {
	t.Helper()
	if _, ok := s.(*ipvlan.Interface); !ok {
		return
	}
	if err := ipvlan.Supported(); err != nil {
		t.Skip(err)
	}
}

func words(t *testing.T, s attach.Step) string {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return s.Kind() + " " + string(text)
}

// TestFindApart: of two containers whose interfaces have the same numbers each is found
// with its own namespace; one whose namespace has no known path is found by its host's end.
func TestFindApart(t *testing.T) {
	nstest.Host(t)
	var paths []string
	want := map[string]string{}
	for n := range 3 {
		a := &attach.Adding{Attachment: linktest.Attachment(t, fmt.Sprintf("c%d", n), n+2)}
		for _, s := range []attach.Step{&Bridge{Name: "berth0", Gateway: true}, &Veth{Bridge: "berth0"}} {
			if err := s.Add(t.Context(), a); err != nil {
				t.Fatal(err)
			}
		}
		want[a.Hash()] = a.Netns
		if n < 2 {
			paths = append(paths, a.Netns)
		} else {
			want[a.Hash()] = ""
		}
	}
	all, err := Find(paths)
	if err != nil || len(all) != len(want) {
		t.Fatalf("%+v, %v", all, err)
	}
	for _, x := range all {
		if x.Netns != want[x.Hash] || x.Link != "berth0" {
			t.Errorf("%+v", x)
		}
	}
}
