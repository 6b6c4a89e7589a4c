package roster

import (
	"github.com/berth-cni/berth/pkg/overlay"
)

// Learn judges anew the names that a change of the overlay's state is about: as the
// agent tells of it, which keeps what the store has lost. A watch of the roster's own
// would be a second one of everything, on every host.
func (r *Roster) Learn(u overlay.Update) {
	r.mu.Lock()
	defer r.mu.Unlock()
	lives := u.Full || r.away // the store is there again
	again := false
	for _, a := range u.Alive {
		again = again || a.Node == r.Node
	}
	lives = lives || again
	if r.away = u.Err != nil; r.away {
		return
	}
	if lives {
		signal(r.again)
	}
	if again && !u.Full { // under another lease: the names would go with the one before
		for k := range r.wanted {
			r.renew(k)
		}
	}
	nodes := r.about(u)
	r.state.Apply(u)
	for _, n := range r.networks {
		for node, all := range n.nodes {
			if u.Full || nodes[node] || concerns(u, n.name) {
				for _, k := range all {
					r.show(k)
				}
			}
		}
	}
	if u.Full || len(u.Networks)+len(u.GoneNetworks) > 0 {
		for _, e := range r.Directory.Local() {
			r.changes.add(e.Key)
		}
	}
}

// about is the nodes whose blocks an update may change; it has not been applied yet.
func (r *Roster) about(u overlay.Update) map[string]bool {
	nodes := map[string]bool{}
	for _, n := range u.Nodes {
		nodes[n.Name] = true
	}
	for _, name := range u.GoneNodes {
		nodes[name] = true
	}
	for _, b := range u.Blocks {
		nodes[b.Node], nodes[r.state.Blocks[b.Key()].Node] = true, true
	}
	for _, k := range u.GoneBlocks {
		nodes[r.state.Blocks[k].Node] = true
	}
	return nodes
}

// concerns tells whether an update is about the network itself.
func concerns(u overlay.Update, network string) bool {
	for _, n := range u.Networks {
		if n.Name == network {
			return true
		}
	}
	for _, name := range u.GoneNetworks {
		if name == network {
			return true
		}
	}
	return false
}
