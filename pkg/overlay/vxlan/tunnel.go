package vxlan

import (
	"net/netip"

	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"golang.org/x/sys/unix"
)

// Tunnel is a device that carries a network in VXLAN's place, and knows the peers by
// itself: there is neither an FDB nor a neighbour, and routes lead to the device. It is
// called with the host's lock held, by one at a time.
type Tunnel interface {
	// Kind is what errors call it: WireGuard.
	Kind() string
	// LinkKinds are those that its device can have (IFLA_INFO_KIND).
	LinkKinds() []string
	// Make makes the device, down. What is set of a link by route netlink (MTU, alias) is
	// its caller's.
	Make(name string, mtu int) error
	// Works tells whether a device of that name and kind is its own and can be configured.
	Works(name, kind string) bool
	// Sync brings the device's peers to these and no others, and tells how many it changed.
	// What is refused is the error; the rest is done.
	Sync(name string, peers []TunnelPeer) (int, error)
	// Put adds or changes one peer.
	Put(name string, peer TunnelPeer) error
	// Drop removes the peer of a key; nil when there is none.
	Drop(name string, key [32]byte) error
}

// TunnelPeer is a peer as its tunnel shall know it.
type TunnelPeer struct {
	Name     string
	Key      [32]byte
	Underlay netip.Addr
	// Blocks are what may come from the peer, and goes to it.
	Blocks []netip.Prefix
}

// tunnelPeer is the peer with those of its blocks that are wanted to be its own: of two
// peers who claim the same one the same has it as has the route.
func (p *Plane) tunnelPeer(peer *Peer) TunnelPeer {
	t := TunnelPeer{Name: peer.Name, Key: peer.Key, Underlay: peer.Underlay}
	if peer.Standby {
		t.Blocks = peer.Blocks
	}
	for _, b := range peer.routed() {
		if i := p.routes.items[b]; i != nil && i.peer == peer.Name {
			t.Blocks = append(t.Blocks, b)
		}
	}
	return t
}

// syncTunnel brings the tunnel's peers to what is wanted.
func (p *Plane) syncTunnel() (int, error) {
	all := make([]TunnelPeer, 0, len(p.peers))
	for _, peer := range p.peers {
		all = append(all, p.tunnelPeer(&peer))
	}
	return p.device.Tunnel.Sync(p.device.Name, all)
}

// putTunnel has the tunnel know a peer, before routes lead to it.
func (p *Plane) putTunnel(old, now *Peer) error {
	if p.device.Tunnel == nil || p.index == 0 {
		return nil
	}
	if old.Key != now.Key && old.Key != [32]byte{} {
		if err := p.device.Tunnel.Drop(p.device.Name, old.Key); err != nil {
			return err
		}
	}
	return p.device.Tunnel.Put(p.device.Name, p.tunnelPeer(now))
}

// dropTunnel has the tunnel forget a peer, to which no route leads any more.
func (p *Plane) dropTunnel(old *Peer) error {
	if p.device.Tunnel == nil || p.index == 0 {
		return nil
	}
	return p.device.Tunnel.Drop(p.device.Name, old.Key)
}

// toTunnel makes of a route to a peer one to the device alone.
func toTunnel(r rtnl.Route) rtnl.Route {
	r.Gateway, r.Onlink = netip.Addr{}, false
	if r.Dst.Addr().Is4() {
		r.Scope = unix.RT_SCOPE_LINK
	}
	return r
}

// links lists the devices of networks, of all kinds that the planes have or had.
func (c *conn) links(kinds ...string) ([]*rtnl.Link, error) {
	all, err := c.VXLANs()
	if err := readable(err); err != nil {
		return nil, err
	}
	links := make([]*rtnl.Link, 0, len(all))
	for _, l := range all {
		links = append(links, &l.Link)
	}
	for _, kind := range kinds {
		more, err := c.LinksOfKind(kind)
		if err := readable(err); err != nil {
			return nil, err
		}
		links = append(links, more...)
	}
	return links, nil
}
