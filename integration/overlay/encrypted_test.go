package overlay

import (
	"fmt"
	"testing"
	"time"
)

// encrypted are the flags of an encrypted network of both families.
var encrypted = []string{"--encrypted", "--subnet", "10.42.0.0/16", "--subnet", "fd00:42::/48"}

// TestEncrypted has containers of three hosts reach each other through WireGuard, over
// underlays of both families.
func TestEncrypted(t *testing.T) {
	for _, underlay6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("underlay6=%v", underlay6), func(t *testing.T) {
			b := newBed(t, 3, options{underlay6: underlay6, create: encrypted})
			var all []*place
			for _, h := range b.Hosts {
				all = append(all, b.container(h, "c-"+h.Name))
			}
			b.reaches(all...)
			tr := startTraffic(t, all...)
			time.Sleep(time.Second)
			tr.whole("parallel flows")
			b.settled()
		})
	}
}
