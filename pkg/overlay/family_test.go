package overlay

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
)

// voter is a node with an address of a family.
func voter(name string, f Family) Node {
	n := Node{Name: name, Token: "t", Address: netip.MustParseAddr("192.0.2.1"), MTU: 1500}
	if f == IPv6 {
		n.Address = netip.MustParseAddr("2001:db8::1")
	}
	return n
}

func TestFamily(t *testing.T) {
	for _, c := range []struct {
		nodes string // 4 and 6 live; a and b are such that do not
		want  Family
	}{
		{"", 0}, {"4", IPv4}, {"6", IPv6}, {"b", IPv6}, {"46", IPv4}, {"466", IPv6}, {"446", IPv4},
		{"a6", IPv6}, {"4b", IPv4}, {"ab", IPv4}, {"aa6", IPv4}, {"46ab", IPv4}, {"a6bb", IPv6},
	} {
		s := NewState()
		for i, kind := range c.nodes {
			name := fmt.Sprint("n", i)
			f := IPv4
			if strings.ContainsRune("6b", kind) {
				f = IPv6
			}
			u := Update{Nodes: []Node{voter(name, f)}}
			if strings.ContainsRune("46", kind) {
				u.Alive = []Alive{{Node: name}}
			}
			s.Apply(u)
		}
		if got := s.Family(); got != c.want {
			t.Errorf("%q: %s, want %s", c.nodes, got, c.want)
		}
	}
}

// What is counted at each change is what a count of everything finds.
func TestFamilyCount(t *testing.T) {
	s := NewState()
	for range 2000 {
		name := fmt.Sprint("n", rand.N(6))
		switch rand.N(5) {
		case 0:
			s.Apply(Update{Nodes: []Node{voter(name, IPv4)}})
		case 1:
			s.Apply(Update{Nodes: []Node{voter(name, IPv6)}})
		case 2:
			s.Apply(Update{GoneNodes: []string{name}})
		case 3:
			s.Apply(Update{Alive: []Alive{{Node: name}}})
		case 4:
			s.Apply(Update{GoneAlive: []string{name}})
		}
		for _, f := range []Family{IPv4, IPv6} {
			var want votes
			for name, n := range s.Nodes {
				if FamilyOf(n.Address) != f {
					continue
				}
				want.nodes++
				if _, lives := s.Alive[name]; lives {
					want.living++
				}
			}
			if got := s.families[f]; got != want {
				t.Fatalf("%s: counted %+v, there are %+v", f, got, want)
			}
		}
	}
}

// Hosts of both families that follow what the store says come to rest, whatever they
// started from and in whatever order they look: each has moved once at most.
func TestFamilyRests(t *testing.T) {
	for range 500 {
		s := NewState()
		both := map[string]bool{}
		for i := range 1 + rand.N(9) {
			name := fmt.Sprint("n", i)
			s.Apply(Update{Nodes: []Node{voter(name, []Family{IPv4, IPv6}[rand.N(2)])}})
			if rand.N(3) > 0 {
				s.Apply(Update{Alive: []Alive{{Node: name}}})
				both[name] = rand.N(3) > 0
			}
		}
		moved := map[string]int{}
		for range 100 {
			name := fmt.Sprint("n", rand.N(len(s.Nodes)))
			n := s.Nodes[name]
			if want := s.Family(); both[name] && FamilyOf(n.Address) != want {
				moved[name]++
				s.Apply(Update{Nodes: []Node{voter(name, want)}})
			}
		}
		for name, n := range moved {
			if n > 1 {
				t.Fatalf("%s moved %d times", name, n)
			}
		}
	}
}
