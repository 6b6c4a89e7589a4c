// Package graph is the picture of a host's networks: a [Graph] of nodes and edges,
// made from the records and from what the kernel has ([Build]), and two ways to draw
// it, as a tree of text ([Graph.Tree]) and as SVG ([Graph.SVG]).
//
// A picture says the same twice when nothing has changed: nothing in it depends on
// the time or on the order of a map.
package graph

import (
	"slices"
	"strings"
)

// Kind is what a node stands for.
type Kind string

// The kinds, from the outside to the inside.
const (
	Outside   Kind = "outside"   // what the uplink leads to
	Peer      Kind = "peer"      // another host of the overlay
	Host      Kind = "host"      // this one
	Uplink    Kind = "uplink"    // its interface of the default route
	Network   Kind = "network"   // with its bridge, or the parent of macvlan and ipvlan
	Container Kind = "container" // its namespace
	Foreign   Kind = "foreign"   // a port of a network's bridge that nobody has a record of
	More      Kind = "more"      // containers of a network that are left out
)

// Node is a box of the picture.
type Node struct {
	ID    string `json:"id"`
	Kind  Kind   `json:"kind"`
	Title string `json:"title"`
	// Note is a word or two beside the title: a driver, a short ID.
	Note  string   `json:"note,omitempty"`
	Facts []string `json:"facts,omitempty"`
	Ports []string `json:"ports,omitempty"` // published
	Bad   []string `json:"bad,omitempty"`   // what is wrong with it
}

// Way is what an edge stands for.
type Way string

// The ways.
const (
	Routed  Way = "routed"  // by the host: the uplink and a network
	Tunnel  Way = "tunnel"  // VXLAN: the uplink and another host
	Child   Way = "child"   // macvlan, ipvlan: the parent and a network, a network and a container
	Veth    Way = "veth"    // a pair of them: a bridge and a container
	Shares  Way = "shares"  // the namespace of another container, or of the host
	Without Way = "without" // a container without a network
	Port    Way = "port"    // of a bridge, somebody else's
)

// Edge is a line of the picture, from the outer node to the inner one.
type Edge struct {
	From string `json:"from"`
	To   string `json:"to"`
	Way  Way    `json:"way"`
	// Label is the name of the host's end of a pair.
	Label string `json:"label,omitempty"`
	// Interface is the container's, with its Addresses there.
	Interface string   `json:"interface,omitempty"`
	Addresses []string `json:"addresses,omitempty"`
	Names     []string `json:"names,omitempty"` // the container's on this network, beside the first
	Ports     []string `json:"ports,omitempty"` // published by this attachment
	// Reach says that another host is reached; empty when nobody has tried.
	Reach string   `json:"reach,omitempty"`
	Bad   []string `json:"bad,omitempty"`
}

// Graph is a host with its networks and containers. The order of nodes and edges is
// the one in which they are drawn.
type Graph struct {
	Nodes []Node `json:"nodes"`
	Edges []Edge `json:"edges"`
}

// node returns the node of an ID; nil when there is none.
func (g *Graph) node(id string) *Node {
	i := slices.IndexFunc(g.Nodes, func(n Node) bool { return n.ID == id })
	if i < 0 {
		return nil
	}
	return &g.Nodes[i]
}

// Clone is a copy that can be blamed by itself.
func (g *Graph) Clone() *Graph { return &Graph{slices.Clone(g.Nodes), g.Edges} }

// Blame adds to what is wrong with a node; false when there is none of the ID.
func (g *Graph) Blame(id, what string) bool {
	n := g.node(id)
	if n == nil {
		return false
	}
	n.Bad = append(slices.Clip(n.Bad), clean(what))
	return true
}

// HostID is the ID of the host's node.
const HostID = "host"

// NetworkID is the ID of a network's node.
func NetworkID(name string) string { return "network:" + name }

// ContainerID is the ID of a container's node.
func ContainerID(container string) string { return "container:" + container }

// of returns the nodes of a kind.
func (g *Graph) of(k Kind) []*Node {
	var all []*Node
	for i := range g.Nodes {
		if g.Nodes[i].Kind == k {
			all = append(all, &g.Nodes[i])
		}
	}
	return all
}

// index has the edges of a graph by their ends: a picture asks for them many times.
// Those that lead to a container are in the order of its interfaces; the first of them
// says which network it is drawn at.
type index struct{ from, to map[string][]*Edge }

func (g *Graph) index() index {
	x := index{map[string][]*Edge{}, map[string][]*Edge{}}
	for i := range g.Edges {
		e := &g.Edges[i]
		x.from[e.From] = append(x.from[e.From], e)
		x.to[e.To] = append(x.to[e.To], e)
	}
	for _, all := range x.to {
		slices.SortStableFunc(all, func(a, b *Edge) int { return strings.Compare(a.Interface, b.Interface) })
	}
	return x
}
