package main

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"
)

// changed is what changes of one kind took.
type changed struct {
	what string
	// kernel is from just before the keys are written until the kernel has the route,
	// or where the VTEP is; firewall until the firewall accepts the peer's packets, or not.
	kernel, firewall times
}

// changePatience is how long a change may take until something is wrong.
const changePatience = 10 * time.Second

// changes has peers come, move and go, one at a time.
func (b *bed) changes(count int) ([]*changed, error) {
	add, move, remove := &changed{what: "peer added"}, &changed{what: "VTEP moved"}, &changed{what: "peer removed"}
	for _, p := range synthetics(b.next, count, b.dual, b.own) {
		var i int
		fmt.Sscanf(p.name, "peer-%d", &i)
		b.next = i + 1
		for _, step := range []struct {
			of *changed
			do func(*synthetic, *changed) error
		}{{add, b.add}, {move, b.move}, {remove, b.remove}} {
			time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
			b.monitor.drain()
			if err := step.do(p, step.of); err != nil {
				return nil, fmt.Errorf("%s, %s: %w", step.of.what, p.name, err)
			}
		}
	}
	return []*changed{add, move, remove}, nil
}

// both waits until the kernel and the firewall have changed.
func (b *bed) both(c *changed, start time.Time, kernel, firewall func(event) bool) error {
	var inKernel, inFirewall bool
	return b.monitor.wait(changePatience, func(e event) bool {
		if !inKernel && kernel(e) {
			inKernel = true
			c.kernel.add(e.at.Sub(start))
		}
		if !inFirewall && firewall(e) {
			inFirewall = true
			c.firewall.add(e.at.Sub(start))
		}
		return inKernel && inFirewall
	})
}

func (b *bed) add(p *synthetic, c *changed) error {
	start := time.Now()
	if err := b.etcd.Put(p.all()); err != nil {
		return err
	}
	left := len(p.blocks)
	return b.both(c, start, func(e event) bool {
		if dst, ok := e.route(); ok && e.kind == newRoute && contains(p.blocks, dst) {
			left--
		}
		return left == 0
	}, func(e event) bool { return e.names(newElement, p.vtep) })
}

func (b *bed) move(p *synthetic, c *changed) error {
	there := p.vtep.As4()
	there[1]++ // 198.19.0.0/16
	p.vtep = netip.AddrFrom4(there)
	start := time.Now()
	if err := b.etcd.Put(p.node()); err != nil {
		return err
	}
	return b.both(c, start, func(e event) bool { return e.vtep() == p.vtep },
		func(e event) bool { return e.names(newElement, p.vtep) })
}

func (b *bed) remove(p *synthetic, c *changed) error {
	start := time.Now()
	if err := b.etcd.Delete(p.nodeKey()); err != nil {
		return err
	}
	left := len(p.blocks)
	err := b.both(c, start, func(e event) bool {
		if dst, ok := e.route(); ok && e.kind == delRoute && contains(p.blocks, dst) {
			left--
		}
		return left == 0
	}, func(e event) bool { return e.names(delElement, p.vtep) })
	for _, block := range p.blocks {
		if err == nil {
			err = b.etcd.Delete(p.blockKey(block))
		}
	}
	return err
}

func contains(blocks []netip.Prefix, b netip.Prefix) bool {
	for _, p := range blocks {
		if p == b {
			return true
		}
	}
	return false
}
