package vxlan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"golang.org/x/sys/unix"
)

// contradicts tells how an event differs from what is wanted; empty if it does not.
func (p *Plane) contradicts(m netlink.Message) string {
	switch m.Kind {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return p.linkEvent(m)
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		if p.device.Tunnel != nil {
			return ""
		}
		if e, ok := rtnl.ParseFDBEntry(m); ok {
			return p.fdbEvent(e, m.Kind == unix.RTM_DELNEIGH)
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
func (p *Plane) linkEvent(m netlink.Message) string {
	if l, ok := rtnl.ParseLink(m); !ok || l.Index != p.index || m.Body[0] == unix.AF_BRIDGE {
		return ""
	}
	l, err := p.host.conn.VXLAN(p.device.Name)
	switch {
	case err != nil:
		return err.Error()
	case l == nil || l.Index != p.index:
		return "the device was deleted"
	case !changeable(l, &p.device):
		return "the device was made by somebody else"
	}
	if d := differences(l, &p.device); len(d) > 0 {
		return "the device differs: " + strings.Join(d, ", ")
	}
	return ""
}

// fdbEvent reads the entry again if it is suspicious: the kernel does not say which
// events are ours, and the one that comes now may be of what we have changed since.
func (p *Plane) fdbEvent(e rtnl.FDBEntry, deleted bool) string {
	if e.Index != p.index {
		return ""
	}
	want, known := p.fdb.get(e.MAC)
	why := differs(deleted, known, deleted || want == e, "FDB entry", e.MAC)
	if why == "" {
		return ""
	}
	now, there, err := p.host.conn.FDBEntry(p.index, e.MAC)
	if err == nil && there == known && (!there || now == want) {
		return ""
	}
	return why
}

// neighbourEvent is as fdbEvent.
func (p *Plane) neighbourEvent(m netlink.Message) string {
	n, ok := rtnl.ParseNeighbour(m)
	if !ok || n.Index != p.index {
		return ""
	}
	deleted := m.Kind == unix.RTM_DELNEIGH
	want, known := p.neighbours.get(n.Addr)
	if !known && resolving(n) {
		return ""
	}
	why := differs(deleted, known, deleted || want == n, "neighbour", n.Addr)
	if why == "" {
		return ""
	}
	now, there, err := p.host.conn.Neighbour(p.index, n.Addr)
	if err == nil && there == known && (!there || now == want) {
		return ""
	}
	return why
}

func (p *Plane) addressEvent(m netlink.Message) string {
	a, ok := rtnl.ParseAddress(m)
	if !ok || a.Index != p.index {
		return ""
	}
	known := a.Prefix.IsSingleIP() && slices.Contains(p.device.Addresses, a.Prefix.Addr())
	deleted := m.Kind == unix.RTM_DELADDR
	return differs(deleted, known, deleted || permanent(a), "address", a.Prefix)
}

func (p *Plane) routeEvent(m netlink.Message) string {
	r, ok := rtnl.ParseRoute(m)
	if !ok || r.Table != unix.RT_TABLE_MAIN || r.Protocol == unix.RTPROT_KERNEL {
		return ""
	}
	deleted := m.Kind == unix.RTM_DELROUTE
	if isUnreachable(r) {
		if deleted && slices.Contains(p.device.Subnets, r.Dst) {
			return differs(true, true, true, "unreachable route", r.Dst)
		}
		return ""
	}
	want, known := p.routes.get(r.Dst)
	if r.Index == p.index {
		return differs(deleted, known, want == r, "route", r.Dst)
	}
	if known && slot(r) && !deleted && m.Flags&unix.NLM_F_REPLACE != 0 {
		return fmt.Sprintf("route %s was replaced", r.Dst)
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
