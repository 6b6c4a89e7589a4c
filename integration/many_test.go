package integration

import (
	"fmt"
	"sync"
	"testing"

	"github.com/berth-cni/berth/integration/sandbox"
)

// TestMany has 16 callers attach 200 containers at a time, and detach them.
func TestMany(t *testing.T) {
	t.Parallel()
	const containers, callers = 200, 16
	b := newBed(t)
	n, before := b.used(bridge)
	all := make([]*sandbox.Container, containers)
	for i := range all {
		all[i] = b.container(fmt.Sprintf("m%d", i))
	}
	var mu sync.Mutex
	holder := map[string]string{}
	each(all, callers, func(i int, c *sandbox.Container) {
		res, err := n.AddJSON(c, tcpPort(20000+i, 80))
		if err != nil {
			t.Errorf("ADD %s: %v", c.ID, err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, addr := range addresses(t, res) {
			if other, taken := holder[addr]; taken {
				t.Errorf("%s and %s have both %s", other, c.ID, addr)
			}
			holder[addr] = c.ID
		}
	})
	if len(holder) != 2*containers {
		t.Errorf("%d addresses, want %d", len(holder), 2*containers)
	}
	for _, i := range []int{0, 99, 199} {
		serve(t, all[i], ":80")
		b.answers(b.outside, fmt.Sprintf("%s:%d", sandbox.HostAddr4, 20000+i), all[i], "")
	}
	each(all, callers, func(i int, c *sandbox.Container) {
		if err := n.Check(c, tcpPort(20000+i, 80)); err != nil {
			t.Errorf("CHECK %s: %v", c.ID, err)
		}
	})
	each(all, callers, func(i int, c *sandbox.Container) {
		if err := n.Del(c, tcpPort(20000+i, 80)); err != nil {
			t.Errorf("DEL %s: %v", c.ID, err)
		}
		if err := c.Remove(); err != nil {
			t.Error(err)
		}
	})
	b.same(before, "after 200 containers")
}

// each has so many callers work through the containers.
func each(all []*sandbox.Container, callers int, do func(int, *sandbox.Container)) {
	jobs := make(chan int)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for i := range jobs {
				do(i, all[i])
			}
		})
	}
	for i := range all {
		jobs <- i
	}
	close(jobs)
	wg.Wait()
}
