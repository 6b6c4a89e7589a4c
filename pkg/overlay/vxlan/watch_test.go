package vxlan

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/nstest"
)

// news is what the watcher said.
type news struct {
	mu  sync.Mutex
	all []string
}

func (n *news) take() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := strings.Join(n.all, "; ")
	n.all = nil
	return s
}

// wait waits until the watcher has said something.
func (n *news) wait() string {
	for range 100 {
		if s := n.take(); s != "" {
			return s
		}
		time.Sleep(2 * time.Millisecond)
	}
	return ""
}

// watch starts the watcher in the test's namespace.
func watch(t *testing.T, h *Host) *news {
	t.Helper()
	n := &news{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- h.Watch(ctx, func(p *Plane, why string) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.all = append(n.all, why)
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("watch: %v", err)
		}
	})
	return n
}

// Others' devices, and a busy host, wake nobody.
func TestWatchIsQuiet(t *testing.T) {
	me := alone(t)
	h := open(t)
	p := plane(t, h, me.device(), node{id: 2}.peer())
	mustSync(t, p)
	n := watch(t, h)
	for _, cmd := range []string{"ip link add v0 type veth peer name v1", "ip link set v0 up", "ip address add 198.51.100.1/24 dev v0",
		"ip route add 203.0.113.0/24 via 198.51.100.2 dev v0 onlink", "ip neigh add 198.51.100.2 lladdr 02:00:00:00:00:98 dev v0",
		"ip route add 10.43.0.0/16 dev v0", "ip -6 route add 2001:db8:5::/64 dev v0", "ip link del v0"} {
		run(t, cmd)
	}
	_, _ = nstest.Output("ping", "-c", "1", "-W", "1", "10.42.77.1")
	time.Sleep(20 * time.Millisecond)
	if s := n.take(); s != "" {
		t.Errorf("the watcher said %q", s)
	}
	run(t, "bridge fdb del 02:42:00:00:00:02 dev vxlan42 self")
	run(t, "ip route del 10.42.2.0/24")
	if s := n.wait(); strings.Count(s, "deleted") != 1 {
		t.Errorf("the watcher said %q, want one deletion only", s)
	}
}

// Who does not read in time is told that all may differ.
func TestWatchLosesEvents(t *testing.T) {
	me := alone(t)
	h := open(t)
	p := plane(t, h, me.device(), node{id: 2}.peer())
	mustSync(t, p)
	if err := h.events.SetBuffer(2048); err != nil {
		t.Fatal(err)
	}
	n := watch(t, h)
	h.mu.Lock() // the watcher waits
	for i := range 20 {
		run(t, fmt.Sprintf("ip route add 10.42.%d.0/24 dev vxlan42", 100+i))
		run(t, fmt.Sprintf("ip route del 10.42.%d.0/24 dev vxlan42", 100+i))
	}
	p.told = true
	h.mu.Unlock()
	time.Sleep(20 * time.Millisecond)
	if s := n.take(); s != "" {
		t.Errorf("the watcher said %q twice", s)
	}
	mustSync(t, p)
	h.mu.Lock()
	for i := range 20 {
		run(t, fmt.Sprintf("ip route add 10.43.%d.0/24 dev eth0 proto 98", 100+i)) // nobody's
	}
	h.mu.Unlock()
	if s := n.wait(); s != "events were lost" {
		t.Errorf("the watcher said %q", s)
	}
}
