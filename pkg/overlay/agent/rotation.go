package agent

import (
	"net/netip"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/vxlan"
	"github.com/berth-cni/berth/pkg/overlay/wireguard"
)

// A host's key is rotated without loss by a detour. WireGuard takes a block's packets from
// one key alone, so both keys are in use on two devices:
//
//  1. The host announces the next key. All hosts make a second device of each encrypted
//     network; the host's own has the next key.
//  2. Each host whose second device has shaken hands with another's sends to that one by
//     it, by routes to the halves of its blocks, which are better than those to the blocks.
//     It takes from both.
//  3. Once nobody sends by the first device any more, the host gives it the next key, and
//     announces that. Each host that has shaken hands by it takes back its routes.
//  4. Once nobody sends by the second device any more, the host ends the rotation, and all
//     delete it.
//
// A host that does not answer is waited for, as long as it is alive.

// detour is the second device of a network while keys are rotated.
type detour struct {
	plane  *vxlan.Plane
	tunnel *wireguard.Tunnel
	keys   map[string]wireguard.Key // of nodes on it
	since  map[string]time.Time     // when these were new
	over   map[string]bool          // nodes that are sent to by it
	heard  map[string]int64         // bytes from each node by the device that nobody is to use
}

const (
	rotationEvery = time.Second
	// rest is how long a step of a rotation has to hold before the next one: the store has
	// told everybody by then.
	rest = 3 * time.Second
	// lives is how old a session is at most: it is renewed every two minutes while the
	// keepalives go (REKEY_AFTER_TIME of the WireGuard paper, section 6.1).
	lives = 3 * time.Minute
	// idle is what comes with an empty packet, in bytes.
	idle = 32
)

// rotation is that of the host's own key.
type rotation struct {
	next      wireguard.Key // zero: none
	announced bool          // to the store, once no other host's is
	quiet     time.Time     // since when all hosts have made the step; zero: they have not
	polling   bool
}

// nextKey is what the store shall know; empty when there is none.
func (a *Agent) nextKey() string {
	if !a.rotation.announced {
		return ""
	}
	return a.rotation.next.Public().String()
}

// known tells whether the store knows of the host's own rotation.
func (r *rotation) known(a *Agent) bool {
	return r.next != wireguard.Key{} && a.state.Nodes[a.id.Node].NextKey == r.next.Public().String()
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

// rotate takes every rotation a step further, the host's own and others'.
func (a *Agent) rotate() {
	if !a.fresh || a.keyErr != nil {
		return
	}
	r := &a.rotation
	if r.next == (wireguard.Key{}) {
		var err error
		if r.next, r.announced, err = wireguard.LoadNext(a.DataDir); err != nil {
			a.Log.Error("rotate the host's key", "error", err)
			return
		}
	}
	a.announce()
	busy := r.next != wireguard.Key{}
	for _, name := range a.names() {
		if err := a.detour(a.nets[name]); err != nil {
			a.Log.Error("rotate keys", "network", name, "error", err)
		}
		busy = busy || a.nets[name].detour != nil
	}
	a.advance()
	if !busy || r.polling {
		return
	}
	r.polling = true
	a.workers.Go(func() {
		sleep(a.ctx, rotationEvery)
		a.do(a.ctx, func() { r.polling = false; a.rotate() })
	})
}

// announce has the store know the next key, one host at a time: a key that is in use on
// the second devices does not change.
func (a *Agent) announce() {
	r := &a.rotation
	if r.announced || !a.registered || r.next == (wireguard.Key{}) {
		return
	}
	for name, n := range a.state.Nodes {
		if n.NextKey != "" && name != a.id.Node {
			return
		}
	}
	if err := wireguard.Announce(a.DataDir); err != nil {
		a.Log.Error("rotate the host's key", "error", err)
		return
	}
	r.announced = true
	a.Log.Info("the host's key is rotated", "from", a.publicKey(), "to", a.nextKey())
	a.reregister()
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

// advance takes the rotation of the host's own key to its next step, once all have made
// this one.
func (a *Agent) advance() {
	r := &a.rotation
	if !r.known(a) {
		return
	}
	replaced := a.key == r.next
	if node := a.state.Nodes[a.id.Node]; replaced != returning(&node) {
		return // the store does not say so yet
	}
	if waits := a.waitsFor(replaced); waits != "" {
		a.Log.Debug("the rotation of the host's key waits", "node", waits, "replaced", replaced)
		r.quiet = time.Time{}
		return
	}
	if r.quiet.IsZero() {
		r.quiet = time.Now()
	}
	if time.Since(r.quiet) < rest {
		return
	}
	r.quiet = time.Time{}
	if replaced {
		if err := wireguard.EndRotation(a.DataDir); err != nil {
			a.Log.Error("end the rotation of the host's key", "error", err)
			return
		}
		r.next, r.announced = wireguard.Key{}, false
		a.Log.Info("the host's key was rotated", "key", a.publicKey())
	} else {
		if err := wireguard.Replace(a.DataDir, r.next); err != nil {
			a.Log.Error("replace the host's key", "error", err)
			return
		}
		a.key = r.next
	}
	a.reregister()
	a.reconcile()
}

// waitsFor is a node that has not made the step: it is not sent to by the device that is to
// be used, or still sends by the other one. Empty: there is none.
func (a *Agent) waitsFor(replaced bool) (waits string) {
	for _, name := range a.names() {
		n := a.nets[name]
		if n.detour == nil {
			continue
		}
		first, err := n.tunnel.Heard(n.def().Device())
		second, err2 := n.detour.tunnel.Heard(n.def().NextDevice())
		if err != nil || err2 != nil {
			return a.id.Node
		}
		for node, key := range n.detour.keys {
			of := a.state.Nodes[node]
			left := first[peerKey(&of)]
			_, alive := a.state.Alive[node]
			alive = alive || time.Since(left.Handshake) < lives
			if replaced {
				left = second[key]
			}
			more := left.Bytes-n.detour.heard[node] > idle
			n.detour.heard[node] = left.Bytes
			if alive && len(a.state.BlocksOf(name, node)) > 0 && (n.detour.over[node] == replaced || more) {
				waits = node
			}
		}
	}
	return waits
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
