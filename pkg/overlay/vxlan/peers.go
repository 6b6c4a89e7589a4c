package vxlan

import "iter"

// Peer returns the wanted peer of that name.
func (p *Plane) Peer(name string) (Peer, bool) {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	peer, ok := p.peers[name]
	return peer, ok
}

// Peers are all wanted peers, in no order. The plane must not be called meanwhile.
func (p *Plane) Peers() iter.Seq[Peer] {
	return func(yield func(Peer) bool) {
		p.host.mu.Lock()
		defer p.host.mu.Unlock()
		for _, peer := range p.peers {
			if !yield(peer) {
				return
			}
		}
	}
}

// Len is the number of wanted peers.
func (p *Plane) Len() int {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	return len(p.peers)
}

// Index is the device's interface index as of the last [Plane.Sync]; 0 when it was
// not made.
func (p *Plane) Index() int {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	return p.index
}
