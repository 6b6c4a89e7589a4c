package agent

import (
	"net/netip"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/vxlan"
	"github.com/berth-cni/berth/pkg/overlay/wireguard"
)

// detour is the second device of a network while keys are rotated.
type detour struct {
	plane  *vxlan.Plane
	tunnel *wireguard.Tunnel
	keys   map[string]wireguard.Key // of nodes on it
	since  map[string]time.Time     // when these were new
	over   map[string]bool          // nodes that are sent to by it
	heard  map[string]int64         // bytes from each node by the device that nobody is to use
}

// returning tells whether a key has been replaced, or is not rotated.
func returning(n *overlay.Node) bool { return n.NextKey == "" || n.NextKey == n.PublicKey }

// secondKey is a node's on the second devices.
func secondKey(n *overlay.Node) wireguard.Key {
	if n.NextKey == "" {
		return peerKey(n)
	}
	k, _ := wireguard.ParseKey(n.NextKey)
	return k
}

// detour makes the second device of a network as it has to be, or deletes it.
func (a *Agent) detour(n *network) error {
	peers := a.detoured(n)
	if len(peers) == 0 {
		return a.endDetour(n)
	}
	def := n.def()
	made := n.detour == nil
	if made {
		n.detour = &detour{tunnel: &wireguard.Tunnel{Command: a.WireGuard}, keys: map[string]wireguard.Key{},
			since: map[string]time.Time{}, over: map[string]bool{}, heard: map[string]int64{}}
	}
	d := n.detour
	key := a.key
	if a.rotation.known(a) {
		key = a.rotation.next
	}
	preshared, err := wireguard.LoadPreshared(a.DataDir, def.Name)
	if err != nil {
		return err
	}
	d.tunnel.Set(key, preshared, def.NextPort())
	device := a.device(n)
	device.Name, device.Tunnel, device.NoChecksumOffload = def.NextDevice(), d.tunnel, false
	if made {
		d.plane, err = a.host.Plane(device)
	} else {
		err = d.plane.SetDevice(device)
	}
	if err != nil {
		return err
	}
	a.decide(n, peers, made)
	for i := range peers {
		p := &peers[i]
		p.Key, p.Standby, p.Blocks = d.keys[p.Name], !d.over[p.Name], halves(p.Blocks)
	}
	if err := d.plane.SetPeers(peers); err != nil {
		return err
	}
	_, err = d.plane.Sync()
	if made {
		a.fw.sync()
	}
	return err
}

// detoured are the peers that keys are rotated with.
func (a *Agent) detoured(n *network) (peers []vxlan.Peer) {
	if !n.def().Encrypted || n.plane == nil || n.gone {
		return nil
	}
	own := a.rotation.known(a)
	for _, p := range a.peers(n) {
		if own || a.state.Nodes[p.Name].NextKey != "" {
			peers = append(peers, p)
		}
	}
	return peers
}

func (a *Agent) endDetour(n *network) error {
	if n.detour == nil {
		return nil
	}
	d := n.detour
	n.detour = nil
	if d.plane == nil {
		return nil
	}
	err := d.plane.Delete()
	a.fw.sync()
	return err
}

// dropDetour is endDetour of a network that goes.
func (a *Agent) dropDetour(n *network) {
	if err := a.endDetour(n); err != nil {
		a.Log.Error("remove the second WireGuard device", "network", n.def().Name, "error", err)
	}
}

// decide says which peers are sent to by the second device. An agent that starts again
// finds out what the one before it had decided: made says that this one has not yet.
func (a *Agent) decide(n *network, peers []vxlan.Peer, made bool) {
	d := n.detour
	first, _ := n.tunnel.Heard(n.def().Device())
	second, _ := d.tunnel.Heard(n.def().NextDevice()) // none before it is there
	own := !a.rotation.known(a) || a.key == a.rotation.next
	for i := range peers {
		name := peers[i].Name
		node := a.state.Nodes[name]
		key := secondKey(&node)
		if d.keys[name] != key {
			d.keys[name], d.since[name] = key, time.Now()
			if made && second != nil {
				d.since[name] = time.Time{}
				d.over[name] = !second[key].Handshake.IsZero()
			}
		}
		was, back := d.over[name], own && returning(&node)
		switch {
		case back && !first[peerKey(&node)].Handshake.IsZero():
			d.over[name] = false
		case !back && !second[key].Handshake.IsZero() && time.Since(d.since[name]) >= rest:
			d.over[name] = true
		}
		if d.over[name] != was || made {
			a.Log.Info("keys are rotated", "network", n.def().Name, "node", name, "by second device", d.over[name])
		}
	}
}

// halves are the two of each block: routes to them are better than one to the block.
func halves(blocks []netip.Prefix) []netip.Prefix {
	all := make([]netip.Prefix, 0, 2*len(blocks))
	for _, b := range blocks {
		bits := b.Bits() + 1
		upper := b.Addr().AsSlice()
		upper[b.Bits()/8] |= 0x80 >> (b.Bits() % 8)
		addr, _ := netip.AddrFromSlice(upper)
		all = append(all, netip.PrefixFrom(b.Addr(), bits), netip.PrefixFrom(addr, bits))
	}
	return all
}
