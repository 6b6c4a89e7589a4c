package vxlan

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

var eventGroups = []int{unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
	unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR}

// eventBuffer has room for some ten thousand events: our own changes of the FDB cause
// one each, which the kernel does not say are ours.
const eventBuffer = 16 << 20

// listen opens a socket that hears what happens to devices, and of which nobody reads
// yet.
func listen() (*netlink.Listener, error) {
	return netlink.Listen(unix.NETLINK_ROUTE, eventBuffer, nothing, eventGroups...)
}

// Watch calls changed when somebody else made the kernel differ from what a plane
// wants; once, until that plane's next [Plane.Sync]. It blocks until the context ends
// or the host is closed, with nil, or the socket fails. When events were lost every
// plane may differ. changed is called without a lock; while it runs events wait, and
// are lost at worst. Only one can watch.
func (h *Host) Watch(ctx context.Context, changed func(p *Plane, why string)) error {
	if err := h.hear(true); err != nil {
		return err
	}
	defer func() { _ = h.hear(false) }()
	for {
		all, err := h.events.Receive(ctx)
		switch {
		case ctx.Err() != nil, errors.Is(err, os.ErrClosed):
			return nil
		case errors.Is(err, unix.ENOBUFS):
			h.tell(changed, func(*Plane) string { return "events were lost" })
			continue
		case err != nil:
			return fmt.Errorf("watch netlink events: %w", err)
		}
		for m := range all {
			h.tell(changed, func(p *Plane) string { return p.contradicts(m) })
		}
	}
}

// hear has the socket hear of our devices, or nothing.
func (h *Host) hear(on bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if on && h.watched {
		return errors.New("watch netlink events: somebody does already")
	}
	h.watched = on
	return h.attach()
}

// tell calls changed for the planes that have a reason and have not been told.
func (h *Host) tell(changed func(*Plane, string), reason func(*Plane) string) {
	type news struct {
		plane *Plane
		why   string
	}
	var all []news
	h.mu.Lock()
	for _, p := range h.planes {
		if p.told || p.index == 0 {
			continue
		}
		if why := reason(p); why != "" {
			p.told = true
			all = append(all, news{p, why})
		}
	}
	h.mu.Unlock()
	for _, n := range all {
		changed(n.plane, n.why)
	}
}

// attach tells the watcher's socket which devices are ours.
func (h *Host) attach() error {
	if !h.watched {
		return h.events.SetFilter(nothing)
	}
	var indexes []int
	for _, p := range h.planes {
		if p.index != 0 {
			indexes = append(indexes, p.index)
		}
	}
	program := rtnl.EventsOf(indexes, protocol, h.port)
	if len(program) > unix.BPF_MAXINSNS { // some two thousand networks
		program = everything
	}
	return h.events.SetFilter(program)
}

// Filters that need no thought.
var (
	nothing    = []bpf.Instruction{netlink.Drop}
	everything = []bpf.Instruction{netlink.Pass}
)
