package kubernetes

import (
	"net/netip"
	"testing"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/overlaytest"
)

// TestManyLives: among so many nodes that nobody looks at all leases for minutes, the names of
// a node that died go all the same, since a neighbour says so; and come again with it.
func TestManyLives(t *testing.T) {
	s, err := StartAPIServer(cluster.Here{}, Options{Port: 7043})
	must(t, err)
	t.Cleanup(s.Close)
	config, err := s.Kubeconfig("admin", s.Token)
	must(t, err)
	group := newGroup(t, s)
	fill(t, s, group, 600) // which is 3 minutes
	network := overlaytest.Net("blue", "10.64.0.0/10")
	network.Names = true
	maker := open(t, config, group)
	_, err = maker.CreateNetwork(t.Context(), network)
	must(t, err)
	dying := open(t, config, group)
	must(t, dying.Register(t.Context(), overlaytest.Node("zz2", 1), "boot", false, overlaytest.NotLost(t)))
	name := overlay.Name{NameKey: overlay.NameKey{Network: "blue", Node: "zz2", Container: "c1", IfName: "eth0"}, Names: []string{"web"}, Addresses: []netip.Addr{netip.MustParseAddr("10.64.1.2")}}
	must(t, dying.PublishNames(t.Context(), []overlay.Name{name}, nil))

	neighbour, far := open(t, config, group), open(t, config, group)
	must(t, neighbour.Register(t.Context(), overlaytest.Node("zz1", 2), "boot", false, overlaytest.NotLost(t)))
	must(t, far.Register(t.Context(), overlaytest.Node("zz3", 3), "boot", false, overlaytest.NotLost(t)))
	overlaytest.Follow(t, neighbour, true)
	overlaytest.Follow(t, far, true)
	heard := overlaytest.Listen(t, far, "blue")
	heard.WaitNames(t, 1)
	must(t, dying.Close()) // without a word
	heard.WaitNames(t, 0)
	again := open(t, config, group)
	must(t, again.Register(t.Context(), overlaytest.Node("zz2", 1), "boot", true, overlaytest.NotLost(t)))
	heard.WaitNames(t, 1)
}
