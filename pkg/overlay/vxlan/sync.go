package vxlan

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Changes counts what was added, changed or removed, by kind: zero where the kernel
// had what is wanted.
type Changes struct {
	Device, Addresses, FDB, Neighbours, Routes, Unreachable int
}

// Total is the sum.
func (c Changes) Total() int {
	return c.Device + c.Addresses + c.FDB + c.Neighbours + c.Routes + c.Unreachable
}

// String is for a log: "device 1, FDB 2".
func (c Changes) String() string {
	s := ""
	for _, k := range []struct {
		name string
		n    int
	}{{"device", c.Device}, {"addresses", c.Addresses}, {"FDB", c.FDB}, {"neighbours", c.Neighbours},
		{"routes", c.Routes}, {"unreachable", c.Unreachable}} {
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
		err = fmt.Errorf("VXLAN device %s: %w", p.device.Name, err)
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
	if p.index != l.index {
		p.index = l.index
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
	did, err := p.host.conn.offload(p.device.Name, !p.device.NoChecksumOffload)
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
	have, err := c.listAddresses(p.index)
	if err != nil {
		return err
	}
	var b batch
	for _, a := range p.device.Addresses {
		if !slices.ContainsFunc(have, func(h ownAddress) bool { return h.prefix == host(a) && h.right() }) {
			b.putAddress(p.index, a)
		}
	}
	// IPv4 drops the device's routes with its last address: new ones come first.
	for _, h := range have {
		if a := h.prefix.Addr(); h.prefix != host(a) || !slices.Contains(p.device.Addresses, a) {
			b.deleteAddress(p.index, h.prefix)
		}
	}
	n.Addresses = len(b.reqs)
	return c.run(&b, nil)
}

// actual is what the kernel has on the device.
type actual struct {
	fdb        []fdbEntry
	neighbours []neighbour
	routes     []route
}

// actual reads what the kernel has, for some number of peers.
func (c *conn) actual(index, peers int) (a actual, err error) {
	a.fdb = make([]fdbEntry, 0, peers)
	a.neighbours = make([]neighbour, 0, len(families)*peers)
	a.routes = make([]route, 0, len(families)*peers)
	if a.fdb, err = c.listFDB(a.fdb, index); err != nil {
		return a, err
	}
	for _, fam := range families {
		if a.neighbours, err = c.listNeighbours(a.neighbours, fam, index); err != nil {
			return a, err
		}
		if a.routes, err = c.listRoutes(a.routes, fam, index); err != nil {
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
	unreachable, err := p.host.conn.listUnreachable()
	if err != nil {
		return err
	}
	var b, last batch
	n.FDB = p.syncFDB(have.fdb, &b, &last)
	n.Neighbours = p.syncNeighbours(have.neighbours, &b, &last)
	n.Routes = p.syncRoutes(have.routes, &b)
	for _, s := range p.device.Subnets {
		if !slices.Contains(unreachable, s) {
			b.putUnreachable(s)
			n.Unreachable++
		}
	}
	return errors.Join(p.host.conn.run(&b, nil), p.host.conn.run(&last, nil))
}

func (p *Plane) syncFDB(have []fdbEntry, put, last *batch) int {
	before := len(put.reqs) + len(last.reqs)
	p.fdb.compare()
	for _, e := range have {
		if _, ok := p.fdb.get(e.mac); !ok {
			last.deleteFDB(p.index, e.mac, "")
		} else if e.nexthop { // REPLACE would leave it, and say nothing
			put.deleteFDB(p.index, e.mac, "")
		}
		p.fdb.met(e.mac, e.remote)
	}
	for m, i := range p.fdb.lacking() {
		put.putFDB(p.index, m, i.value, i.peer)
	}
	return len(put.reqs) + len(last.reqs) - before
}

func (p *Plane) syncNeighbours(have []neighbour, put, last *batch) int {
	before := len(put.reqs) + len(last.reqs)
	p.neighbours.compare()
	for _, e := range have {
		if _, ok := p.neighbours.get(e.addr); !ok && e.mac != (mac{}) {
			last.deleteNeighbour(p.index, e.addr, "")
		}
		p.neighbours.met(e.addr, e)
	}
	for a, i := range p.neighbours.lacking() {
		put.putNeighbour(p.index, a, i.value.mac, i.peer)
	}
	return len(put.reqs) + len(last.reqs) - before
}

// syncRoutes replaces, without a gap, a wrong route that is where a wanted one
// belongs; every other one it deletes first.
func (p *Plane) syncRoutes(have []route, put *batch) int {
	before := len(put.reqs)
	p.routes.compare()
	for _, r := range have {
		if r.right() {
			p.routes.met(r.dst, r.hop)
		}
	}
	replaced := map[netip.Prefix]bool{}
	for _, r := range have {
		if r.right() && p.routes.is(r.dst, r.hop) {
			continue
		}
		_, want := p.routes.get(r.dst)
		if want && r.slot() && !p.routes.has(r.dst) && !replaced[r.dst] {
			replaced[r.dst] = true
			continue
		}
		put.deleteRoute(p.index, r, "")
	}
	for dst, i := range p.routes.lacking() {
		put.putRoute(p.index, dst, i.value, i.peer)
	}
	return len(put.reqs) - before
}
