// Package replica is a host's copy of the overlay's store. It outlives the store: what
// the store has lost (it came back empty, or from a backup, or is another one) stays
// known, and is used, until somebody has ordered its removal ([overlay.Removal]).
package replica

import (
	"maps"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
)

// Replica is the copy of one host. It is for one goroutine.
type Replica struct {
	// State is what the host goes by: what the store has, and what it has lost. It is
	// brought up to date by whoever calls Take.
	State *overlay.State
	// Broken is why the store's history is not the one before, and since when that is
	// known; nil while it is, and again when the store has all that it had.
	Broken *Broken

	node     string
	holds    func(network string) bool
	store    *overlay.State // what the store has
	removed  map[overlay.RemovalKey]overlay.Removal
	history  overlay.History
	explicit bool      // people write the store by hand
	at       time.Time // of the last full update
}

// Broken is a break in the history of a store.
type Broken struct {
	Why   string    `json:"why"`
	Since time.Time `json:"since"`
}

// New returns an empty replica of a node. holds tells whether containers of this host
// are attached to a network.
func New(node string, holds func(network string) bool) *Replica {
	return &Replica{State: overlay.NewState(), node: node, holds: holds, store: overlay.NewState(), removed: map[overlay.RemovalKey]overlay.Removal{}}
}

// Take returns what of the store's update changes what the host goes by.
func (r *Replica) Take(u overlay.Update) overlay.Update {
	if u.Err != nil {
		return u
	}
	if u.Full {
		r.begin(u)
	}
	r.store.Apply(u)
	r.history = r.store.History
	for _, x := range u.Removed {
		r.removed[x.Key()] = x
	}
	r.forget()
	out := overlay.Update{Full: u.Full, Alive: u.Alive, GoneAlive: u.GoneAlive, Missed: u.Missed, GoneMissed: u.GoneMissed,
		Removed: u.Removed, Bad: u.Bad, GoneBad: u.GoneBad, History: u.History}
	if u.Full {
		out.Removed = slices.Collect(maps.Values(r.removed))
		r.whole(&out)
		return out
	}
	names := map[string]bool{}
	for _, n := range u.Networks {
		names[n.Name] = true
	}
	for _, name := range u.GoneNetworks {
		names[name] = true
	}
	for _, x := range u.Removed {
		names[x.Network] = x.Network != ""
	}
	r.networks(&out, names)
	r.nodes(&out, u)
	r.blocks(&out, u)
	return out
}

// begin compares the history of a store that was read as a whole with the one before.
func (r *Replica) begin(u overlay.Update) {
	r.explicit, r.at = u.Explicit, time.Now()
	err := u.Broken
	if err == nil && u.History != (overlay.History{}) {
		err = u.History.Continues(r.history)
	}
	if err != nil {
		r.Broken = &Broken{err.Error(), r.at}
	}
}

// forget keeps what is remembered of removals within bounds.
func (r *Replica) forget() {
	if len(r.removed) > overlay.MostRemovals {
		for _, x := range overlay.OldRemovals(slices.Collect(maps.Values(r.removed)), time.Now()) {
			delete(r.removed, x.Key())
			delete(r.State.Removed, x.Key())
		}
	}
}

// Removal returns the order to remove a network, if there is one.
func (r *Replica) Removal(n *overlay.Network) (overlay.Removal, bool) {
	x, ok := r.removed[overlay.RemovalKey{ID: n.ID}]
	if !ok && r.explicit && !r.Has(n) {
		return overlay.Removal{Network: n.Name, ID: n.ID, By: "the author of the store's file", At: r.at}, true
	}
	return x, ok
}

// Has tells whether the store has a network.
func (r *Replica) Has(n *overlay.Network) bool {
	s, ok := r.store.Networks[n.Name]
	return ok && s.Same(n)
}

func (r *Replica) nodeRemoved(name, token string) bool {
	_, ok := r.removed[overlay.RemovalKey{Node: name, ID: token}]
	return ok
}

// Lost is what the store does not have, though nobody has removed it. What is the
// host's own it claims again by itself.
type Lost struct {
	Networks []overlay.Network // sorted by name
	Nodes    []string          // sorted
	Blocks   int
}

// Empty tells whether nothing is lost.
func (l *Lost) Empty() bool { return len(l.Networks)+len(l.Nodes)+l.Blocks == 0 }

// Lost costs the size of the state.
func (r *Replica) Lost() *Lost {
	l := &Lost{}
	for _, name := range slices.Sorted(maps.Keys(r.State.Networks)) {
		n := r.State.Networks[name]
		if _, removed := r.Removal(&n); !removed && !r.Has(&n) {
			l.Networks = append(l.Networks, n)
		}
	}
	for name := range r.State.Nodes {
		if _, there := r.store.Nodes[name]; !there && name != r.node {
			l.Nodes = append(l.Nodes, name)
		}
	}
	slices.Sort(l.Nodes)
	for k, b := range r.State.Blocks {
		n := r.State.Networks[k.Network]
		if _, removed := r.Removal(&n); removed || b.Node == r.node {
			continue
		}
		if _, there := r.store.Blocks[k]; !there {
			l.Blocks++
		}
	}
	return l
}

// Returned are removals that the store does not have, of networks and nodes that it
// has: a copy from before.
func (r *Replica) Returned() []overlay.Removal {
	var all []overlay.Removal
	add := func(k overlay.RemovalKey) {
		if x, ok := r.removed[k]; ok {
			if _, there := r.store.Removed[k]; !there {
				all = append(all, x)
			}
		}
	}
	for _, n := range r.store.Networks {
		add(overlay.RemovalKey{ID: n.ID})
	}
	for _, n := range r.store.Nodes {
		add(overlay.RemovalKey{Node: n.Name, ID: n.Token})
	}
	return all
}
