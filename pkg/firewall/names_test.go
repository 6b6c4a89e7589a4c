package firewall

import (
	"context"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/nstest"
)

// TestMoveNames: the redirection leads to another port, and back, and a table that is made
// anew leads where the one before it led.
func TestMoveNames(t *testing.T) {
	nstest.Host(t)
	if err := MoveNames(4711); err != nil {
		t.Errorf("without a table: %v", err)
	}
	a := on(&Rules{Backend: NFTables, Bridge: "br1", Names: true}, 1)
	if err := RulesOf(a).Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
		t.Fatal(err)
	}
	expect := func(want string) {
		t.Helper()
		out, err := nstest.Output("nft", "list", "map", "inet", "berth", "names_ports")
		_, elements, _ := strings.Cut(out, "elements = ")
		elements, _, _ = strings.Cut(elements, "\n")
		if err != nil || strings.TrimSpace(elements) != want {
			t.Errorf("got %q, want %q, %v", elements, want, err)
		}
	}
	move := func(port uint16) {
		t.Helper()
		if err := MoveNames(port); err != nil {
			t.Fatal(err)
		}
	}
	move(10053)
	expect("")
	move(4711)
	move(4711)
	expect("{ tcp : 4711, udp : 4711 }")
	if err := (nft{}).rebuild(t.Context(), func(context.Context) ([]*attach.Attachment, error) { return []*attach.Attachment{a}, nil }); err != nil {
		t.Fatal(err)
	}
	expect("{ tcp : 4711, udp : 4711 }")
	move(4712)
	expect("{ tcp : 4712, udp : 4712 }")
	move(10053)
	expect("")
}
