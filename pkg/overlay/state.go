package overlay

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Update is a change of the store's state.
type Update struct {
	// Full says that this is all there is.
	Full     bool
	Networks []Network
	Nodes    []Node
	Blocks   []Block
	Alive    []Alive
	Left     []Left
	Missed   []Missed
	Removed  []Removal
	Names    []Name // of [Roster.WatchNames] alone

	GoneNetworks []string
	GoneNodes    []string
	GoneBlocks   []BlockKey
	GoneAlive    []string
	GoneLeft     []string
	GoneMissed   []string
	GoneRemoved  []RemovalKey // forgotten: see [RemovalAge]
	GoneNames    []NameKey    // of [Roster.WatchNames] alone
	GoneBad      []string     // keys

	// Bad is what the store holds and nobody can use, each with its key.
	Bad []BadKey
	// History is that of a store that has one. Of an update that is not full it has the
	// revision alone, or is empty.
	History History
	// Broken says of a full update why what was told before is no part of the store's
	// history, though its incarnation is the same.
	Broken error
	// Explicit says of a full update that what is not in it is removed: people write
	// the store by hand.
	Explicit bool
	// Err says that the store is away; the state is what was known before.
	Err error
}

// BadKey is foreign or broken data in the store.
type BadKey struct {
	Key string
	Err error
}

func (b BadKey) Error() string { return fmt.Sprintf("key %s: %v", b.Key, b.Err) }

// State is what the store holds, as far as it is valid.
type State struct {
	Networks map[string]Network
	Nodes    map[string]Node
	Blocks   map[BlockKey]Block
	Alive    map[string]Alive
	Left     map[string]Left   // by node, as Missed
	Missed   map[string]Missed // by node
	Removed  map[RemovalKey]Removal
	Bad      map[string]error // by key
	History  History

	byNode   map[string]map[BlockKey]bool
	families map[Family]votes
}

// NewState returns an empty state.
func NewState() *State {
	return &State{Networks: map[string]Network{}, Nodes: map[string]Node{}, Blocks: map[BlockKey]Block{}, Alive: map[string]Alive{},
		Left: map[string]Left{}, Missed: map[string]Missed{}, Removed: map[RemovalKey]Removal{}, Bad: map[string]error{}, byNode: map[string]map[BlockKey]bool{}, families: map[Family]votes{}}
}

// Apply brings the state up to date. It costs what the update holds.
func (s *State) Apply(u Update) {
	if u.Err != nil {
		return
	}
	if u.Full {
		*s = *NewState()
	}
	s.drop(u)
	for _, n := range u.Networks {
		s.Networks[n.Name] = n
	}
	for _, n := range u.Nodes {
		s.vote(n.Name, -1)
		s.Nodes[n.Name] = n
		s.vote(n.Name, 1)
	}
	for _, b := range u.Blocks {
		s.dropBlock(b.Key())
		s.Blocks[b.Key()] = b
		if s.byNode[b.Node] == nil {
			s.byNode[b.Node] = map[BlockKey]bool{}
		}
		s.byNode[b.Node][b.Key()] = true
	}
	for _, a := range u.Alive {
		s.vote(a.Node, -1)
		s.Alive[a.Node] = a
		s.vote(a.Node, 1)
	}
	for _, l := range u.Left {
		s.Left[l.Node] = l
	}
	for _, m := range u.Missed {
		s.Missed[m.Node] = m
	}
	for _, r := range u.Removed {
		s.Removed[r.Key()] = r
	}
	for _, b := range u.Bad {
		s.Bad[b.Key] = b.Err
	}
	s.History.follow(u.History)
}

// drop forgets what an update says to be gone.
func (s *State) drop(u Update) {
	for _, name := range u.GoneNetworks {
		delete(s.Networks, name)
	}
	for _, name := range u.GoneNodes {
		s.vote(name, -1)
		delete(s.Nodes, name)
	}
	for _, k := range u.GoneBlocks {
		s.dropBlock(k)
	}
	for _, name := range u.GoneAlive {
		s.vote(name, -1)
		delete(s.Alive, name)
		s.vote(name, 1)
	}
	for _, name := range u.GoneLeft {
		delete(s.Left, name)
	}
	for _, name := range u.GoneMissed {
		delete(s.Missed, name)
	}
	for _, k := range u.GoneRemoved {
		delete(s.Removed, k)
	}
	for _, key := range u.GoneBad {
		delete(s.Bad, key)
	}
}

func (s *State) dropBlock(k BlockKey) {
	old, ok := s.Blocks[k]
	if !ok {
		return
	}
	delete(s.Blocks, k)
	if delete(s.byNode[old.Node], k); len(s.byNode[old.Node]) == 0 {
		delete(s.byNode, old.Node)
	}
}

// BlocksOf returns the blocks of a node on a network, sorted: IPv4 first. Blocks
// that are none of the network's, or claimed by somebody who was not the node, are
// left out.
func (s *State) BlocksOf(network, node string) []netip.Prefix {
	n, ok := s.Networks[network]
	owner, known := s.Nodes[node]
	if !ok || !known {
		return nil
	}
	var all []netip.Prefix
	for k := range s.byNode[node] {
		if k.Network == network && n.Contains(k.Prefix) && s.Blocks[k].Token == owner.Token {
			all = append(all, k.Prefix)
		}
	}
	slices.SortFunc(all, comparePrefix)
	return all
}

// Owners returns the blocks of every node that owns some of the network, as
// [State.BlocksOf] has them.
func (s *State) Owners(network string) map[string][]netip.Prefix {
	all := map[string][]netip.Prefix{}
	for node := range s.byNode {
		if blocks := s.BlocksOf(network, node); len(blocks) > 0 {
			all[node] = blocks
		}
	}
	return all
}

// NetworksOf returns the networks that a node owns blocks of.
func (s *State) NetworksOf(node string) []string {
	var all []string
	for k := range s.byNode[node] {
		if !slices.Contains(all, k.Network) {
			all = append(all, k.Network)
		}
	}
	return all
}

func comparePrefix(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 { // sorts IPv4 before IPv6
		return c
	}
	return a.Bits() - b.Bits()
}

// Taken tells for each block of a network whether somebody owns it.
func (s *State) Taken(network string) func(netip.Prefix) bool {
	return func(p netip.Prefix) bool {
		_, taken := s.Blocks[BlockKey{network, p}]
		return taken
	}
}

// Conflicts returns the networks that are in another's way, which only a store that
// was written by hand can have: the one that the store got later loses.
func (s *State) Conflicts() map[string]error {
	bad := map[string]error{}
	var kept []Network
	byAge := slices.SortedFunc(maps.Values(s.Networks), func(a, b Network) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), a.Created.Compare(b.Created), strings.Compare(a.Name, b.Name))
	})
	for _, n := range byAge {
		var errs []error
		for _, o := range kept {
			if err := n.Conflict(&o); err != nil {
				errs = append(errs, err)
			}
		}
		if err := errors.Join(errs...); err != nil {
			bad[n.Name] = err
			continue
		}
		kept = append(kept, n)
	}
	return bad
}
