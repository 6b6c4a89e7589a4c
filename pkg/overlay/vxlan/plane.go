package vxlan

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Plane is the wanted state of one network.
type Plane struct {
	host   *Host
	device Device
	index  int // of the device; 0 before it was made
	peers  map[string]Peer

	fdb        wanted[mac, remote]
	neighbours wanted[netip.Addr, neighbour]
	routes     wanted[netip.Prefix, hop]

	offloadOff bool // we switched checksum offload off
	told       bool // the watcher knows that the kernel differs
}

// SetDevice changes what is wanted of the device; [Plane.Sync] makes it so. The name
// stays.
func (p *Plane) SetDevice(d Device) error {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	if d.Name != p.device.Name {
		return fmt.Errorf("VXLAN device %s: cannot become %s", p.device.Name, d.Name)
	}
	return p.setDevice(d)
}

func (p *Plane) setDevice(d Device) error {
	if err := d.validate(); err != nil {
		return fmt.Errorf("VXLAN device %s: %w", d.Name, err)
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
	p.fdb, p.neighbours, p.routes = wanted[mac, remote]{}, wanted[netip.Addr, neighbour]{}, wanted[netip.Prefix, hop]{}
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
	return p.run(&b)
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
	return p.run(&b)
}

func (p *Plane) run(b *batch) error {
	if p.index == 0 || len(b.reqs) == 0 {
		return nil
	}
	if err := p.host.conn.run(b, nil); err != nil {
		return fmt.Errorf("VXLAN device %s: %w", p.device.Name, err)
	}
	return nil
}

// put has a peer's entries wanted, and adds what is new to the batch, if any. The
// route comes last: until then nothing is sent that would not arrive.
func (p *Plane) put(peer *Peer, b *batch) {
	m := mac(peer.MAC)
	to := remote{underlay: peer.Underlay, state: unix.NUD_PERMANENT}
	if p.fdb.put(m, to, peer.Name) && b != nil {
		b.putFDB(p.index, m, to, peer.Name)
	}
	for _, a := range peer.inners() {
		if p.neighbours.put(a, permanent(a, m), peer.Name) && b != nil {
			b.putNeighbour(p.index, a, m, peer.Name)
		}
	}
	for _, dst := range peer.Blocks {
		h := peer.hop(dst, &p.device)
		if p.routes.put(dst, h, peer.Name) && b != nil {
			b.putRoute(p.index, dst, h, peer.Name)
		}
	}
}

// dropRoutes ends the want of the routes that a peer had and has no more.
func (p *Plane) dropRoutes(old, now *Peer, b *batch) {
	for _, dst := range old.Blocks {
		if !slices.Contains(now.Blocks, dst) && p.routes.drop(dst, old.Name) {
			b.deleteRoute(p.index, ourRoute(p.index, dst, old.hop(dst, &p.device)), old.Name)
		}
	}
}

// drop ends the want of what leads to a peer, once no route leads there.
func (p *Plane) drop(old, now *Peer, b *batch) {
	keep := now.inners()
	for _, a := range old.inners() {
		if !slices.Contains(keep, a) && p.neighbours.drop(a, old.Name) {
			b.deleteNeighbour(p.index, a, old.Name)
		}
	}
	m := mac(old.MAC)
	if (now.MAC == nil || m != mac(now.MAC)) && p.fdb.drop(m, old.Name) {
		b.deleteFDB(p.index, m, old.Name)
	}
}

// Delete deletes the device and the routes of a network that is no more.
func (p *Plane) Delete() error {
	h := p.host
	h.mu.Lock()
	defer h.mu.Unlock()
	h.planes = slices.DeleteFunc(h.planes, func(o *Plane) bool { return o == p })
	l, err := h.conn.link(p.device.Name)
	if err != nil {
		return err
	}
	if l != nil && l.kind == vxlanKind {
		if err := h.conn.deleteLink(l.index, l.name); err != nil {
			return err
		}
	}
	p.index = 0
	_, err = h.dropUnreachable(func(s netip.Prefix) bool { return slices.Contains(p.device.Subnets, s) })
	return errors.Join(err, h.attach())
}
