package vxlan

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// contradicts tells how an event differs from what is wanted; empty if it does not.
func (p *Plane) contradicts(m message) string {
	switch m.kind {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return p.linkEvent(m)
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		if len(m.body) > 0 && m.body[0] == unix.AF_BRIDGE {
			return p.fdbEvent(m)
		}
		return p.neighbourEvent(m)
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return p.routeEvent(m)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return p.addressEvent(m)
	}
	return ""
}

// linkEvent reads the device again: what the event has may be from the midst of our
// own changes.
func (p *Plane) linkEvent(m message) string {
	if len(m.body) < unix.SizeofIfInfomsg || int(uint32Of(m.body[4:])) != p.index || m.body[0] == unix.AF_BRIDGE {
		return ""
	}
	l, err := p.host.conn.link(p.device.Name)
	switch {
	case err != nil:
		return err.Error()
	case l == nil || l.index != p.index:
		return "the device was deleted"
	case !l.changeable(&p.device):
		return "the device was made by somebody else"
	}
	if d := l.differences(&p.device); len(d) > 0 {
		return "the device differs: " + strings.Join(d, ", ")
	}
	return ""
}

// fdbEvent reads the entry again if it is suspicious: the kernel does not say which
// events are ours, and the one that comes now may be of what we have changed since.
func (p *Plane) fdbEvent(m message) string {
	e, index, ok := parseFDB(m.body)
	if !ok || index != p.index {
		return ""
	}
	deleted := m.kind == unix.RTM_DELNEIGH
	want, known := p.fdb.get(e.mac)
	why := differs(deleted, known, deleted || want == e.remote, "FDB entry", e.mac)
	if why == "" {
		return ""
	}
	now, there, err := p.host.conn.fdbEntry(p.index, e.mac)
	if err == nil && there == known && (!there || now.remote == want) {
		return ""
	}
	return why
}

// neighbourEvent is as fdbEvent.
func (p *Plane) neighbourEvent(m message) string {
	e, index, ok := parseNeighbour(m.body)
	if !ok || index != p.index {
		return ""
	}
	deleted := m.kind == unix.RTM_DELNEIGH
	want, known := p.neighbours.get(e.addr)
	if !known && e.mac == (mac{}) {
		return "" // the kernel looks for somebody who is not there
	}
	why := differs(deleted, known, deleted || want == e, "neighbour", e.addr)
	if why == "" {
		return ""
	}
	now, there, err := p.host.conn.neighbour(p.index, e.addr)
	if err == nil && there == known && (!there || now == want) {
		return ""
	}
	return why
}

func (p *Plane) addressEvent(m message) string {
	a, index, ok := parseAddress(m.body)
	if !ok || index != p.index {
		return ""
	}
	known := a.prefix == host(a.prefix.Addr()) && slices.Contains(p.device.Addresses, a.prefix.Addr())
	deleted := m.kind == unix.RTM_DELADDR
	return differs(deleted, known, deleted || a.right(), "address", a.prefix)
}

func (p *Plane) routeEvent(m message) string {
	r, ok := parseRoute(m.body)
	if !ok || r.protocol == unix.RTPROT_KERNEL {
		return ""
	}
	deleted := m.kind == unix.RTM_DELROUTE
	if r.unreachable() {
		if deleted && slices.Contains(p.device.Subnets, r.dst) {
			return differs(true, true, true, "unreachable route", r.dst)
		}
		return ""
	}
	want, known := p.routes.get(r.dst)
	right := r.right() && r.index == p.index && want == r.hop
	if r.index == p.index {
		return differs(deleted, known, right, "route", r.dst)
	}
	if known && r.slot() && !deleted && m.flags&unix.NLM_F_REPLACE != 0 {
		return fmt.Sprintf("route %s was replaced", r.dst)
	}
	return ""
}

// differs words an event: an entry was deleted or added that is known, or right.
func differs(deleted, known, right bool, what string, key any) string {
	switch {
	case deleted && known && right:
		return fmt.Sprintf("%s %v was deleted", what, key)
	case !deleted && known && !right:
		return fmt.Sprintf("%s %v was changed", what, key)
	case !deleted && !known:
		return fmt.Sprintf("%s %v was added", what, key)
	}
	return ""
}
