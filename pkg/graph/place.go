package graph

import (
	"cmp"
	"fmt"
	"slices"
)

// rows places the tiles from top to bottom: containers beside the network that is
// their first, hosts below each other.
func (l *layout) rows() {
	top := margin + head
	place(top, l.outer...)
	place(top, l.uplinks...)
	y := top
	for _, n := range l.networks {
		below := place(y, n)
		inside := y
		for _, e := range l.index.from[n.node.ID] {
			if l.index.to[e.To][0] == e {
				inside = l.stack(inside, l.g.node(e.To), 0)
			}
		}
		y = max(below, inside) - gap + group
	}
}

// stack places a container, and below it those that share its namespace.
func (l *layout) stack(y int, n *Node, in int) int {
	t := l.tile(n, "box")
	t.indent = in
	l.containers = append(l.containers, t)
	y = place(y, t)
	for _, e := range l.index.from[n.ID] {
		y = l.stack(y-gap/2, l.g.node(e.To), in+indent)
	}
	return y
}

// columnsX places the columns from left to right, with room for the lines between
// them.
func (l *layout) columnsX() {
	x := margin
	for i, tiles := range [][]*tile{l.outer, l.uplinks, l.networks, l.containers} {
		c := &l.columns[i]
		if i == 1 {
			l.frame = box{x: x, y: margin, class: "frame"}
			x += margin
		}
		c.x, c.w = x, max(widest(tiles), measure(titles[i], small))
		if len(tiles) == 0 {
			c.w = 0
		}
		for _, t := range tiles {
			t.x = c.x + t.indent
			t.w = c.w - t.indent
			if t.node.Kind == More {
				t.w = measure(t.rows[0].text, normal) + 2*pad
			}
		}
		if c.w > 0 {
			x += c.w + l.gutter(i)
		}
	}
	bottom := margin + head
	for _, tiles := range [][]*tile{l.outer, l.uplinks, l.networks, l.containers} {
		for _, t := range tiles {
			bottom = max(bottom, t.y+t.h)
		}
	}
	title := measure(l.title(), big)
	if bad := l.trouble(); bad != "" {
		title += pad + measure(bad, normal)
	}
	l.frame.w = max(x+margin, l.frame.x+2*margin+title) - l.frame.x
	l.frame.h = bottom + margin - l.frame.y
	l.width, l.height = l.frame.x+l.frame.w+margin, l.frame.y+l.frame.h+margin
}

// titles are those of the columns.
var titles = [4]string{"", "uplink", "networks", "containers"}

func (l *layout) title() string {
	for _, n := range l.g.of(Host) {
		return cut(n.Title, wideText)
	}
	return ""
}

// trouble is what is wrong with the host itself: the first, and how many there are.
func (l *layout) trouble() string {
	bad := l.g.of(Host)[0].Bad
	switch len(bad) {
	case 0:
		return ""
	case 1:
		return "! " + cut(bad[0], wideText)
	}
	return fmt.Sprintf("! %s, and %d more", cut(bad[0], wideText), len(bad)-1)
}

// gutter is the room for lines behind a column.
func (l *layout) gutter(i int) int {
	switch i {
	case 0:
		return 4 * lane
	case 1:
		return (len(l.uplinks) + 3) * lane
	case 2:
		return (l.spines()+3)*lane + l.labelRoom() + l.rateWidth()
	}
	return 0
}

// labelRoom is the width of the widest name on a line.
func (l *layout) labelRoom() (room int) {
	for _, e := range l.g.Edges {
		room = max(room, measure(e.Label, small))
	}
	return room
}

// rateWidth is that of the rates on lines.
func (l *layout) rateWidth() int {
	if !l.live {
		return 0
	}
	return max(measure(rateRoom[0], small), measure(rateRoom[1], small)-l.labelRoom()) + pad
}

// draw adds the boxes and texts.
func (l *layout) draw() {
	l.boxes = append(l.boxes, l.frame)
	l.text(l.frame.x+margin, l.frame.y+22, big, wideText, "title", l.title())
	if bad := l.trouble(); bad != "" {
		l.text(l.frame.x+margin+measure(l.title(), big)+pad, l.frame.y+22, normal, 2*wideText, "bad", bad)
	}
	for i, c := range l.columns {
		if c.w > 0 && titles[i] != "" {
			l.text(c.x, margin+head-6, small, wideText, "dim", titles[i])
		}
	}
	for _, tiles := range [][]*tile{l.outer, l.uplinks, l.networks, l.containers} {
		for _, t := range tiles {
			l.drawTile(t)
		}
	}
}

// cutOff tells whether one of a container's interfaces is missing or down.
func (l *layout) cutOff(t *tile) bool {
	return t.node.Kind == Container && slices.ContainsFunc(l.index.to[t.node.ID], func(e *Edge) bool { return len(e.Bad) > 0 })
}

func (l *layout) drawTile(t *tile) {
	g := nodeGroup{node: t.node.ID, boxes: [2]int{len(l.boxes)}, texts: [2]int{len(l.texts)}}
	defer func() {
		g.boxes[1], g.texts[1] = len(l.boxes), len(l.texts)
		l.groups = append(l.groups, g)
	}()
	class := t.class
	if len(t.node.Bad) > 0 || l.cutOff(t) {
		class += " wrong"
	}
	l.boxes = append(l.boxes, box{t.x, t.y, t.w, t.h, class})
	if t.hue >= 0 {
		l.boxes = append(l.boxes, box{t.x, t.y, 4, t.h, hue("fill", t.hue)})
	}
	for i, r := range t.rows {
		switch {
		case r.rate != "":
			l.rates(t.x+pad, [2]int{t.baseline(i), t.baseline(i + 1)}, r.rate)
			continue
		case r.text == "":
			continue
		}
		l.text(t.x+pad, t.baseline(i), r.size, cmp.Or(r.most, wideText), r.class, r.text)
		if r.note != "" {
			l.text(t.x+2*pad+measure(cut(r.text, wideText), r.size), t.baseline(i), normal, wideText, "dim", r.note)
		}
	}
}
