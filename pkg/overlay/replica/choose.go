package replica

import (
	"maps"
	"slices"

	"github.com/berth-cni/berth/pkg/overlay"
)

// choose returns the network of a name that the host goes by: the store's; or the one
// before it, while that is lost, or was removed without force and has containers here.
func (r *Replica) choose(name string) (overlay.Network, bool) {
	was, had := r.State.Networks[name]
	now, has := r.store.Networks[name]
	if _, removed := r.removed[overlay.RemovalKey{ID: now.ID}]; removed {
		has = false // a copy of the store from before has it again
	}
	if !had || has && now.Same(&was) {
		return now, has
	}
	order, removed := r.Removal(&was)
	switch {
	case removed && (order.Forced || !r.holds(name)):
		return now, has
	case !removed && r.inTheWay(&was) && !r.holds(name):
		return now, has
	}
	was.Revision = 0 // before all that the store got since
	return was, true
}

// inTheWay tells whether a network that the store does not have is in the way of one
// that it has.
func (r *Replica) inTheWay(n *overlay.Network) bool {
	for _, o := range r.store.Networks {
		if _, removed := r.Removal(&o); !removed && n.Conflict(&o) != nil {
			return true
		}
	}
	return false
}

// isStores tells whether blocks that the store has of a network's name are of the
// network that the host goes by.
func (r *Replica) isStores(n *overlay.Network) bool {
	s, there := r.store.Networks[n.Name]
	return !there || s.Same(n)
}

// whole puts all that the host goes by into a full update.
func (r *Replica) whole(out *overlay.Update) {
	names := map[string]bool{}
	for _, all := range []*overlay.State{r.State, r.store} {
		for name := range all.Networks {
			names[name] = true
		}
	}
	stores, before := map[string]bool{}, map[string]bool{} // whose blocks count
	for name := range names {
		n, ok := r.choose(name)
		if !ok {
			continue
		}
		was, had := r.State.Networks[name]
		stores[name], before[name] = r.isStores(&n), had && was.Same(&n)
		out.Networks = append(out.Networks, n)
	}
	for name, n := range r.store.Nodes {
		if !r.nodeRemoved(name, n.Token) {
			out.Nodes = append(out.Nodes, n)
		}
	}
	for name, n := range r.State.Nodes {
		if _, there := r.storeNode(name); !there && r.keepsNode(&n) {
			out.Nodes = append(out.Nodes, n)
		}
	}
	for k, b := range r.store.Blocks {
		if known, here := stores[k.Network]; known || !here {
			out.Blocks = append(out.Blocks, b)
		}
	}
	for k, b := range r.State.Blocks {
		_, there := r.store.Blocks[k]
		if before[k.Network] && !(there && stores[k.Network]) && r.keepsBlock(&b) {
			out.Blocks = append(out.Blocks, b)
		}
	}
}

// storeNode is a node that the store has, and nobody has removed.
func (r *Replica) storeNode(name string) (overlay.Node, bool) {
	n, ok := r.store.Nodes[name]
	return n, ok && !r.nodeRemoved(name, n.Token)
}

// keepsNode tells whether a node that the store does not have is known further on.
func (r *Replica) keepsNode(n *overlay.Node) bool {
	return n.Name != r.node && !r.explicit && !r.nodeRemoved(n.Name, n.Token)
}

// keepsBlock tells whether a block that the store does not have is known further on,
// if its network is.
func (r *Replica) keepsBlock(b *overlay.Block) bool {
	owner, there := r.storeNode(b.Node)
	held := false
	if n, ok := r.State.Networks[b.Network]; ok {
		_, held = r.Removal(&n)
	}
	return b.Node != r.node && (!r.explicit || held) && !r.nodeRemoved(b.Node, b.Token) && !(there && owner.Token != b.Token)
}

// networks puts what becomes of networks into an update, with their blocks.
func (r *Replica) networks(out *overlay.Update, names map[string]bool) {
	for name, is := range names {
		if !is {
			continue
		}
		was, had := r.State.Networks[name]
		n, ok := r.choose(name)
		if ok {
			out.Networks = append(out.Networks, n)
		} else if had {
			out.GoneNetworks = append(out.GoneNetworks, name)
		}
		for k := range r.State.Blocks {
			if _, there := r.store.Blocks[k]; k.Network == name && !there && !n.Same(&was) {
				out.GoneBlocks = append(out.GoneBlocks, k)
			}
		}
		for k, b := range r.store.Blocks {
			if k.Network == name && ok && r.isStores(&n) {
				out.Blocks = append(out.Blocks, b)
			}
		}
	}
}

func (r *Replica) nodes(out *overlay.Update, u overlay.Update) {
	for _, n := range u.Nodes {
		if !r.nodeRemoved(n.Name, n.Token) {
			out.Nodes = append(out.Nodes, n)
		}
	}
	for _, name := range u.GoneNodes {
		if n, ok := r.State.Nodes[name]; !ok || !r.keepsNode(&n) {
			out.GoneNodes = append(out.GoneNodes, name)
		}
	}
	for _, x := range u.Removed {
		n, ok := r.State.Nodes[x.Node]
		if !ok || n.Token != x.ID {
			continue
		}
		if _, there := r.storeNode(x.Node); !there {
			out.GoneNodes = append(out.GoneNodes, x.Node)
		}
		for k, b := range r.State.Blocks {
			if _, there := r.store.Blocks[k]; !there && b.Node == x.Node && b.Token == x.ID {
				out.GoneBlocks = append(out.GoneBlocks, k)
			}
		}
	}
}

func (r *Replica) blocks(out *overlay.Update, u overlay.Update) {
	// By what the networks will be.
	next := maps.Clone(r.State.Networks)
	for _, name := range out.GoneNetworks {
		delete(next, name)
	}
	for _, n := range out.Networks {
		next[n.Name] = n
	}
	for _, b := range u.Blocks {
		if n, ok := next[b.Network]; !ok || r.isStores(&n) {
			out.Blocks = append(out.Blocks, b)
		}
	}
	for _, k := range u.GoneBlocks {
		b, known := r.State.Blocks[k]
		n, ok := next[k.Network]
		was := r.State.Networks[k.Network]
		if !known || !ok || !was.Same(&n) || !r.keepsBlock(&b) {
			out.GoneBlocks = append(out.GoneBlocks, k)
		}
	}
}

// Again returns what has changed since containers have left networks: those that were
// kept for them, or in whose way they were.
func (r *Replica) Again() overlay.Update {
	names := map[string]bool{}
	for name, n := range r.State.Networks {
		if s, there := r.store.Networks[name]; !there || !s.Same(&n) {
			names[name] = true
		} else if _, removed := r.Removal(&n); removed {
			names[name] = true
		}
	}
	var out overlay.Update
	r.networks(&out, names)
	out.Networks = slices.DeleteFunc(out.Networks, func(n overlay.Network) bool {
		was, had := r.State.Networks[n.Name]
		return had && was.Same(&n)
	})
	return out
}
