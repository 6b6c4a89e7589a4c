package main

import "time"

// rested is what an agent needs while nothing changes.
type rested struct {
	cpu    float64 // of a core
	memory memory
	heap   float64 // bytes that the agent's heap has in use
	load   load    // of etcd
	over   time.Duration
	events int // changes that the kernel told of
}

// rest watches the agent while nothing changes.
func (b *bed) rest(settle, over time.Duration) (r rested, err error) {
	time.Sleep(settle)
	b.monitor.drain()
	before, err := loadOf(b.etcd)
	if err != nil {
		return r, err
	}
	used, err := cpu(b.agent.Pid)
	if err != nil {
		return r, err
	}
	start := time.Now()
	time.Sleep(over)
	after, err := cpu(b.agent.Pid)
	if err != nil {
		return r, err
	}
	r.over = time.Since(start)
	r.cpu = float64(after-used) / float64(r.over)
	r.events = b.monitor.drain()
	if r.memory, err = memoryOf(b.agent.Pid); err != nil {
		return r, err
	}
	now, err := loadOf(b.etcd)
	if err != nil {
		return r, err
	}
	r.load = now.since(before)
	samples, err := b.agent.Metrics()
	r.heap = samples["go_memstats_heap_inuse_bytes"]
	return r, err
}
