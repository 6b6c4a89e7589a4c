package graph

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Distances of the picture, in pixels, and the widths of texts, in cells.
const (
	margin = 16
	pad    = 10 // in a box
	gap    = 12 // between boxes of one column
	group  = 26 // between the containers of two networks
	lane   = 10 // between vertical lines
	head   = 52 // for the host's name and the columns' titles
	indent = 22 // of who shares a namespace

	wideText = 44
	liveBad  = 28 // what is wrong, on a page, which has it as a whole elsewhere
	listMost = 8  // ports of a box
)

// column is one of the four, from the outside to the containers.
type column struct{ x, w int }

// tile is a node as a box with its rows of text.
type tile struct {
	node   *Node
	x, y   int
	w, h   int
	class  string
	rows   []textRow
	indent int
	hue    int // of a network
}

type textRow struct {
	text, class string
	size        int
	most        int    // cells of the text; 0: wideText
	note        string // dim, behind the text
	edge        *Edge  // that ends at this row
	rate        string // what this row and the next one have the rate of, in place of a text
}

func (t *tile) add(class string, size int, texts ...string) {
	for _, s := range texts {
		t.rows = append(t.rows, textRow{text: s, class: class, size: size})
	}
}

// fit sets the tile's size to that of its texts.
func (t *tile) fit() {
	t.h = 2*pad - 4 + row*len(t.rows)
	for _, r := range t.rows {
		w := measure(cut(r.text, cmp.Or(r.most, wideText)), r.size)
		if r.rate != "" {
			w = measure(rateRoom[1], small)
		}
		if r.note != "" {
			w += pad + measure(cut(r.note, wideText), normal)
		}
		t.w = max(t.w, w+2*pad)
	}
}

// baseline is that of a row.
func (t *tile) baseline(i int) int { return t.y + pad + row*i + 10 }

// middle is the height at which a line meets a row.
func (t *tile) middle(i int) int { return t.baseline(i) - 4 }

// place moves tiles below each other, and returns where the next one may begin.
func place(y int, tiles ...*tile) int {
	for _, t := range tiles {
		t.y = y
		y += t.h + gap
	}
	return y
}

func widest(tiles []*tile) int {
	w := 0
	for _, t := range tiles {
		w = max(w, t.w+t.indent)
	}
	return w
}

// layout is a picture on its way.
type layout struct {
	drawing
	g     *Graph
	index index

	outer, uplinks, networks, containers []*tile
	columns                              [4]column
	hues                                 map[string]int // of networks
	frame                                box
}

// lay places everything of a graph; live leaves room for rates.
func (g *Graph) lay(live bool) *drawing {
	l := &layout{drawing: drawing{live: live}, g: g, index: g.index(), hues: map[string]int{}}
	l.tiles()
	l.rows()
	l.columnsX()
	l.draw()
	l.wires()
	return &l.drawing
}

// tiles makes the boxes of all nodes.
func (l *layout) tiles() {
	for _, n := range l.g.of(Outside) {
		l.outer = append(l.outer, l.tile(n, "box"))
	}
	for _, n := range l.g.of(Peer) {
		l.outer = append(l.outer, l.tile(n, "box"))
	}
	if n := l.g.node(morePeers); n != nil {
		l.outer = append(l.outer, l.tile(n, "box"))
	}
	for _, n := range l.g.of(Uplink) {
		l.uplinks = append(l.uplinks, l.tile(n, "box"))
	}
	for i, n := range l.g.of(Network) {
		l.hues[n.ID] = i % hueCount
		t := l.tile(n, "box")
		t.hue = i % hueCount
		l.networks = append(l.networks, t)
	}
}

const hueCount = 6

// tile is the box of a node: its title, its lines, and what is wrong with it.
func (l *layout) tile(n *Node, class string) *tile {
	t := &tile{node: n, class: class, hue: -1}
	size := normal
	titleClass := "title"
	if n.Kind == More || n.Kind == Foreign {
		titleClass = "dim"
		t.class = "fold"
	}
	t.rows = append(t.rows, textRow{text: n.Title, class: titleClass, size: size, note: n.Note})
	for _, e := range l.index.to[n.ID] {
		switch n.Kind {
		case Container:
			t.ends(e, l.live)
		case Foreign:
			t.rows[0].edge = e
		}
	}
	for _, e := range l.index.from[n.ID] {
		if n.Kind == Peer {
			t.peer(l.g.node(e.To).Title, e)
		}
	}
	t.add("", normal, n.Facts...)
	if l.live && (n.Kind == Uplink || n.Kind == Network && slices.ContainsFunc(l.index.from[n.ID], (*Edge).Counted)) {
		t.rows = append(t.rows, textRow{rate: n.ID}, textRow{})
	}
	ports := n.Ports
	if more := len(ports) - listMost; more > 1 {
		ports = append(slices.Clone(ports[:listMost]), fmt.Sprintf("and %d more", more))
	}
	t.add("port", normal, ports...)
	for _, b := range n.Bad {
		t.add("bad", normal, "! "+b)
		if l.live {
			t.rows[len(t.rows)-1].most = liveBad
		}
	}
	t.fit()
	return t
}

// Counted tells whether the host counts what passes: at its end of a pair.
func (e *Edge) Counted() bool { return e.Way == Veth && e.Label != "" }

// ends adds the rows of a container's interface. A rate takes the height of two.
func (t *tile) ends(e *Edge, live bool) {
	if live && t.rows[len(t.rows)-1].edge != nil {
		t.rows = append(t.rows, textRow{})
	}
	switch {
	case e.Way == Shares && e.Interface == "" && e.Label == "":
		if t.node.Kind == Container && len(e.From) > 0 && e.From[0] == 'c' {
			t.add("dim", normal, "shares the namespace")
		}
		t.rows[0].edge = e
	default:
		text := e.Interface
		if len(e.Addresses) > 0 {
			text += "  " + e.Addresses[0]
		}
		t.rows = append(t.rows, textRow{text: text, size: normal, edge: e})
		for _, more := range e.Addresses[min(1, len(e.Addresses)):] {
			t.add("", normal, fmt.Sprintf("%*s  %s", len(e.Interface), "", more))
		}
		if len(e.Names) > 0 {
			t.add("dim", normal, "as "+strings.Join(e.Names, ", "))
		}
	}
	for _, b := range e.Bad {
		t.add("bad", normal, "! "+b)
	}
}

// peer adds what another host has of a network.
func (t *tile) peer(network string, e *Edge) {
	t.rows = append(t.rows, textRow{text: network, note: e.Reach, size: normal})
	t.add("dim", normal, e.Addresses...)
	for _, b := range e.Bad {
		t.add("bad", normal, "! "+b)
	}
}
