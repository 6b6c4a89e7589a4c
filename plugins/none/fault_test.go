package main

import (
	"testing"

	"github.com/berth-cni/berth/pkg/cni/cnitest"
	"github.com/berth-cni/berth/pkg/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func TestFaultLeavesNothing(t *testing.T) {
	cnitest.Joined{Mode: mode, Conf: conf, Harm: harm}.FaultLeavesNothing(t)
}

const conf = `{"cniVersion": "1.1.0", "name": "n", "type": "none"}`

func harm(t *testing.T, netns string) {
	nstest.In(t, netns, func() {
		if err := nstest.Run("ip", "link", "set", "lo", "down"); err != nil {
			t.Fatal(err)
		}
	})
}
