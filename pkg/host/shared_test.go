package host

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/firewall/allow"
	"github.com/berth-cni/berth/pkg/link"
)

// member is a container of a network whose bridge has the network's name.
func member(network, container, gateway string, age time.Duration, more ...attach.Step) *attach.Attachment {
	gw := netip.MustParseAddr(gateway)
	return &attach.Attachment{
		Key:       attach.Key{Network: network, Container: container, IfName: "eth0"},
		Created:   time.Unix(1e9, 0).Add(-age),
		Addresses: []attach.Address{{Prefix: netip.PrefixFrom(gw.Next(), 24), Gateway: gw}},
		Steps:     append(more, &link.Bridge{Name: network, Gateway: true}, &link.Veth{Bridge: network}, &firewall.Rules{Backend: firewall.NFTables, Bridge: network}),
	}
}

func places(all []*Shared) string {
	var names []string
	for _, s := range all {
		names = append(names, s.Step.Place())
	}
	return strings.Join(names, ", ")
}

func TestSharedBy(t *testing.T) {
	old := member("web", "old", "10.1.0.1", time.Hour) // as an earlier version recorded it
	linked := member("web", "linked", "10.1.0.1", time.Minute, &link.Forwarding{Gateway: true}, &allow.Forward{Bridge: "web", Names: true})
	published := member("web", "published", "10.1.9.1", 0, &link.Forwarding{Gateway: true}, &allow.Forward{Bridge: "web"})
	published.Ports = []attach.Port{{HostPort: 80, ContainerPort: 80, Protocol: "tcp"}}
	published.Steps[2].(*link.Bridge).MTU = 1400
	leaving := member("back", "leaving", "10.2.0.1", 0)
	leaving.Deleting = true
	overlay := member("blue", "overlay", "10.3.0.1", 0, &allow.Forward{Bridge: "blue"}) // as an earlier version recorded it
	firewall.RulesOf(overlay).Overlay = "vxlan1"
	if f := SharedBy([]*attach.Attachment{overlay})[1].Step.(*allow.Forward); f.Tunnel != "vxlan1" {
		t.Errorf("the overlay's %+v", f)
	}
	all := SharedBy([]*attach.Attachment{linked, published, old, leaving})
	if got, want := places(all), "forwarding, forward web, bridge web, hairpin web"; got != want {
		t.Fatalf("%s, want %s", got, want)
	}
	if f := all[1].Step.(*allow.Forward); !f.Names {
		t.Error("one container asks for names, and its network's questions are not let in")
	}
	bridge := all[2]
	if bridge.Step.(*link.Bridge).MTU != 1400 || bridge.Users.Container != "published" {
		t.Errorf("the bridge is as %s has it, want the newest", bridge.Users.Key)
	}
	if n := len(bridge.Users.Addresses); n != 2 {
		t.Errorf("%d gateways, want both", n)
	}
	if len(bridge.Users.Ports) != 1 {
		t.Errorf("ports %v", bridge.Users.Ports)
	}
	if len(published.Addresses) != 1 || len(linked.Ports) != 0 {
		t.Error("the records were changed")
	}
	if got := places(SharedBy(nil)); got != "" {
		t.Errorf("without records: %s", got)
	}
}

// The order of the records does not matter.
func TestSharedByOrder(t *testing.T) {
	a := member("web", "a", "10.1.0.1", time.Hour, &allow.Forward{Bridge: "web", Names: true})
	b := member("web", "b", "10.1.0.1", 0, &allow.Forward{Bridge: "web"})
	c := member("back", "c", "10.2.0.1", time.Minute)
	for _, all := range [][]*attach.Attachment{{a, b, c}, {c, b, a}, {b, a, c}} {
		found := SharedBy(all)
		if len(found) != 7 || found[0].Step.Place() != "forwarding" {
			t.Fatalf("%s", places(found))
		}
		for _, s := range found {
			if f, ok := s.Step.(*allow.Forward); ok && f.Names != (f.Bridge == "web") {
				t.Errorf("bridge %s: names %t", f.Bridge, f.Names)
			}
		}
	}
}
