package graph

import "fmt"

// morePeers is the node of the other hosts that are left out.
const morePeers = "more:peers"

// Fold leaves at most so many containers on a network, and so many other hosts; in
// place of the others is a node that counts them. A container of several networks is
// left out where its first one is, who shares a namespace goes with its owner, and a
// host that is not reached stays. 0 leaves all.
func (g *Graph) Fold(most int) *Graph {
	if most <= 0 {
		return g
	}
	f := &folding{g: g, index: g.index(), most: most, gone: map[string]bool{}, more: map[string]int{}}
	for _, n := range g.of(Network) {
		f.containers(n)
	}
	for _, e := range g.Edges {
		switch {
		case f.gone[e.From]: // shares its namespace
			f.gone[e.To] = true
			f.more[f.index.to[e.From][0].From]++
		case f.gone[e.To]:
			f.more[e.From]++
		}
	}
	f.peers()
	return f.folded()
}

// folding is a graph that is being folded.
type folding struct {
	g     *Graph
	index index
	most  int
	gone  map[string]bool
	more  map[string]int // by network
	hosts int            // that are gone
}

// containers leaves out those that are drawn at a network, beyond the limit.
func (f *folding) containers(n *Node) {
	shown := 0
	for _, e := range f.index.from[n.ID] {
		if f.index.to[e.To][0] != e {
			continue
		}
		if shown++; shown > f.most {
			f.gone[e.To] = true
		}
	}
}

func (f *folding) peers() {
	shown := 0
	for _, n := range f.g.of(Peer) {
		bad := false
		for _, e := range f.index.from[n.ID] {
			bad = bad || len(e.Bad) > 0
		}
		if !bad && shown >= f.most {
			f.gone[n.ID] = true
			f.hosts++
			continue
		}
		shown++
	}
}

// folded is the graph without what is gone.
func (f *folding) folded() *Graph {
	g := &Graph{}
	for _, n := range f.g.Nodes {
		if !f.gone[n.ID] {
			g.Nodes = append(g.Nodes, n)
		}
	}
	hosts := map[string]bool{}
	for _, e := range f.g.Edges {
		switch {
		case f.gone[e.From] && e.Way == Tunnel && !hosts[e.To]:
			hosts[e.To] = true
			g.Edges = append(g.Edges, Edge{From: morePeers, To: e.To, Way: Tunnel, Label: e.Label})
		case !f.gone[e.From] && !f.gone[e.To]:
			g.Edges = append(g.Edges, e)
		}
	}
	if f.hosts > 0 {
		g.Nodes = append(g.Nodes, Node{ID: morePeers, Kind: More, Title: fmt.Sprintf("and %d more hosts", f.hosts)})
	}
	for _, n := range f.g.of(Network) {
		if f.more[n.ID] > 0 {
			id := "more:" + n.ID
			g.Nodes = append(g.Nodes, Node{ID: id, Kind: More, Title: fmt.Sprintf("and %d more", f.more[n.ID])})
			g.Edges = append(g.Edges, Edge{From: n.ID, To: id, Way: f.index.from[n.ID][0].Way})
		}
	}
	return g
}
