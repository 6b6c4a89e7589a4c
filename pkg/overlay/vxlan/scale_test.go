package vxlan

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// crowd are n peers with a block of each family.
func crowd(n int) []Peer {
	all := make([]Peer, n)
	for i := range all {
		v4 := netip.AddrFrom4([4]byte{10, byte(128 + i>>8), byte(i), 0})
		v6 := netip.MustParseAddr(fmt.Sprintf("fd00:42:0:%x::", 0x1000+i))
		all[i] = Peer{Name: fmt.Sprintf("peer-%05d", i), Underlay: netip.AddrFrom4([4]byte{192, 168, byte(i >> 8), byte(i)}),
			MAC:    net.HardwareAddr{2, 0, 0, 1, byte(i >> 8), byte(i)},
			Blocks: []netip.Prefix{netip.PrefixFrom(v4, 24), netip.PrefixFrom(v6, 64)}}
	}
	return all
}

// wide is the device of a network with room for a crowd.
func wide(n node) Device {
	d := n.device()
	d.Subnets[0] = netip.MustParsePrefix("10.0.0.0/8")
	return d
}

// cpu is what the calling thread used, the kernel's work on its requests included.
func cpu(t testing.TB) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// The requests of a change are as many with a thousand peers as with one, and a sync
// that has to make everything needs no more than one request for each entry.
func TestCostIsConstant(t *testing.T) {
	for _, n := range []int{1, 1000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			me := alone(t)
			h := open(t)
			news := watch(t, h)
			peers := crowd(n)
			p := plane(t, h, wide(me), peers...)
			before := h.conn.Requests()
			if c := mustSync(t, p); c.FDB != n || c.Neighbours != 2*n || c.Routes != 2*n {
				t.Errorf("sync made %s", c)
			}
			if got, most := h.conn.Requests()-before, 5*n+40; got > most {
				t.Errorf("the first sync cost %d requests, want at most %d", got, most)
			}
			before = h.conn.Requests()
			if c := mustSync(t, p); c.Total() != 0 {
				t.Errorf("a second sync made %s", c)
			}
			if got := h.conn.Requests() - before; got > 12 {
				t.Errorf("a sync that changes nothing cost %d requests", got)
			}
			before = h.conn.Requests()
			if err := p.SetPeer(node{id: 2}.peer()); err != nil {
				t.Fatal(err)
			}
			if got := h.conn.Requests() - before; got != 5 {
				t.Errorf("a peer cost %d requests, want 5", got)
			}
			time.Sleep(50 * time.Millisecond)
			if s := news.take(); s != "" {
				t.Errorf("the watcher said %q", s)
			}
		})
	}
}

func BenchmarkSync(b *testing.B) {
	for _, n := range []int{1, 1000, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			me := alone(b)
			p := plane(b, open(b), wide(me), crowd(n)...)
			start := cpu(b)
			mustSync(b, p)
			first := cpu(b) - start
			start = cpu(b)
			b.ReportAllocs()
			for b.Loop() {
				if c := mustSync(b, p); c.Total() != 0 {
					b.Fatalf("sync changed %s", c)
				}
			}
			b.ReportMetric(float64((cpu(b)-start).Microseconds())/1000/float64(b.N), "ms-cpu/op")
			b.ReportMetric(float64(first.Microseconds())/1000, "ms-cpu-first")
		})
	}
}

func BenchmarkSetPeer(b *testing.B) {
	for _, n := range []int{1, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			me := alone(b)
			p := plane(b, open(b), wide(me), crowd(n)...)
			mustSync(b, p)
			peer := node{id: 2}.peer()
			b.ReportAllocs()
			var add time.Duration
			for b.Loop() { // one peer comes and goes
				start := time.Now()
				if err := p.SetPeer(peer); err != nil {
					b.Fatal(err)
				}
				add += time.Since(start)
				if err := p.RemovePeer(peer.Name); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(add.Nanoseconds())/1000/float64(b.N), "us-add/op")
		})
	}
}
