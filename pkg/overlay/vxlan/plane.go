package vxlan

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/internal/rtnl"
)

// Plane is the wanted state of one network.
type Plane struct {
	host   *Host
	device Device
	index  int // of the device; 0 before it was made
	peers  map[string]Peer

	fdb        wanted[rtnl.EUI48, rtnl.FDBEntry]
	neighbours wanted[netip.Addr, rtnl.Neighbour]
	routes     wanted[netip.Prefix, rtnl.Route]

	offloadOff bool // we switched checksum offload off
	told       bool // the watcher knows that the kernel differs
}

// SetDevice changes what is wanted of the device; [Plane.Sync] makes it so. The name
// stays.
func (p *Plane) SetDevice(d Device) error {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	if d.Name != p.device.Name {
		return fmt.Errorf("%s: cannot become %s", &p.device, d.Name)
	}
	return p.setDevice(d)
}

func (p *Plane) setDevice(d Device) error {
	if err := d.validate(); err != nil {
		return fmt.Errorf("%s: %w", &d, err)
	}
	d.MAC, d.Addresses, d.Subnets = slices.Clone(d.MAC), slices.Clone(d.Addresses), slices.Clone(d.Subnets)
	p.device = d
	p.rebuild()
	return nil
}

// SetPeers changes who the peers are; [Plane.Sync] makes it so. Peers that are not
// valid are left out, and are the error.
func (p *Plane) SetPeers(peers []Peer) error {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	var errs []error
	p.peers = make(map[string]Peer, len(peers))
	for _, peer := range peers {
		if err := peer.validate(&p.device); err != nil {
			errs = append(errs, err)
			continue
		}
		p.peers[peer.Name] = peer.clone()
	}
	p.rebuild()
	return errors.Join(errs...)
}

// rebuild makes the wanted entries from the peers, in the order of their names, so
// that of two peers who claim the same one always the same has it.
func (p *Plane) rebuild() {
	p.fdb, p.neighbours, p.routes = wanted[rtnl.EUI48, rtnl.FDBEntry]{}, wanted[netip.Addr, rtnl.Neighbour]{}, wanted[netip.Prefix, rtnl.Route]{}
	for _, name := range slices.Sorted(maps.Keys(p.peers)) {
		peer := p.peers[name]
		p.put(&peer, nil)
	}
}

// SetPeer adds or changes a peer, in the kernel, too, if the device was made. It
// costs the requests for what differs from what was wanted of this peer, all in one
// message. After an error that is not about the peer itself, [Plane.Sync] has to
// make it so.
func (p *Plane) SetPeer(peer Peer) error {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	if err := peer.validate(&p.device); err != nil {
		return err
	}
	peer = peer.clone()
	old, known := p.peers[peer.Name]
	p.peers[peer.Name] = peer
	var b batch
	p.dropRoutes(&old, &peer, &b)
	p.put(&peer, &b)
	if known {
		p.drop(&old, &peer, &b)
	}
	return errors.Join(p.putTunnel(&old, &peer), p.run(&b))
}

// RemovePeer removes a peer, at the cost of [Plane.SetPeer]; nil when there is none.
func (p *Plane) RemovePeer(name string) error {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	old, known := p.peers[name]
	if !known {
		return nil
	}
	delete(p.peers, name)
	var b batch
	p.dropRoutes(&old, &Peer{}, &b)
	p.drop(&old, &Peer{}, &b)
	return errors.Join(p.run(&b), p.dropTunnel(&old))
}

func (p *Plane) run(b *batch) error {
	if p.index == 0 || len(b.reqs) == 0 {
		return nil
	}
	if err := p.host.conn.run(b); err != nil {
		return fmt.Errorf("%s: %w", &p.device, err)
	}
	return nil
}

// put has a peer's entries wanted, and adds what is new to the batch, if any. The
// route comes last: until then nothing is sent that would not arrive.
func (p *Plane) put(peer *Peer, b *batch) {
	if p.device.Tunnel == nil {
		p.putVTEP(peer, b)
	}
	for _, dst := range peer.routed() {
		r := peer.route(p.index, dst, &p.device)
		if p.routes.put(dst, r, peer.Name) && b != nil {
			b.put("route", dst, peer.Name, r.Put())
		}
	}
}

// putVTEP has what VXLAN needs to know of a peer wanted.
func (p *Plane) putVTEP(peer *Peer, b *batch) {
	e := peer.fdbEntry(p.index)
	if p.fdb.put(e.MAC, e, peer.Name) && b != nil {
		b.put("FDB entry", e.MAC, peer.Name, e.Put())
	}
	for _, a := range peer.inners() {
		n := peer.neighbour(p.index, a)
		if p.neighbours.put(a, n, peer.Name) && b != nil {
			b.put("neighbour", a, peer.Name, n.Put())
		}
	}
}

// dropRoutes ends the want of the routes that a peer had and has no more.
func (p *Plane) dropRoutes(old, now *Peer, b *batch) {
	for _, dst := range old.Blocks {
		if !slices.Contains(now.routed(), dst) && p.routes.drop(dst, old.Name) {
			b.delete("route", dst, old.Name, old.route(p.index, dst, &p.device).Delete())
		}
	}
}

// drop ends the want of what leads to a peer, once no route leads there.
func (p *Plane) drop(old, now *Peer, b *batch) {
	if p.device.Tunnel != nil {
		return
	}
	keep := now.inners()
	for _, a := range old.inners() {
		if !slices.Contains(keep, a) && p.neighbours.drop(a, old.Name) {
			b.delete("neighbour", a, old.Name, old.neighbour(p.index, a).Delete())
		}
	}
	e := old.fdbEntry(p.index)
	if !slices.Equal(now.MAC, old.MAC) && p.fdb.drop(e.MAC, old.Name) {
		b.delete("FDB entry", e.MAC, old.Name, e.Delete())
	}
}

// Delete deletes the device and the routes of a network that is no more.
func (p *Plane) Delete() error {
	h := p.host
	h.mu.Lock()
	defer h.mu.Unlock()
	h.planes = slices.DeleteFunc(h.planes, func(o *Plane) bool { return o == p })
	l, err := h.conn.VXLAN(p.device.Name)
	if err != nil {
		return err
	}
	if l != nil && (l.IsVXLAN() || p.device.Tunnel != nil && slices.Contains(p.device.Tunnel.LinkKinds(), l.Kind)) {
		if err := h.conn.deleteLink(&l.Link); err != nil {
			return err
		}
	}
	p.index = 0
	_, err = h.dropUnreachable(func(s netip.Prefix) bool { return slices.Contains(p.device.Subnets, s) })
	return errors.Join(err, h.attach())
}
