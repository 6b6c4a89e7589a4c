package cluster

import (
	"testing"
	"time"
)

// TestMeasure sees that paths can be measured, not how fast they are.
func TestMeasure(t *testing.T) {
	c := newCluster(t, 2, Options{})
	a, b := c.Hosts[0], c.Hosts[1]
	speeds, err := Measure([]Path{{"IPv4", a, b, b.Addr4}, {"IPv6", a, b, b.Addr6}}, 1, 50*time.Millisecond)
	must(t, err)
	t.Log("\n" + Table(speeds, "IPv4"))
	for _, s := range speeds {
		if s.Throughput.Median() < 1e6 || s.RoundTrip.Median() > 0.1 {
			t.Errorf("%s: %v bit/s, %v s", s.Name, s.Throughput, s.RoundTrip)
		}
	}
	must(t, c.Cut(b))
	if _, err := RoundTrip(a, b, b.Addr4, 50*time.Millisecond); err == nil {
		t.Error("a round trip without carrier")
	}
	if _, err := Throughput(a, b, b.Addr4, 1, 50*time.Millisecond); err == nil {
		t.Error("throughput without carrier")
	}
}

// BenchmarkByHand measures the bare underlay and an overlay built by hand, interleaved:
// an operation is a round of all paths. One path is there twice: how far its ratios
// are from 1 is what the others' mean nothing below.
func BenchmarkByHand(b *testing.B) {
	c := newCluster(b, 2, Options{})
	_, containers, addrs := byHand(b, c, 1500, false)
	from, to := c.Hosts[0], c.Hosts[1]
	paths := []Path{
		{"underlay", from, to, to.Addr4},
		{"by hand, IPv4", containers[0], containers[1], addrs[1][0]},
		{"by hand, IPv4 again", containers[0], containers[1], addrs[1][0]},
		{"by hand, IPv6", containers[0], containers[1], addrs[1][1]},
	}
	b.ResetTimer()
	speeds, err := Measure(paths, b.N, time.Second)
	must(b, err)
	if b.N > 1 { // Go has run it once before, to see how long it takes
		b.Log("\n" + Table(speeds, "underlay"))
		b.Log("\n" + Table(speeds, "by hand, IPv4"))
	}
}
