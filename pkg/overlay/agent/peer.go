package agent

import (
	"net/netip"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/vxlan"
)

// pair is a node on a network: what a change of the store touches.
type pair struct{ network, node string }

type pairs map[pair]bool

func (p pairs) add(other pairs) {
	for k := range other {
		p[k] = true
	}
}

// touched returns the pairs that an update concerns, as the state is now.
func (a *Agent) touched(u overlay.Update) pairs {
	p := pairs{}
	if u.Full {
		return p
	}
	node := func(name string) {
		for _, network := range a.state.NetworksOf(name) {
			p[pair{network, name}] = true
		}
	}
	for _, n := range u.Nodes {
		was, known := a.state.Nodes[n.Name]
		was.Seen, was.Since, n.Seen, n.Since = time.Time{}, time.Time{}, time.Time{}, time.Time{}
		if !known || was != n { // else it was seen again, which is no news for the kernel
			node(n.Name)
		}
	}
	for _, name := range u.GoneNodes {
		node(name)
	}
	for _, b := range u.Blocks {
		was, ok := a.state.Blocks[b.Key()]
		if ok && was.Node == b.Node && was.Token == b.Token {
			continue // it is used by now, or not any more
		}
		p[pair{b.Network, b.Node}] = true
		if ok { // whose it was: the watch tells the last of several events
			p[pair{b.Network, was.Node}] = true
		}
	}
	for _, k := range u.GoneBlocks {
		if b, ok := a.state.Blocks[k]; ok {
			p[pair{b.Network, b.Node}] = true
		}
	}
	return p
}

// change follows an update that is not a full one. It costs what the update holds.
func (a *Agent) change(u overlay.Update, touched pairs) {
	whole := len(u.Networks)+len(u.GoneNetworks) > 0
	for p := range touched {
		whole = whole || p.node == a.id.Node && !a.ownsAsBefore(p.network)
	}
	if whole { // networks or blocks of our own: rare
		a.reconcile()
		return
	}
	for p := range touched {
		if p.node != a.id.Node {
			a.peer(p)
		}
	}
}

// ownsAsBefore tells whether what the store says of this host's part in a network is
// what the host goes by: that a block is used, or when the host was seen, changes
// nothing here.
func (a *Agent) ownsAsBefore(network string) bool {
	n := a.nets[network]
	return n != nil && !n.gone && len(n.local.Lost) == 0 && a.registered && a.state.Nodes[a.id.Node].Token == a.id.Token &&
		slices.Equal(n.local.Blocks, a.state.BlocksOf(network, a.id.Node))
}

// peer brings one peer of one network to what the state says.
func (a *Agent) peer(p pair) {
	n := a.nets[p.network]
	if n == nil || n.plane == nil || n.gone {
		return
	}
	a.count.peers++
	want, ok := a.peerOf(n, p.node, a.state.BlocksOf(p.network, p.node))
	var err error
	old, known := n.plane.Peer(p.node)
	moved := old.Underlay != want.Underlay || !slices.Equal(old.Blocks, want.Blocks)
	if ok && moved {
		a.fw.addPeer(n, want) // it may send as soon as it has the block
	}
	if ok {
		err = n.plane.SetPeer(want)
	} else {
		err = n.plane.RemovePeer(p.node)
	}
	if err != nil {
		a.Log.Error("program the kernel for a peer", "network", p.network, "node", p.node, "error", err)
	}
	a.syncAgain(n)
	if ok {
		a.probes.addPeer(n, want)
	} else {
		a.probes.removePeer(n, p.node)
	}
	if known && moved {
		a.fw.removePeer(n, old)
	}
	a.Log.Debug("peer", "network", p.network, "node", p.node, "address", want.Underlay, "blocks", want.Blocks)
}

// peers are all other nodes that own blocks of the network.
func (a *Agent) peers(n *network) []vxlan.Peer {
	var all []vxlan.Peer
	for node, blocks := range a.state.Owners(n.def().Name) {
		if p, ok := a.peerOf(n, node, blocks); ok {
			all = append(all, p)
		}
	}
	return all
}

// peerOf is what the kernel shall know of a node; false when that is nothing: it is
// this host, it has no block, or its underlay is of another family than ours.
func (a *Agent) peerOf(n *network, node string, blocks []netip.Prefix) (vxlan.Peer, bool) {
	def := n.def()
	owner := a.state.Nodes[node]
	blocks = slices.DeleteFunc(slices.Clone(blocks), func(b netip.Prefix) bool { return slices.Contains(n.local.Lost, b) })
	if node == a.id.Node || len(blocks) == 0 || owner.Address.Is4() != a.underlay.addr.Is4() || owner.Address == a.underlay.addr {
		return vxlan.Peer{}, false
	}
	if def.Encrypted && owner.PublicKey == "" {
		return vxlan.Peer{}, false
	}
	mtu := owner.MTU - def.Overhead(owner.Address)
	if mtu >= a.mtu(def) {
		mtu = 0
	}
	return vxlan.Peer{Name: node, Underlay: owner.Address, MAC: overlay.MAC(def.Name, node), Key: peerKey(&owner), Blocks: blocks, MTU: mtu}, true
}
