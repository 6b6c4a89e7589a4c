package vxlan

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Segmentation offload goes and comes with checksum offload.
func TestSetOffload(t *testing.T) {
	me := alone(t)
	mustSync(t, plane(t, open(t), me.device()))
	for _, step := range []struct{ on, changes bool }{{true, false}, {false, true}, {false, false}, {true, true}} {
		if changed, err := setOffload("vxlan42", step.on); err != nil || changed != step.changes {
			t.Errorf("set offload to %t: changed %t, %v; want %t", step.on, changed, err, step.changes)
		}
		text := map[bool]string{true: ": on", false: ": off"}[step.on]
		out := output(t, "ethtool -k vxlan42")
		for _, feature := range []string{"tx-checksumming", "tx-tcp-segmentation"} {
			if !strings.Contains(out, feature+text) {
				t.Errorf("set offload to %t: ethtool does not say %s%s", step.on, feature, text)
			}
		}
	}
	for _, name := range []string{"vxlan43", "", "a-name-that-is-too-long"} {
		if _, err := setOffload(name, false); !errors.Is(err, unix.ENODEV) {
			t.Errorf("a device %q that is not there: %v", name, err)
		}
	}
}
