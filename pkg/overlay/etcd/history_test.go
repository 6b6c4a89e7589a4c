package etcd

import (
	"testing"

	"github.com/berth-cni/berth/pkg/overlay/overlaytest"
)

// TestCompactedByOthers: who reads a store whose newest key of ours is older than its
// history reads it once.
func TestCompactedByOthers(t *testing.T) {
	t.Parallel()
	all := cluster(t, 1)
	s, c := open(t, all), raw(t, all...)
	blue(t, s)
	var last int64
	for range 3 {
		got, err := c.Put(limited(t), "/others", "x")
		check(t, err)
		last = got.Header.Revision
	}
	overlaytest.Follow(t, s, true) // the incarnation
	_, err := c.Compact(limited(t), last)
	check(t, err)
	f := overlaytest.Follow(t, open(t, all), true)
	_, err = s.CreateNetwork(limited(t), overlaytest.Net("red", "10.43.0.0/16"))
	check(t, err)
	f.WaitSame(t, s)
	if full, away := f.Count(); full != 1 || away != 0 {
		t.Errorf("%d full updates, %d times away; want 1 and 0", full, away)
	}
}
