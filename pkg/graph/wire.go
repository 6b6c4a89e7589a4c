package graph

import (
	"fmt"
	"slices"
	"strings"
)

// hue is the class of what has the colour of a network.
func hue(what string, i int) string { return fmt.Sprintf("%s%d", what, i) }

// end is where an edge meets a container.
type end struct {
	edge *Edge
	tile *tile
	y    int
}

// ends are where a network's edges end.
func (l *layout) ends(network string) []end {
	var all []end
	for _, t := range l.containers {
		if t.node.Kind == More && len(l.index.from[network]) > 0 && slices.ContainsFunc(l.index.from[network], func(e *Edge) bool { return e.To == t.node.ID }) {
			all = append(all, end{nil, t, t.middle(0)})
		}
		for i, r := range t.rows {
			if r.edge != nil && r.edge.From == network && t.node.Kind != More {
				all = append(all, end{r.edge, t, t.middle(i)})
			}
		}
	}
	return all
}

// span is from the top to the bottom of a network's vertical line.
func span(start int, ends []end) (top, bottom int) {
	top, bottom = start, start
	for _, e := range ends {
		top, bottom = min(top, e.y), max(bottom, e.y)
	}
	return top, bottom
}

// spines is how many lanes the networks' vertical lines take.
func (l *layout) spines() int {
	var all lanes
	for _, n := range l.networks {
		all.take(span(n.middle(0), l.ends(n.node.ID)))
	}
	return len(all.ends)
}

// wires adds the lines.
func (l *layout) wires() {
	l.inside()
	l.routes()
	l.tunnels()
}

// inside are the lines between networks and containers: one down from the network,
// and from it one to each interface.
func (l *layout) inside() {
	var all lanes
	from, to := l.columns[2].x+l.columns[2].w, l.columns[3].x
	for _, n := range l.networks {
		ends := l.ends(n.node.ID)
		top, bottom := span(n.middle(0), ends)
		x := from + 2*lane + lane*all.take(top, bottom)
		if len(ends) == 0 {
			continue
		}
		stroke := hue("wire", n.hue)
		l.line(stroke, [2]int{from, n.middle(0)}, [2]int{x, n.middle(0)})
		if top != bottom {
			l.line(stroke, [2]int{x, top}, [2]int{x, bottom})
		}
		for _, e := range ends {
			class := stroke
			switch {
			case e.tile.node.Kind == More:
				class += " dashed"
			case e.tile.node.Kind == Foreign:
				class = "wire"
			case e.edge != nil && len(e.edge.Bad) > 0:
				class = "broken dashed"
			}
			l.line(class, [2]int{x, e.y}, [2]int{e.tile.x, e.y})
			if e.edge == nil {
				continue
			}
			l.boxes = append(l.boxes, box{e.tile.x - 3, e.y - 3, 6, 6, hue("fill", n.hue)})
			if e.edge.Label != "" {
				l.text(to-8-measure(e.edge.Label, small), e.y-4, small, wideText, "dim", e.edge.Label)
				if l.live && e.edge.Counted() {
					l.rates(to-8-l.labelRoom()-l.rateWidth(), [2]int{e.y - 4, e.y + 11}, e.edge.Label)
				}
			}
		}
	}
	for _, t := range l.containers {
		for _, e := range l.index.to[t.node.ID] {
			if e.Way == Shares && strings.HasPrefix(e.From, ContainerID("")) {
				owner := l.containers[slices.IndexFunc(l.containers, func(o *tile) bool { return o.node.ID == e.From })]
				x := owner.x + indent/2
				l.line("wire", [2]int{x, owner.y + owner.h}, [2]int{x, t.middle(0)}, [2]int{t.x, t.middle(0)})
			}
		}
	}
}

// routes are the lines between uplinks and networks.
func (l *layout) routes() {
	for i, u := range l.uplinks {
		x, y := u.x+u.w, u.middle(0)
		in := x + lane + lane*i
		for _, n := range l.networks {
			for _, e := range l.index.from[u.node.ID] {
				if e.To == n.node.ID {
					l.line("wire", [2]int{x, y}, [2]int{in, y}, [2]int{in, n.middle(0)}, [2]int{n.x, n.middle(0)})
				}
			}
		}
		if i == 0 {
			l.overlays(u)
		}
		if len(l.outer) > 0 && l.outer[0].node.Kind == Outside {
			o := l.outer[0]
			mid := o.x + o.w + lane
			l.line("wire", [2]int{o.x + o.w, o.middle(0)}, [2]int{mid, o.middle(0)}, [2]int{mid, y}, [2]int{u.x, y})
		}
	}
}

// overlays are the lines between the uplink and the networks that go on to others: one
// down from the uplink, and from it one to each.
func (l *layout) overlays(u *tile) {
	in, y := u.x+u.w+lane+lane*len(l.uplinks), u.middle(len(u.rows)-1)
	last := y
	for _, n := range l.networks {
		if slices.ContainsFunc(l.index.to[n.node.ID], func(e *Edge) bool { return e.Way == Tunnel }) {
			last = n.middle(len(n.rows) - 1)
			l.line(hue("wire", n.hue)+" dashed", [2]int{n.x, last}, [2]int{in, last})
		}
	}
	if last != y {
		l.line("wire dashed", [2]int{u.x + u.w, y}, [2]int{in, y}, [2]int{in, last})
	}
}

// tunnels are the lines to other hosts: one down from the uplink, and from it one to
// each.
func (l *layout) tunnels() {
	to, y := l.frame.x, margin+head
	if len(l.uplinks) > 0 {
		u := l.uplinks[0]
		to, y = u.x, u.middle(len(u.rows)-1)
	}
	mid, last := l.columns[0].x+l.columns[0].w+2*lane, 0
	for _, p := range l.outer {
		if p.node.Kind == Outside {
			continue
		}
		class := "wire dashed"
		for _, e := range l.index.from[p.node.ID] {
			if len(e.Bad) > 0 {
				class = "broken dashed"
			}
		}
		last = p.middle(0)
		l.line(class, [2]int{p.x + p.w, last}, [2]int{mid, last})
	}
	if last > 0 {
		l.line("wire dashed", [2]int{to, y}, [2]int{mid, y}, [2]int{mid, last})
	}
}
