package main

import (
	"path/filepath"
	"testing"

	"github.com/berth-cni/berth/pkg/cni/cnitest"
	"github.com/berth-cni/berth/pkg/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func TestFaultLeavesNothing(t *testing.T) {
	cnitest.Joined{Mode: mode, Conf: conf, Harm: harm}.FaultLeavesNothing(t)
}

const conf = `{"cniVersion": "1.1.0", "name": "n", "type": "host"}`

// harm has the path lead to another namespace.
func harm(t *testing.T, netns string) {
	name := filepath.Base(netns)
	for _, cmd := range [][]string{{"del", name}, {"add", name}} {
		if err := nstest.Run("ip", append([]string{"netns"}, cmd...)...); err != nil {
			t.Fatal(err)
		}
	}
}
