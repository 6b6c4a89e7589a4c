package graph

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/agent"
	"github.com/berth-cni/berth/pkg/overlay/overlaytest"
)

// The other hosts of an overlay, and whether they are reached.
func TestReach(t *testing.T) {
	state := overlaytest.Example(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	l := &overlay.Local{Network: state.Networks["blue"], Node: "host-a"}
	status := &agent.Status{Underlay: agent.UnderlayStatus{Device: "eth1"}, Networks: []agent.NetworkStatus{{Name: "blue",
		Probes: agent.ProbeStatus{OK: 1, Failing: []agent.FailedPeer{{Peer: "host-c", Verdict: "no answer"}}}}}}
	reach := func(o Overlay) string {
		var b strings.Builder
		for _, p := range o.Peers {
			b.WriteString(p.Name + " " + p.Reach + " ")
			if p.Bad {
				b.WriteString("BAD ")
			}
		}
		return b.String()
	}
	if got := reach(overlayView(l, state, status)); got != "host-b reached host-c no answer BAD " {
		t.Error(got)
	}
	status.Networks[0].Probes = agent.ProbeStatus{} // of an agent without probes
	if got := reach(overlayView(l, state, status)); got != "host-b  host-c  " {
		t.Error(got)
	}
	if o := overlayView(l, state, nil); reach(o) != "host-b  host-c  " || o.Peers[0].Address != netip.MustParseAddr("192.0.2.2") {
		t.Errorf("%+v", o)
	}
}
