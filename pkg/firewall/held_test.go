package firewall

import (
	"cmp"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/nstest"
)

// TestHeld: what the firewall was told of each container can be read from it again, and
// goes by the mark alone.
func TestHeld(t *testing.T) {
	for _, backend := range []string{NFTables, IPTables} {
		t.Run(backend, func(t *testing.T) {
			nstest.Host(t)
			if held, err := ListHeld(t.Context()); err != nil || len(held) > 0 {
				t.Fatalf("before: %v, %v", held, err)
			}
			if err := Forget(t.Context(), "00000000000"); err != nil {
				t.Fatal(err)
			}
			all := goldenHost(backend)
			for _, a := range all {
				if err := a.Steps[0].Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
					t.Fatal(err)
				}
			}
			held, err := ListHeld(t.Context())
			if err != nil || len(held) != len(all) {
				t.Fatalf("%d, want %d: %v", len(held), len(all), err)
			}
			for _, a := range all {
				compareHeld(t, held[a.Hash()], a)
			}
			first := all[0]
			if err := Forget(t.Context(), first.Hash()); err != nil {
				t.Fatal(err)
			}
			for _, what := range []string{run(t, "nft list ruleset"), run(t, "iptables-save"), run(t, "ip6tables-save")} {
				if strings.Contains(what, first.Hash()) {
					t.Errorf("left: %s", what)
				}
			}
			for _, a := range all[1:] {
				if err := a.Steps[0].Check(t.Context(), a); err != nil {
					t.Errorf("another one: %v", err)
				}
			}
		})
	}
}

func compareHeld(t *testing.T, h *Held, a *attach.Attachment) {
	t.Helper()
	if h == nil {
		t.Errorf("%s: nothing", a.Network)
		return
	}
	want := *RulesOf(a)
	want.Overlay = "" // no mark tells
	if !reflect.DeepEqual(h.Rules, want) {
		t.Errorf("%s: %+v, want %+v", a.Network, h.Rules, want)
	}
	var addresses []netip.Addr
	for _, addr := range a.Addresses {
		addresses = append(addresses, addr.Prefix.Addr())
	}
	slices.SortFunc(h.Addresses, netip.Addr.Compare)
	if !slices.Equal(h.Addresses, addresses) {
		t.Errorf("%s: %v, want %v", a.Network, h.Addresses, addresses)
	}
	var ports []string
	for _, p := range sorted(a.Ports) {
		for _, host := range p.HostIPs() {
			if _, ok := firstOfFamily(a.Addresses, host); ok {
				p.HostIP = host
				ports = append(ports, p.String())
			}
		}
	}
	var got []string
	for _, p := range sorted(h.Ports) {
		for _, host := range p.HostIPs() {
			p.HostIP = host
			got = append(got, p.String())
		}
		if p.ContainerPort != 80 {
			t.Errorf("%s goes to %d", p, p.ContainerPort)
		}
	}
	slices.Sort(ports)
	slices.Sort(got)
	if !slices.Equal(got, ports) {
		t.Errorf("%s: %q, want %q", a.Network, got, ports)
	}
}

func sorted(ports []attach.Port) []attach.Port {
	return slices.SortedFunc(slices.Values(ports), func(a, b attach.Port) int { return cmp.Compare(a.String(), b.String()) })
}
