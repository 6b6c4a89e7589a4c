package agent

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/overlay"
)

// A network whose blocks the cluster gives: the agent waits for it, says what is wrong with
// it, claims it, and no other one.
func TestGivenBlocks(t *testing.T) {
	h := newHost(t)
	n := blue()
	n.PodCIDRs = true
	n.Subnets, n.NodePrefix = append(n.Subnets, netip.MustParsePrefix("fd00:42::/48")), append(n.NodePrefix, 64)
	give := func(all ...string) {
		h.store.Lock()
		defer h.store.Unlock()
		h.store.given = nil
		for _, p := range all {
			h.store.given = append(h.store.given, netip.MustParsePrefix(p))
		}
	}
	says := func(text string) func() bool {
		return func() bool {
			s := h.agent.Status()
			return !s.Ready && len(s.Networks) == 1 && strings.Contains(s.Networks[0].Problem, text)
		}
	}
	h.store.put(overlay.Update{Networks: []overlay.Network{n}})
	h.start()
	h.until("it says what is missing", says("this node gets no block of 10.42.0.0/16: its Node's spec.podCIDRs are []"))
	give("10.42.7.0/25", "fd00:42:0:7::/64")
	h.until("it says what is wrong", says("10.42.7.0/25, which is no block of the network"))
	give("10.99.7.0/24", "fd00:42:0:7::/64", "10.42.7.0/24")
	h.until("ready", func() bool { return h.agent.Status().Ready })
	want := []netip.Prefix{netip.MustParsePrefix("10.42.7.0/24"), netip.MustParsePrefix("fd00:42:0:7::/64")}
	h.store.Lock()
	defer h.store.Unlock()
	if got := h.store.state.BlocksOf("blue", "a"); !slices.Equal(got, want) {
		t.Errorf("claimed %v, want %v", got, want)
	}
}
