package graph

import (
	"unicode"
)

// drawing is what a picture is made of, in pixels of the SVG.
type drawing struct {
	width, height int
	boxes         []box
	lines         []line
	texts         []label
	groups        []nodeGroup
	live          bool // has room for rates
}

// nodeGroup is a node's boxes and texts, those from the first index to before the second.
type nodeGroup struct {
	node         string // its ID
	boxes, texts [2]int
}

// box is a rectangle. Its class says how it looks.
type box struct {
	x, y, w, h int
	class      string
}

// line is one of horizontal and vertical pieces.
type line struct {
	points [][2]int
	class  string
}

// label is a text; x is its left end, y its baseline.
type label struct {
	x, y, size int
	class      string
	text, full string // full where text is cut off
	// rate is what the text is a rate of, which is filled in later; text is then the widest.
	rate string
	part int // of the rate
}

// The widest texts of a rate: bytes, and packets with those that are dropped.
var rateRoom = [2]string{"↓999.9 MB/s ↑999.9 MB/s", "↓999999 ↑999999 packets/s"}

// rates adds room for a rate's texts, at two baselines.
func (d *drawing) rates(x int, y [2]int, of string) {
	for part, text := range rateRoom {
		d.texts = append(d.texts, label{x: x, y: y[part], size: small, class: "rate", text: text, rate: of, part: part})
	}
}

// Sizes of texts, and the height of a row, in pixels.
const (
	big    = 14
	normal = 12
	small  = 10
	row    = 17
)

// measure is the width of a text in pixels. The font is one with fixed width; that of
// the common ones is at most 0.61 of the size.
func measure(s string, size int) int { return (cells(s)*size*62 + 99) / 100 }

// cells is the width of a text in columns of a terminal.
func cells(s string) int {
	n := 0
	for _, r := range s {
		n += runeCells(r)
	}
	return n
}

// runeCells is 2 for what East Asian fonts draw wide (UAX 11, roughly: too wide does
// no harm), 0 for what is put on the character before it.
func runeCells(r rune) int {
	switch {
	case unicode.Is(unicode.Mn, r):
		return 0
	case r >= 0x1100 && r <= 0x115f, r >= 0x2e80 && r <= 0xd7a3, r >= 0xf900 && r <= 0xfaff, r >= 0xfe30 && r <= 0xfe6f,
		r >= 0xff00 && r <= 0xffe6, r >= 0x1f000:
		return 2
	}
	return 1
}

// cut is a text of at most so many cells: what is left out is in the middle, as names that
// begin alike differ at their end.
func cut(s string, most int) string {
	if cells(s) <= most {
		return s
	}
	all := []rune(s)
	first, last, room := 0, len(all), most-1
	for front := true; first < last; front = !front { // one from the front, one from the end
		r := all[first]
		if !front {
			r = all[last-1]
		}
		if room -= runeCells(r); room < 0 {
			break
		}
		if front {
			first++
		} else {
			last--
		}
	}
	return string(all[:first]) + "…" + string(all[last:])
}

// text adds a text of at most so many cells.
func (d *drawing) text(x, y, size, most int, class, s string) {
	l := label{x: x, y: y, size: size, class: class, text: cut(s, most)}
	if l.text != s {
		l.full = s
	}
	d.texts = append(d.texts, l)
}

func (d *drawing) line(class string, points ...[2]int) {
	d.lines = append(d.lines, line{points, class})
}

// lanes gives vertical lines that are beside each other where their spans meet:
// lanes[i] has the lower ends of those spans that it has so far.
type lanes struct{ ends []int }

// take returns the lane of a span from top to bottom. The fewest are taken when spans
// come in the order of their tops.
func (l *lanes) take(top, bottom int) int {
	const apart = 8
	for i, end := range l.ends {
		if end+apart < top {
			l.ends[i] = bottom
			return i
		}
	}
	l.ends = append(l.ends, bottom)
	return len(l.ends) - 1
}
