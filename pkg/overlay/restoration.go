package overlay

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Restoration is what a host gives back to a store that has lost it.
type Restoration struct {
	Networks []Network
	Nodes    []Node
	Blocks   []Block
	Removed  []Removal
	// Refused is what the store does not get, and why.
	Refused []error
}

// Empty tells whether there is nothing to give back.
func (r *Restoration) Empty() bool {
	return len(r.Networks)+len(r.Nodes)+len(r.Blocks)+len(r.Removed) == 0
}

// NewRestoration is what a store that has have lacks of what a host remembers. It gets
// nothing that either knows to be removed, and no network that is in the way of one
// that it has.
func NewRestoration(have, remembered *State) *Restoration {
	r := &Restoration{}
	have = have.without(remembered.Removed)
	for _, k := range slices.SortedFunc(maps.Keys(remembered.Removed), compareRemoval) {
		if _, ok := have.Removed[k]; !ok {
			r.Removed = append(r.Removed, remembered.Removed[k])
		}
	}
	networks := map[string]bool{} // that the store has, or gets
	for _, name := range slices.Sorted(maps.Keys(remembered.Networks)) {
		n := remembered.Networks[name]
		if there, ok := have.Networks[name]; ok && there.Same(&n) {
			networks[name] = true
		} else if err := refusal(have, remembered, &n); err != nil {
			r.Refused = append(r.Refused, fmt.Errorf("network %s: %w", name, err))
		} else {
			networks[name] = true
			r.Networks = append(r.Networks, n)
		}
	}
	tokens := map[string]string{} // of the nodes that the store has, or gets
	for name, n := range have.Nodes {
		tokens[name] = n.Token
	}
	for _, name := range slices.Sorted(maps.Keys(remembered.Nodes)) {
		n := remembered.Nodes[name]
		if _, there := tokens[name]; !there && !nodeRemoved(have, remembered, name, n.Token) {
			tokens[name] = n.Token
			r.Nodes = append(r.Nodes, n)
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(remembered.Blocks), compareBlock) {
		b := remembered.Blocks[k]
		if _, there := have.Blocks[k]; !there && networks[b.Network] && tokens[b.Node] == b.Token {
			r.Blocks = append(r.Blocks, b)
		}
	}
	return r
}

// without is the state as it is once removals have been carried out: a copy from before
// them may have what was removed, in the way of what came since.
func (s *State) without(removed map[RemovalKey]Removal) *State {
	u := Update{Full: true, Removed: slices.Collect(maps.Values(s.Removed))}
	for _, n := range s.Networks {
		if _, dead := removed[RemovalKey{ID: n.ID}]; !dead {
			u.Networks = append(u.Networks, n)
		}
	}
	for name, n := range s.Nodes {
		if _, dead := removed[RemovalKey{name, n.Token}]; !dead {
			u.Nodes = append(u.Nodes, n)
		}
	}
	for k, b := range s.Blocks {
		_, dead := removed[RemovalKey{b.Node, b.Token}]
		if n, ok := s.Networks[k.Network]; ok && !dead {
			_, dead = removed[RemovalKey{ID: n.ID}]
		}
		if !dead {
			u.Blocks = append(u.Blocks, b)
		}
	}
	rest := NewState()
	rest.Apply(u)
	return rest
}

func compareRemoval(a, b RemovalKey) int {
	return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.ID, b.ID))
}

func compareBlock(a, b BlockKey) int {
	return cmp.Or(cmp.Compare(a.Network, b.Network), comparePrefix(a.Prefix, b.Prefix))
}

// refusal is why the store does not get a network; nil when it does.
func refusal(have, remembered *State, n *Network) error {
	for _, s := range []*State{have, remembered} {
		if removed, ok := s.NetworkRemoved(n.ID); ok {
			return fmt.Errorf("was %s", removed)
		}
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(have.Networks)) {
		o := have.Networks[name]
		errs = append(errs, n.Conflict(&o))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("is in the way of one that the store has: %w", err)
	}
	return nil
}

func nodeRemoved(have, remembered *State, name, token string) bool {
	_, here := have.NodeRemoved(name, token)
	_, there := remembered.NodeRemoved(name, token)
	return here || there
}

// Only leaves a state's networks of those names, with their blocks and nodes, and what
// was removed. The error names those that it does not have.
func (s *State) Only(names []string) (*State, error) {
	u := Update{Full: true, Removed: slices.Collect(maps.Values(s.Removed))}
	var errs []error
	nodes := map[string]bool{}
	for _, name := range names {
		n, ok := s.Networks[name]
		if !ok {
			errs = append(errs, fmt.Errorf("network %s: this host remembers none of that name", name))
			continue
		}
		u.Networks = append(u.Networks, n)
		for k, b := range s.Blocks {
			if k.Network == name {
				u.Blocks = append(u.Blocks, b)
				nodes[b.Node] = true
			}
		}
	}
	for name := range nodes {
		if n, ok := s.Nodes[name]; ok {
			u.Nodes = append(u.Nodes, n)
		}
	}
	some := NewState()
	some.Apply(u)
	return some, errors.Join(errs...)
}
