package vxlan

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/internal/rtnl"
)

// Changes counts what was added, changed or removed, by kind: zero where the kernel
// had what is wanted.
type Changes struct {
	Device, Addresses, FDB, Neighbours, Routes, Unreachable int
	Peers                                                   int // of a [Tunnel]
}

// Total is the sum.
func (c Changes) Total() int {
	return c.Device + c.Addresses + c.FDB + c.Neighbours + c.Routes + c.Unreachable + c.Peers
}

// String is for a log: "device 1, FDB 2".
func (c Changes) String() string {
	s := ""
	for _, k := range []struct {
		name string
		n    int
	}{{"device", c.Device}, {"addresses", c.Addresses}, {"FDB", c.FDB}, {"neighbours", c.Neighbours},
		{"routes", c.Routes}, {"unreachable", c.Unreachable}, {"peers", c.Peers}} {
		if k.n != 0 {
			if s != "" {
				s += ", "
			}
			s += fmt.Sprintf("%s %d", k.name, k.n)
		}
	}
	if s == "" {
		return "nothing"
	}
	return s
}

// Sync compares what the kernel has with what is wanted, and makes it so: the device
// and its settings, addresses, FDB, neighbours, routes. On our device what is not
// wanted goes, but for what the kernel makes itself. It reads everything: the cost is
// linear. The error has what was refused, with whose it is; the rest is done.
//
// It leaves unreachable routes of subnets that are not wanted any more to
// [Host.Sweep], which knows all networks.
func (p *Plane) Sync() (Changes, error) {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	p.told = false
	changes, err := p.sync()
	if err != nil {
		err = fmt.Errorf("%s: %w", &p.device, err)
	}
	return changes, err
}

func (p *Plane) sync() (Changes, error) {
	var n Changes
	c := p.host.conn
	l, changed, err := c.ensure(&p.device)
	n.Device = changed
	if l == nil {
		return n, err
	}
	if p.index != l.Index {
		p.index = l.Index
		p.rebuild()
		err = errors.Join(err, p.host.attach())
	}
	// The kernel's tables hang on the device and its addresses: these come first.
	err = errors.Join(err, p.syncOffload(&n), p.syncAddresses(&n), p.syncPeers(&n))
	return n, err
}

func (p *Plane) syncOffload(n *Changes) error {
	if !p.device.NoChecksumOffload && !p.offloadOff {
		return nil
	}
	did, err := setOffload(p.device.Name, !p.device.NoChecksumOffload)
	if did {
		n.Device++
	}
	if err == nil {
		p.offloadOff = p.device.NoChecksumOffload
	}
	return err
}

func (p *Plane) syncAddresses(n *Changes) error {
	c := p.host.conn
	have, err := c.Addresses(p.index)
	if err := readable(err); err != nil {
		return err
	}
	var b batch
	for _, a := range p.device.Addresses {
		own := ownAddress(p.index, a)
		if !slices.ContainsFunc(have, func(h rtnl.Address) bool { return h.Prefix == own.Prefix && permanent(h) }) {
			b.put("address", a, "", own.Put())
		}
	}
	// IPv4 drops the device's routes with its last address: new ones come first.
	for _, h := range have {
		if a := h.Prefix.Addr(); h.Prefix != rtnl.HostPrefix(a) || !slices.Contains(p.device.Addresses, a) {
			b.delete("address", h.Prefix, "", h.Delete())
		}
	}
	n.Addresses = len(b.reqs)
	return c.run(&b)
}

// actual is what the kernel has on the device.
type actual struct {
	fdb        []rtnl.FDBEntry
	neighbours []rtnl.Neighbour
	routes     []rtnl.Route
}

// actual reads what the kernel has, for some number of peers.
func (c *conn) actual(index, peers int) (a actual, err error) {
	a.fdb = make([]rtnl.FDBEntry, 0, peers)
	a.neighbours = make([]rtnl.Neighbour, 0, len(rtnl.Families)*peers)
	a.routes = make([]rtnl.Route, 0, len(rtnl.Families)*peers)
	if a.fdb, err = c.FDB(a.fdb, index); readable(err) != nil {
		return a, err
	}
	for _, family := range rtnl.Families {
		if a.neighbours, err = c.Neighbours(a.neighbours, family, index); readable(err) != nil {
			return a, err
		}
		if a.routes, err = c.routes(a.routes, family, index); err != nil {
			return a, err
		}
	}
	return a, nil
}

// syncPeers makes the entries of the peers, and the unreachable routes. A route comes
// after what it leads to, and goes before it.
func (p *Plane) syncPeers(n *Changes) error {
	have, err := p.host.conn.actual(p.index, len(p.peers))
	if err != nil {
		return err
	}
	refusing, err := p.host.conn.unreachables()
	if err != nil {
		return err
	}
	var b, last batch
	var tunnel error
	if p.device.Tunnel != nil {
		n.Peers, tunnel = p.syncTunnel()
	} else {
		n.FDB = p.syncFDB(have.fdb, &b, &last)
		n.Neighbours = p.syncNeighbours(have.neighbours, &b, &last)
	}
	n.Routes = p.syncRoutes(have.routes, &b)
	for _, s := range p.device.Subnets {
		if !slices.Contains(refusing, s) {
			b.put("unreachable route", s, "", unreachable(s).Put())
			n.Unreachable++
		}
	}
	return errors.Join(tunnel, p.host.conn.run(&b), p.host.conn.run(&last))
}

func (p *Plane) syncFDB(have []rtnl.FDBEntry, put, last *batch) int {
	before := len(put.reqs) + len(last.reqs)
	p.fdb.compare()
	for _, e := range have {
		if _, ok := p.fdb.get(e.MAC); !ok {
			last.delete("FDB entry", e.MAC, "", e.Delete())
		} else if e.Nexthop { // to put another leaves it, and says nothing
			put.delete("FDB entry", e.MAC, "", e.Delete())
		}
		p.fdb.met(e.MAC, e)
	}
	for m, i := range p.fdb.lacking() {
		put.put("FDB entry", m, i.peer, i.value.Put())
	}
	return len(put.reqs) + len(last.reqs) - before
}

func (p *Plane) syncNeighbours(have []rtnl.Neighbour, put, last *batch) int {
	before := len(put.reqs) + len(last.reqs)
	p.neighbours.compare()
	for _, n := range have {
		if _, ok := p.neighbours.get(n.Addr); !ok && !resolving(n) {
			last.delete("neighbour", n.Addr, "", n.Delete())
		}
		p.neighbours.met(n.Addr, n)
	}
	for a, i := range p.neighbours.lacking() {
		put.put("neighbour", a, i.peer, i.value.Put())
	}
	return len(put.reqs) + len(last.reqs) - before
}

// syncRoutes replaces, without a gap, a wrong route that is where a wanted one
// belongs; every other one it deletes first.
func (p *Plane) syncRoutes(have []rtnl.Route, put *batch) int {
	before := len(put.reqs)
	p.routes.compare()
	for _, r := range have {
		p.routes.met(r.Dst, r)
	}
	replaced := map[netip.Prefix]bool{}
	for _, r := range have {
		if p.routes.is(r.Dst, r) {
			continue
		}
		_, want := p.routes.get(r.Dst)
		if want && slot(r) && !p.routes.has(r.Dst) && !replaced[r.Dst] {
			replaced[r.Dst] = true
			continue
		}
		put.delete("route", r.Dst, "", r.Delete())
	}
	for dst, i := range p.routes.lacking() {
		put.put("route", dst, i.peer, i.value.Put())
	}
	return len(put.reqs) - before
}
