package main

import (
	"fmt"
	"time"
)

// result is what was measured at one number of synthetic peers.
type result struct {
	peers     int
	fill      filling
	changes   []*changed
	perChange float64 // seconds of the agent's CPU, beyond what it needs at rest
	load      load    // of etcd, during the changes, and
	changed   float64 // how many there were
	after     memory  // of the agent, as soon as they were made
	probing   rested
	quiet     rested // without probes
	restart   started
	reboot    started
	traces    []traced // of each of changes
}

// measurePeers measures one agent among synthetic peers, from few to many.
func measurePeers(p plan) (all []*result, err error) {
	progress("a host, its agent and etcd")
	b, err := newBed(p.Dual)
	if err != nil {
		return nil, err
	}
	defer b.close()
	for _, peers := range p.Peers {
		r := &result{peers: peers}
		if err := b.measure(p, r); err != nil {
			return nil, fmt.Errorf("%d peers: %w\n%s", peers, err, tail(b.agent.Log()))
		}
		all = append(all, r)
	}
	return all, nil
}

func (b *bed) measure(p plan, r *result) (err error) {
	progress("%d peers: fill", r.peers)
	if r.fill, err = b.fill(r.peers); err != nil {
		return err
	}
	progress("%d peers: at rest, probing", r.peers)
	if r.probing, err = b.rest(p.Settle, p.Rest); err != nil {
		return err
	}
	progress("%d peers: restart and reboot", r.peers)
	if r.restart, err = b.afterRestart(); err != nil {
		return err
	}
	if r.reboot, err = b.afterReboot(); err != nil {
		return err
	}
	progress("%d peers: changes", r.peers)
	if err = b.measureChanges(p, r); err != nil {
		return err
	}
	progress("%d peers: at rest, without probes", r.peers)
	if err = b.restart("--no-probe"); err != nil {
		return err
	}
	if r.quiet, err = b.rest(p.Settle, p.Rest); err != nil {
		return err
	}
	progress("%d peers: system calls", r.peers)
	if err = b.restart("--no-probe", "--resync", "1h"); err != nil { // nothing but the changes
		return err
	}
	time.Sleep(p.Settle)
	if r.traces, err = b.traceChanges(p.Traced); err != nil {
		return err
	}
	return b.restart()
}

func (b *bed) measureChanges(p plan, r *result) error {
	before, err := loadOf(b.etcd)
	if err != nil {
		return err
	}
	used, err := cpu(b.agent.Pid)
	if err != nil {
		return err
	}
	if r.changes, err = b.changes(p.Changes); err != nil {
		return err
	}
	after, err := cpu(b.agent.Pid)
	if err != nil {
		return err
	}
	if r.after, err = memoryOf(b.agent.Pid); err != nil {
		return err
	}
	now, err := loadOf(b.etcd)
	if err != nil {
		return err
	}
	r.load, r.changed = now.since(before), float64(3*p.Changes)
	r.perChange = (after - used).Seconds() / r.changed
	return nil
}

// traceChanges counts system calls of peers that come, move and go.
func (b *bed) traceChanges(count int) (all []traced, err error) {
	peers := synthetics(b.next, count, b.dual, b.own)
	b.next += count + len(b.own)
	for _, step := range []func(*synthetic, *changed) error{b.add, b.move, b.remove} {
		i := 0
		t, err := b.trace(count, func() error {
			b.monitor.drain()
			i++
			return step(peers[i-1], &changed{})
		})
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

// tail is the end of a log.
func tail(log string) string { return log[max(0, len(log)-4000):] }
