package graph

import (
	"bufio"
	"io"
	"slices"
	"strings"
)

// TreeOptions are how a tree is written.
type TreeOptions struct {
	ASCII   bool // no other characters, but those of names
	Colours bool // of a terminal (ECMA-48, SGR)
}

// Tree writes the picture as a tree: the host, its networks, their containers and the
// hosts that they go on to.
func (g *Graph) Tree(w io.Writer, o TreeOptions) error {
	t := &tree{Writer: bufio.NewWriter(w), g: g, index: g.index(), pens: colourless}
	if o.Colours {
		t.pens = coloured
	}
	t.glyphs = boxes
	if o.ASCII {
		t.glyphs = ascii
	}
	for _, n := range g.of(Host) {
		t.line("", append(t.title(n), t.wrong(n.Bad)...))
	}
	var rows []branch
	for _, n := range g.of(Uplink) {
		rows = append(rows, branch{node: n})
	}
	for _, n := range g.of(Network) {
		rows = append(rows, branch{node: n})
	}
	t.branches("", rows)
	return t.Flush()
}

// glyphs are what the lines are made of; replace is for those in texts.
type glyphs struct {
	tee, end, bar, wire, tunnel string
	replace                     *strings.Replacer
}

var (
	boxes = glyphs{"├─ ", "└─ ", "│  ", "──", "≈≈", strings.NewReplacer()}
	ascii = glyphs{"|- ", "`- ", "|  ", "--", "~~", strings.NewReplacer("→", "->", "…", "...")}
)

// pens switch colours on; off switches them off.
type pens struct{ title, network, dim, port, bad, off string }

var (
	colourless = pens{}
	coloured   = pens{"\x1b[1m", "\x1b[1;36m", "\x1b[2m", "\x1b[33m", "\x1b[1;31m", "\x1b[0m"}
)

// tree is one that is being written.
type tree struct {
	*bufio.Writer
	glyphs
	pens
	g     *Graph
	index index
}

// branch is a node below another one, with the edge that leads to it, if one does.
type branch struct {
	node *Node
	edge *Edge
}

func (t *tree) branches(indent string, rows []branch) {
	lines := make([][]string, len(rows))
	for i, r := range rows {
		lines[i] = t.text(r)
	}
	t.align(rows, lines)
	for i, r := range rows {
		knee, below := t.tee, indent+t.bar
		if i == len(rows)-1 {
			knee, below = t.end, indent+"   "
		}
		t.line(indent+knee, lines[i])
		t.branches(below, t.below(r))
	}
}

// align has what the containers of a network are called, and where their pairs end, below
// each other.
func (t *tree) align(rows []branch, lines [][]string) {
	noted := slices.ContainsFunc(rows, func(r branch) bool { return r.aligned() && r.node.Note != "" })
	for i, r := range rows {
		if noted && r.aligned() && r.node.Note == "" {
			lines[i] = slices.Insert(lines[i], 1, "")
		}
	}
	for column := range 2 {
		widest := 0
		for i, r := range rows {
			if r.aligned() && len(lines[i]) > column+1 {
				widest = max(widest, cells(plain(lines[i][column])))
			}
		}
		for i, r := range rows {
			if r.aligned() && len(lines[i]) > column+1 {
				lines[i][column] += strings.Repeat(" ", widest-cells(plain(lines[i][column])))
			}
		}
	}
}

// aligned tells whether a branch is the line of a container's interface.
func (b *branch) aligned() bool {
	return b.node.Kind == Container && b.edge != nil && b.edge.Way != Shares
}

// plain is a text without the colours of a terminal.
func plain(s string) string {
	var b strings.Builder
	for rest := s; rest != ""; {
		before, after, found := strings.Cut(rest, "\x1b[")
		b.WriteString(before)
		if !found {
			break
		}
		_, rest, _ = strings.Cut(after, "m")
	}
	return b.String()
}

// below are the branches of a branch: the containers of a network and the hosts that
// it goes on to, and those who share the namespace of a container.
func (t *tree) below(b branch) []branch {
	var all []branch
	if b.node.Kind != Network && (b.edge == nil || b.node.Kind != Container || t.index.to[b.node.ID][0] != b.edge) {
		return nil // of a container on several networks, below its first one
	}
	for _, e := range t.index.from[b.node.ID] {
		all = append(all, branch{t.g.node(e.To), e})
	}
	for _, e := range t.index.to[b.node.ID] {
		if e.Way == Tunnel {
			all = append(all, branch{t.g.node(e.From), e})
		}
	}
	return all
}

func (t *tree) line(indent string, parts []string) {
	if indent != "" {
		t.WriteString(t.dim + indent + t.off)
	}
	t.WriteString(strings.Join(parts, "  ") + "\n")
}

func (t *tree) paint(pen, s string) string { return pen + t.replace.Replace(s) + t.off }

// text is a branch in words.
func (t *tree) text(b branch) []string {
	parts := t.title(b.node)
	e := b.edge
	switch {
	case b.node.Kind == More || b.node.Kind == Uplink || b.node.Kind == Foreign:
	case e == nil:
	case e.Way == Tunnel:
		parts = append([]string{t.tunnel}, parts...)
		parts = append(parts, strings.Join(e.Addresses, " "), t.paint(t.dim, "by "+e.Label))
		if e.Reach != "" {
			parts = append(parts, t.paint(t.dim, e.Reach))
		}
	case e.Way == Shares && strings.HasPrefix(e.From, ContainerID("")):
		parts = append(parts, t.paint(t.dim, "shares the namespace"))
	default:
		wire := e.Interface
		if e.Label != "" {
			wire = t.paint(t.dim, e.Label+" "+t.wire) + " " + wire
		}
		if len(e.Addresses) > 0 {
			wire += " " + strings.Join(e.Addresses, " ")
		}
		if wire != "" {
			parts = append(parts, wire)
		}
		if len(e.Names) > 0 {
			parts = append(parts, "as "+strings.Join(e.Names, ", "))
		}
		for _, p := range e.Ports {
			parts = append(parts, t.paint(t.port, p))
		}
	}
	again := e != nil && b.node.Kind == Container && t.index.to[b.node.ID][0] != e
	if !again {
		for _, f := range b.node.Facts {
			parts = append(parts, t.replace.Replace(f))
		}
		parts = append(parts, t.wrong(b.node.Bad)...)
	}
	if e != nil {
		parts = append(parts, t.wrong(e.Bad)...)
	}
	return parts
}

func (t *tree) title(n *Node) []string {
	pen := t.pens.title
	if n.Kind == Network {
		pen = t.network
	}
	if n.Kind == More || n.Kind == Foreign {
		pen = t.dim
	}
	parts := []string{t.paint(pen, cut(n.Title, wideText))}
	if n.Note != "" {
		parts = append(parts, t.paint(t.dim, n.Note))
	}
	return parts
}

func (t *tree) wrong(bad []string) []string {
	var all []string
	for _, b := range bad {
		all = append(all, t.paint(t.bad, "! "+b))
	}
	return all
}
