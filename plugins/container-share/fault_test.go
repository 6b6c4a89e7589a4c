package main

import (
	"path/filepath"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni/cnitest"
	"github.com/berth-cni/berth/pkg/link/netns"
	"github.com/berth-cni/berth/pkg/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func TestFaultLeavesNothing(t *testing.T) {
	cnitest.Joined{Mode: mode, Conf: conf, Prepare: prepare, Harm: harm}.FaultLeavesNothing(t)
}

const conf = `{"cniVersion": "1.1.0", "name": "n", "type": "container-share", "container": "owner"}`

// prepare puts an owner on record, in a namespace of its own.
func prepare(t *testing.T, s *attach.Store) {
	ns, err := netns.Open(nstest.Namespace(t))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	cookie, err := ns.Cookie()
	if err != nil {
		t.Fatal(err)
	}
	a := &attach.Attachment{Key: attach.Key{Network: "web", Container: "owner", IfName: "eth0"}, Netns: ns.Path(), Cookie: cookie}
	if err := s.Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
		t.Fatal(err)
	}
}

// harm has the path lead to another namespace.
func harm(t *testing.T, netns string) {
	name := filepath.Base(netns)
	for _, cmd := range [][]string{{"del", name}, {"add", name}} {
		if err := nstest.Run("ip", append([]string{"netns"}, cmd...)...); err != nil {
			t.Fatal(err)
		}
	}
}
