package main

import (
	"fmt"
	"time"
)

// started is what a start of the agent took and did.
type started struct {
	ready   time.Duration // from before the process starts until /readyz says so
	routed  time.Duration // until the last route is there; 0 when none was made
	cpu     time.Duration // of the agent, until a second after it is ready
	changes int           // that the kernel told of
	syncs   float64       // comparisons of all with the kernel, beyond those every 5 s
	writes  int64         // to etcd, until the first of those has been
}

// resync is more than the agent's --resync, less a second.
const resync = 5 * time.Second

// afterRestart starts an agent whose kernel is right.
func (b *bed) afterRestart() (s started, err error) {
	if err := b.agent.Stop(); err != nil {
		return s, err
	}
	return b.timed()
}

// afterReboot starts an agent on a host that has no device, no route and no rule yet.
func (b *bed) afterReboot() (s started, err error) {
	if err := b.agent.Stop(); err != nil {
		return s, err
	}
	if err := b.reboot(); err != nil {
		return s, fmt.Errorf("take away what a reboot does: %w", err)
	}
	if s, err = b.timed(); err != nil {
		return s, err
	}
	return s, b.addContainer()
}

func (b *bed) timed() (s started, err error) {
	time.Sleep(100 * time.Millisecond)
	revision, err := b.etcd.Revision()
	if err != nil {
		return s, err
	}
	b.monitor.drain()
	start := time.Now()
	if err := b.start(); err != nil {
		return s, err
	}
	s.ready = time.Since(start)
	time.Sleep(time.Second)
	if s.cpu, err = cpu(b.agent.Pid); err != nil {
		return s, err
	}
	samples, err := b.agent.Metrics()
	if err != nil {
		return s, err
	}
	s.syncs = samples["berth_kernel_syncs_total"]
	for n := len(b.monitor.events); n > 0; n-- {
		e := <-b.monitor.events
		s.changes++
		if _, ok := e.route(); ok {
			s.routed = e.at.Sub(start)
		}
	}
	time.Sleep(resync)
	after, err := b.etcd.Revision()
	s.writes = after - revision
	return s, err
}
