package agent

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

const (
	// gcPercent keeps the heap at 1.5 times of what lives on it: the agent has much memory
	// and few changes. The environment's GOGC wins.
	gcPercent = 50
	// gcLeast is what is allocated, in bytes, before the heap is collected again: with the
	// few megabytes of a small cluster half of them is soon reached, and collecting would be
	// a fourth of all that an agent computes as it starts.
	gcLeast = 4 << 20
)

// tuneGC has the garbage collector run when the heap has grown by gcPercent, or by gcLeast
// where that is more. The function that it returns ends that.
func tuneGC() (stop func()) {
	var ended atomic.Bool
	now := gcPercent
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	var tune func()
	tune = func() { // once after each collection
		if ended.Load() {
			return
		}
		metrics.Read(live)
		want := gcFor(live[0].Value.Uint64())
		if want != now { // it stops the world
			now = want
			debug.SetGCPercent(now)
		}
		runtime.AddCleanup(new([16]byte), func(int) { tune() }, 0)
	}
	debug.SetGCPercent(now)
	tune()
	return func() { ended.Store(true) }
}

// gcFor is the growth, in percent and in some steps, after which a heap is collected of which
// so many bytes live.
func gcFor(live uint64) int {
	percent := gcPercent
	for percent < 16*gcPercent && uint64(percent)*live < 100*gcLeast {
		percent *= 2
	}
	return percent
}
