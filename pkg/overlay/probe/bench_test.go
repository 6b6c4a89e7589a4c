package probe

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/nstest"
	"golang.org/x/sys/unix"
)

// cpu is what the process has used, in itself and in the kernel.
func cpu() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkDeadPeers runs a schedule of 2,000 peers behind a VTEP that is away, for
// twenty seconds, at the rate that an agent would use and with the waits of the
// zero Prober. It is part of the process's own namespace, since Run's goroutines are.
func BenchmarkDeadPeers(b *testing.B) {
	b.Run("away", func(b *testing.B) { benchmarkDeadPeers(b, false) })
	b.Run("blocked", func(b *testing.B) { benchmarkDeadPeers(b, true) })
}

func benchmarkDeadPeers(b *testing.B, alive bool) {
	const n, rate, length = 2000, 10, 20 * time.Second
	for _, args := range [][]string{
		{"link", "add", "eth0", "type", "veth", "peer", "name", "eth1"},
		{"addr", "add", "192.0.2.1/24", "dev", "eth0"},
		{"link", "set", "eth0", "up"},
		{"link", "set", "eth1", "up"},
		{"neigh", "add", "192.0.2.2", "lladdr", "02:00:00:00:00:02", "dev", "eth0", "nud", "permanent"},
		{"link", "add", "vxlan42", "type", "vxlan", "id", "42", "dstport", "4789", "local", "192.0.2.1", "nolearning", "noudpcsum"},
		{"link", "set", "vxlan42", "up"},
		{"addr", "add", "10.42.0.0/32", "dev", "vxlan42"},
	} {
		if err := nstest.Run("ip", args...); err != nil {
			b.Fatal(err)
		}
	}
	defer nstest.Run("ip", "link", "del", "eth0")
	defer nstest.Run("ip", "link", "del", "vxlan42")
	if err := nstest.Run("bridge", "fdb", "add", "02:00:00:00:00:99", "dev", "vxlan42", "dst", "192.0.2.2", "self", "permanent"); err != nil {
		b.Fatal(err)
	}
	s := NewSchedule[Target](rate)
	for i := range n {
		peer := fmt.Sprintf("10.42.%d.%d", 1+i/200, i%200)
		if err := nstest.Run("ip", "neigh", "add", peer, "lladdr", "02:00:00:00:00:99", "dev", "vxlan42", "nud", "permanent"); err != nil {
			b.Fatal(err)
		}
		s.Add(Target{Peer: netip.MustParseAddr(peer), Local: netip.MustParseAddr("10.42.0.0"), Device: "vxlan42", VNI: testVNI, MTU: 1450, Alive: alive})
	}
	ctx, cancel := context.WithTimeout(b.Context(), length)
	defer cancel()
	var probes, away atomic.Int64
	before := cpu()
	s.Run(ctx, func(ctx context.Context, t Target) bool {
		v := (&Prober{}).Probe(ctx, t)
		probes.Add(1)
		if v.State == Away || v.State == NoAnswer {
			away.Add(1)
		}
		return v.State == OK
	})
	used := cpu() - before
	if away.Load() < probes.Load()*3/5 {
		b.Errorf("%d of %d probes found the peer away", away.Load(), probes.Load())
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(used.Microseconds())/float64(probes.Load()), "µs-cpu/probe")
	b.ReportMetric(100*used.Seconds()/length.Seconds(), "%core")
	b.ReportMetric(float64(probes.Load())/length.Seconds(), "probes/s")
}

// BenchmarkProbe probes a peer that is well.
func BenchmarkProbe(b *testing.B) {
	x, y := pair(b, underlay{options: "noudpcsum"})
	y.listen(b)
	target := x.target(y, 0)
	x.in(b, func() {
		before := cpu()
		for b.Loop() {
			if v := (&Prober{}).Probe(b.Context(), target); v.State != OK {
				b.Fatal(v)
			}
		}
		b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "µs-cpu/op")
	})
}
