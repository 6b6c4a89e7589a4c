package link

import (
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link/internal/linktest"
	"github.com/berth-cni/berth/pkg/nstest"
)

// TestAddressesLater: while a delegated IPAM has yet to give the addresses, the container's
// end is down, and nothing waits for the carrier that a first port gives its bridge.
func TestAddressesLater(t *testing.T) {
	nstest.Host(t)
	a := linktest.Attachment(t, "c1", 2)
	addresses := a.Addresses
	a.Addresses = nil
	b, v := &Bridge{Name: "berth0", Gateway: true}, &Veth{Bridge: "berth0"}
	a.Steps = []attach.Step{b, v, &Addresses{}}
	adding := &attach.Adding{Attachment: a, Delegated: true}
	for _, s := range a.Steps[:2] {
		start := time.Now()
		if err := s.Add(t.Context(), adding); err != nil {
			t.Fatal(err)
		}
		if slept := time.Since(start); slept >= 5*time.Second { // how long an address is waited for
			t.Errorf("step %s waited for %s", s.Kind(), slept)
		}
	}
	a.Addresses = addresses
	if err := a.Steps[2].Add(t.Context(), adding); err != nil {
		t.Fatal(err)
	}
	for _, s := range a.Steps[:2] {
		if err := s.Check(t.Context(), a); err != nil {
			t.Error(err)
		}
	}
}
