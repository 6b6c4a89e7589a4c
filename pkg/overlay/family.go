package overlay

import (
	"cmp"
	"fmt"
	"net/netip"
)

// Family is a version of the Internet Protocol; 0 is none.
type Family int

// The families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// FamilyOf returns that of an address.
func FamilyOf(a netip.Addr) Family {
	switch {
	case a.Is4():
		return IPv4
	case a.IsValid():
		return IPv6
	}
	return 0
}

func (f Family) String() string {
	if f == 0 {
		return "no family"
	}
	return fmt.Sprintf("IPv%d", int(f))
}

// votes are how many nodes have an address of a family in their records, and how many of
// these live.
type votes struct{ nodes, living int }

// Family is the family of the underlay that the store's nodes agree on; 0 where there is
// no node. A VTEP reaches those of its own family alone.
//
// It is the one of most nodes' records. Of two that as many have it is the one of more
// living nodes, then IPv4. Every node finds the same in the same state. One that changes
// to it makes its majority larger, so that each changes once at most.
func (s *State) Family() Family {
	v4, v6 := s.families[IPv4], s.families[IPv6]
	switch c := cmp.Or(cmp.Compare(v4.nodes, v6.nodes), cmp.Compare(v4.living, v6.living)); {
	case v4.nodes+v6.nodes == 0:
		return 0
	case c < 0:
		return IPv6
	}
	return IPv4
}

// vote counts a node's vote, or with -1 takes it back: before and after what is known of
// the node changes.
func (s *State) vote(name string, n int) {
	node, known := s.Nodes[name]
	if !known {
		return
	}
	v := s.families[FamilyOf(node.Address)]
	v.nodes += n
	if _, lives := s.Alive[name]; lives {
		v.living += n
	}
	s.families[FamilyOf(node.Address)] = v
}
