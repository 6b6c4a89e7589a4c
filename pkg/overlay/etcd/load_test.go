package etcd

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/overlaytest"
)

// metric is the sum of the member's counters whose lines have all of the words.
func metric(t testing.TB, m *member, words ...string) (sum float64) {
	t.Helper()
	resp, err := http.Get(m.url + "/metrics")
	check(t, err)
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		line := lines.Text()
		if line[0] != '#' && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			fields := strings.Fields(line)
			v, err := strconv.ParseFloat(fields[len(fields)-1], 64)
			check(t, err)
			sum += v
		}
	}
	return sum
}

func ranges(t testing.TB, m *member) float64 {
	return metric(t, m, "grpc_server_handled_total", `grpc_method="Range"`)
}

// TestHerd: many hosts that lost the store go on without reading everything anew; and
// where they have to, they do so one after the other.
func TestHerd(t *testing.T) {
	t.Parallel()
	const hosts = 200
	all := cluster(t, 1)
	c := raw(t, all...)
	var ops []clientv3.Op
	for i := range hosts {
		n := overlaytest.Node(fmt.Sprintf("host%d", i), i%100)
		ops = append(ops, put(DefaultPrefix+nodes+n.Name, n))
		if len(ops) == maxOps {
			_, err := c.Txn(limited(t)).Then(ops...).Commit()
			check(t, err)
			ops = nil
		}
	}
	var mu sync.Mutex
	var full []time.Time
	var back int
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	for range hosts {
		s := open(t, all)
		wg.Go(func() {
			_ = s.Watch(ctx, func(u overlay.Update) {
				mu.Lock()
				defer mu.Unlock()
				if u.Full {
					full = append(full, time.Now())
				} else if u.Err == nil {
					back++
				}
			})
		})
	}
	defer wg.Wait()
	defer cancel()
	until := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			mu.Lock()
			done := ok()
			mu.Unlock()
			if done {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("waited for %s: %d full, %d back", what, len(full), back)
			}
		}
	}
	until("all to have read", func() bool { return len(full) == hosts })
	time.Sleep(200 * time.Millisecond) // who read before the store had its incarnation is told of it
	mu.Lock()
	back = 0
	mu.Unlock()

	all[0].stop(t)
	time.Sleep(2 * time.Second)
	all[0].start(t)
	ready(t, all)
	before := ranges(t, all[0])
	until("all to be back", func() bool { return back == hosts })
	if n := ranges(t, all[0]) - before; n > hosts+5 { // those of this test itself
		t.Errorf("%v reads when the store came back, want one key a host, for its history", n)
	}
	if len(full) != hosts {
		t.Errorf("%d hosts read everything anew, want none", len(full)-hosts)
	}

	all[0].stop(t)
	elsewhere := all[0].elsewhere(t)
	elsewhere.compact(t)
	elsewhere.stop(t)
	mu.Lock()
	full = nil
	mu.Unlock()
	all[0].start(t)
	until("all to have read anew", func() bool { return len(full) == hosts })
	slices.SortFunc(full, time.Time.Compare)
	most := 0
	for i := range full {
		n := 0
		for _, at := range full[i:] {
			if at.Sub(full[i]) < 200*time.Millisecond {
				n++
			}
		}
		most = max(most, n)
	}
	took := full[len(full)-1].Sub(full[0])
	t.Logf("%d hosts read anew within %s, at most %d of them within 200 ms", hosts, took.Round(time.Millisecond), most)
	if most > hosts/2 { // a busy machine has some of them late, together
		t.Errorf("too many at a time")
	}
}

// TestClose: nothing runs on.
func TestClose(t *testing.T) {
	all := cluster(t, 1)
	run := func() {
		s, err := Open(Options{Endpoints: urls(all), TTL: testTTL})
		check(t, err)
		f := overlaytest.Follow(t, s, true)
		check(t, s.Register(limited(t), overlaytest.Node("a", 0), "boot", false, overlaytest.NotLost(t)))
		f.Wait(t, "the node", func(s *overlay.State) bool { return len(s.Nodes) == 1 })
		f.Stop()
		check(t, s.Close())
		check(t, s.Close())
	}
	run()
	count := func() int { http.DefaultClient.CloseIdleConnections(); return runtime.NumGoroutine() }
	before := count()
	for range 3 {
		run()
	}
	for deadline := time.Now().Add(5 * time.Second); count() > before; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, before %d:\n%s", count(), before, buf[:runtime.Stack(buf, true)])
		}
	}
	// Away: Close does not wait for the store.
	s := open(t, all)
	check(t, s.Register(limited(t), overlaytest.Node("a", 0), "boot", true, overlaytest.NotLost(t)))
	all[0].kill(t)
	time.Sleep(testTTL)
	start := time.Now()
	check(t, s.Close())
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("Close took %s while the store was away", took)
	}
}
