package graph

import (
	"fmt"
	"slices"
)

// morePeers is the node of the other hosts that are left out.
const morePeers = "more:peers"

// MoreID is the ID of the node that stands for containers of a network that are left out, or
// could be.
func MoreID(network string) string { return "more:" + network }

// Fold leaves at most so many containers on a network, and so many other hosts; in
// place of the others is a node that counts them. A container of several networks is
// left out where its first one is, and who shares a namespace goes with its owner. Those
// that something is wrong with stay before others, and a host that is not reached always.
// Networks that are open, by the IDs of their nodes, stay whole, with a node that says so.
// 0 leaves all.
func (g *Graph) Fold(most int, open ...string) *Graph {
	if most <= 0 {
		return g
	}
	f := &folding{g: g, index: g.index(), most: most, wrong: map[string]bool{}, gone: map[string]bool{}, more: map[string]int{}, whole: map[string]bool{}}
	for _, n := range g.Nodes {
		f.wrong[n.ID] = len(n.Bad) > 0
	}
	for _, n := range g.of(Network) {
		f.containers(n, slices.Contains(open, n.ID))
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
	wrong map[string]bool // nodes that something is wrong with
	gone  map[string]bool
	more  map[string]int  // by network
	whole map[string]bool // networks that would be folded, and are open
	hosts int             // that are gone
}

// containers leaves out those that are drawn at a network, beyond the limit.
func (f *folding) containers(n *Node, open bool) {
	var drawn []*Edge
	room := f.most
	for _, e := range f.index.from[n.ID] {
		if f.index.to[e.To][0] == e {
			drawn = append(drawn, e)
		}
	}
	if open {
		f.whole[n.ID] = len(drawn) > f.most
		return
	}
	for _, wrong := range []bool{true, false} { // the former first
		for _, e := range drawn {
			if (len(e.Bad) > 0 || f.wrong[e.To]) != wrong {
				continue
			}
			if room--; room < 0 {
				f.gone[e.To] = true
			}
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
		title := fmt.Sprintf("and %d more", f.more[n.ID])
		if f.whole[n.ID] {
			title = fmt.Sprintf("show only %d", f.most)
		} else if f.more[n.ID] == 0 {
			continue
		}
		id := MoreID(n.ID)
		g.Nodes = append(g.Nodes, Node{ID: id, Kind: More, Title: title})
		g.Edges = append(g.Edges, Edge{From: n.ID, To: id, Way: f.index.from[n.ID][0].Way})
	}
	return g
}
