package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/integration/sandbox"
)

// joined is what a new host's coming took, from just before its agent's process
// starts. The samples are of the other hosts, or of containers on some of them.
type joined struct {
	number   int // of hosts, with the new one
	ready    time.Duration
	attached time.Duration
	routed   times
	accepted times
	answered times         // by the host's own address inside
	reached  times         // by a container on it
	cpu      time.Duration // of the others, beyond what they need at rest
	etcd     load          // from the start to some seconds later
}

// joinPatience is how long a host may take until something is wrong.
const joinPatience = 20 * time.Second

// join starts the agent of a new host, and watches all others, which together need so
// much of a core at rest.
func (c *crowd) join(h *cluster.Host, rest float64) (*joined, error) {
	j := &joined{number: len(c.agents) + 1}
	for _, m := range c.monitors {
		m.drain()
	}
	before, err := loadOf(c.etcd)
	if err != nil {
		return nil, err
	}
	used, err := c.cpu()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), joinPatience)
	defer cancel()
	block := make(chan netip.Prefix, len(c.monitors))
	w := &watch{start: time.Now()}
	for _, m := range c.monitors {
		w.try(func() error { return w.see(m, h.Addr4, j, block) })
	}
	w.try(func() error {
		select {
		case b := <-block:
			return w.ask(ctx, c.samples, b.Addr(), &j.answered)
		case <-ctx.Done():
			return errors.New("no host has a route to it")
		}
	})
	a, err := h.Agent(cluster.OnEtcd(c.etcd)...)
	j.ready = time.Since(w.start)
	if err == nil {
		w.try(func() error { return c.attachAndAsk(ctx, w, h, j) })
	}
	w.running.Wait()
	if err := errors.Join(append(w.errs, err)...); err != nil {
		return nil, err
	}
	time.Sleep(2 * time.Second)
	after, err := c.cpu()
	if err != nil {
		return nil, err
	}
	now, err := loadOf(c.etcd)
	if err != nil {
		return nil, err
	}
	j.cpu, j.etcd = after-used-time.Duration(rest*float64(time.Since(w.start))), now.since(before)
	m, err := newMonitor(h, 1<<12)
	if err != nil {
		return nil, err
	}
	c.agents, c.monitors = append(c.agents, a), append(c.monitors, m)
	return j, nil
}

func (c *crowd) attachAndAsk(ctx context.Context, w *watch, h *cluster.Host, j *joined) error {
	_, addrs, err := attach(h, "new")
	if err != nil {
		return err
	}
	j.attached = time.Since(w.start)
	return w.ask(ctx, c.samples, first4(addrs), &j.reached)
}

// watch is what goes on at the same time.
type watch struct {
	start   time.Time
	running sync.WaitGroup
	mu      sync.Mutex
	errs    []error
}

func (w *watch) try(fn func() error) {
	w.running.Go(func() {
		if err := fn(); err != nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.errs = append(w.errs, err)
		}
	})
}

func (w *watch) took(t *times, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t.add(at.Sub(w.start))
}

// see waits until a host has a route to the new one, and accepts its packets.
func (w *watch) see(m *monitor, vtep netip.Addr, j *joined, block chan<- netip.Prefix) error {
	var routed, accepted bool
	err := m.wait(joinPatience, func(e event) bool {
		if dst, ok := e.route(); ok && !routed && e.kind == unix.RTM_NEWROUTE && dst.Addr().Is4() {
			routed = true
			w.took(&j.routed, e.at)
			block <- dst
		}
		if !accepted && e.names(newElement, vtep) {
			accepted = true
			w.took(&j.accepted, e.at)
		}
		return routed && accepted
	})
	if err != nil {
		err = fmt.Errorf("route %v, firewall %v: %w", routed, accepted, err)
	}
	return err
}

// ask has containers ping an address until it answers.
func (w *watch) ask(ctx context.Context, from []*sandbox.Container, to netip.Addr, t *times) error {
	var asking watch
	for _, box := range from {
		asking.try(func() error {
			at, err := ping(ctx, box, to)
			if err == nil {
				w.took(t, at)
			}
			return err
		})
	}
	asking.running.Wait()
	return errors.Join(asking.errs...)
}
