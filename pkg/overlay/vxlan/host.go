// Package vxlan is the data plane of overlay networks on this host: for each network
// a VXLAN device (RFC 7348), and for each other host of the network, its peer, an FDB
// entry, a neighbour and routes.
// A network may have another [Tunnel] in VXLAN's place.
//
// It is told the wanted state. A change of one peer costs one netlink message; a
// comparison with all that the kernel has ([Plane.Sync]) is linear, changes nothing
// that is right, and so disturbs no flow when it comes first after a restart.
// [Host.Watch] tells when somebody else made the kernel differ from what is wanted.
//
// Needs kernel 4.20, where lists are filtered by what is asked for (strict checking).
package vxlan

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
)

// Host is the networks of the calling thread's network namespace. Its methods, and
// those of its planes, may be called from several goroutines, whose threads are in
// that namespace.
type Host struct {
	mu      sync.Mutex
	conn    *conn
	port    uint32            // of conn, which the kernel puts on events that we cause
	events  *netlink.Listener // what [Host.Watch] hears
	watched bool
	planes  []*Plane
}

// Open opens the host's netlink sockets. It changes nothing.
func Open() (*Host, error) {
	c, err := rtnl.Dial()
	if err != nil {
		return nil, err
	}
	h := &Host{conn: &conn{c}}
	if h.port, err = c.Port(); err == nil {
		h.events, err = listen()
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return h, nil
}

// Close leaves the networks as they are, working. Nobody watches any more.
func (h *Host) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, _ = h.conn.Close(), h.events.Close()
}

// Plane adds a network. Nothing is made before [Plane.Sync].
func (h *Host) Plane(d Device) (*Plane, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.planes {
		if p.device.Name == d.Name {
			return nil, fmt.Errorf("VXLAN device %s: another network has it", d.Name)
		}
	}
	p := &Plane{host: h, peers: map[string]Peer{}}
	if err := p.setDevice(d); err != nil {
		return nil, err
	}
	h.planes = append(h.planes, p)
	return p, nil
}

// Sweep deletes what networks left that are no more: devices that have our mark
// and belong to no plane, and unreachable routes of ours for subnets of no plane. It
// is for when all planes are there.
func (h *Host) Sweep() (Changes, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var changes Changes
	links, err := h.conn.links("wireguard", "tun")
	if err != nil {
		return changes, err
	}
	var errs []error
	for _, l := range links {
		wanted := slices.ContainsFunc(h.planes, func(p *Plane) bool { return p.device.Name == l.Name })
		if l.Alias != Alias || wanted {
			continue
		}
		if err := h.conn.deleteLink(l); err != nil {
			errs = append(errs, err)
			continue
		}
		changes.Device++
	}
	n, err := h.dropUnreachable(func(netip.Prefix) bool { return true })
	changes.Unreachable = n
	return changes, errors.Join(append(errs, err)...)
}

// dropUnreachable deletes our unreachable routes that no plane wants, of the subnets
// that match.
func (h *Host) dropUnreachable(match func(netip.Prefix) bool) (int, error) {
	have, err := h.conn.unreachables()
	if err != nil {
		return 0, err
	}
	var b batch
	for _, s := range have {
		if match(s) && !h.wants(s) {
			b.delete("unreachable route", s, "", unreachable(s).Delete())
		}
	}
	return len(b.reqs), h.conn.run(&b)
}

// wants reports whether the subnet is one of a plane's.
func (h *Host) wants(subnet netip.Prefix) bool {
	return slices.ContainsFunc(h.planes, func(p *Plane) bool { return slices.Contains(p.device.Subnets, subnet) })
}
