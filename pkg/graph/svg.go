package graph

import (
	"bufio"
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
)

// SVG writes the picture as SVG 1.1, in columns from the outside to the containers.
// It needs nothing from elsewhere, and follows the reader's choice of light or dark.
// Each node is a group whose data-node is its ID.
func (g *Graph) SVG(w io.Writer) error { return g.write(w, g.lay(false)) }

// Live is [Graph.SVG] for a page that goes on to change it. It has no [Style]: the page has.
// Texts with a data-rate are empty: two (data-part) for each interface of the host in a pair,
// for each network and each uplink ([Node.ID]).
func (g *Graph) Live(w io.Writer) error { return g.write(w, g.lay(true)) }

func (g *Graph) write(w io.Writer, d *drawing) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" xml:space=\"preserve\">\n", d.width, d.height, d.width, d.height)
	for _, n := range g.of(Host) {
		fmt.Fprintf(b, "<title>Networks of %s</title>\n", escape(n.Title))
	}
	if !d.live {
		b.WriteString("<style>\n" + Style + "</style>\n")
	}
	fmt.Fprintf(b, "<rect class=\"page\" width=\"%d\" height=\"%d\"/>\n", d.width, d.height)
	box, text := 1, 0 // of those that are not written yet
	writeBoxes(b, d.boxes[:box])
	d.writeLines(b) // above the frame and below the boxes
	for _, n := range d.groups {
		writeTexts(b, d.texts[text:n.texts[0]])
		fmt.Fprintf(b, "<g data-node=\"%s\">\n", escape(n.node))
		writeBoxes(b, d.boxes[n.boxes[0]:n.boxes[1]])
		writeTexts(b, d.texts[n.texts[0]:n.texts[1]])
		b.WriteString("</g>\n")
		box, text = n.boxes[1], n.texts[1]
	}
	writeBoxes(b, d.boxes[box:])
	writeTexts(b, d.texts[text:])
	b.WriteString("</svg>\n")
	return b.Flush()
}

func writeBoxes(b *bufio.Writer, all []box) {
	for _, x := range all {
		fmt.Fprintf(b, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"%d\"/>\n", x.class, x.x, x.y, x.w, x.h, min(4, x.w/2))
	}
}

func writeTexts(b *bufio.Writer, all []label) {
	for _, t := range all {
		fmt.Fprintf(b, "<text x=\"%d\" y=\"%d\" font-size=\"%d\"", t.x, t.y, t.size)
		if t.class != "" {
			fmt.Fprintf(b, " class=\"%s\"", t.class)
		}
		if t.rate != "" {
			fmt.Fprintf(b, " data-rate=\"%s\" data-part=\"%d\"/>\n", escape(t.rate), t.part)
			continue
		}
		b.WriteString(">")
		if t.full != "" {
			fmt.Fprintf(b, "<title>%s</title>", escape(t.full))
		}
		fmt.Fprintf(b, "%s</text>\n", escape(t.text))
	}
}

func (d *drawing) writeLines(b *bufio.Writer) {
	for _, l := range d.lines {
		fmt.Fprintf(b, "<polyline class=\"%s\" points=\"", l.class)
		for i, p := range l.points {
			if i > 0 {
				b.WriteByte(' ')
			}
			fmt.Fprintf(b, "%d,%d", p[0], p[1])
		}
		b.WriteString("\"/>\n")
	}
}

// escape is a text as SVG has it. What XML cannot carry becomes U+FFFD.
func escape(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s)) // a buffer takes everything
	return b.String()
}

// Style is how it looks, in CSS. Colours of texts have a contrast of 4.5 to 1 at least
// (WCAG 2.1, 1.4.3), in light and in dark.
const Style = `text { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, "Liberation Mono", monospace; fill: #1f2328; white-space: pre }
.page { fill: #ffffff }
.frame { fill: #f6f8fa; stroke: #d0d7de }
.box { fill: #ffffff; stroke: #8c959f }
.fold { fill: none; stroke: #8c959f; stroke-dasharray: 3 3 }
.wrong { stroke: #cf222e; stroke-width: 1.5 }
.title { font-weight: bold }
.dim { fill: #59636e }
.port { fill: #8a5300 }
.bad { fill: #c01c28; font-weight: bold }
polyline { fill: none; stroke-width: 1.5; stroke-linejoin: round }
.wire { stroke: #8c959f }
.broken { stroke: #cf222e }
.dashed { stroke-dasharray: 5 4 }
.wire0 { stroke: #0969da } .wire1 { stroke: #1a7f37 } .wire2 { stroke: #8250df } .wire3 { stroke: #bf3989 } .wire4 { stroke: #bc4c00 } .wire5 { stroke: #0a7f86 }
.fill0 { fill: #0969da } .fill1 { fill: #1a7f37 } .fill2 { fill: #8250df } .fill3 { fill: #bf3989 } .fill4 { fill: #bc4c00 } .fill5 { fill: #0a7f86 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.page { fill: #0d1117 }
.frame { fill: #151b23; stroke: #3d444d }
.box { fill: #0d1117; stroke: #656c76 }
.fold { stroke: #656c76 }
.wrong { stroke: #f85149 }
.dim { fill: #9198a1 }
.port { fill: #d29922 }
.bad { fill: #ff7b72 }
.wire { stroke: #656c76 }
.broken { stroke: #f85149 }
.wire0 { stroke: #4493f8 } .wire1 { stroke: #3fb950 } .wire2 { stroke: #ab7df8 } .wire3 { stroke: #db61a2 } .wire4 { stroke: #db6d28 } .wire5 { stroke: #39c5cf }
.fill0 { fill: #4493f8 } .fill1 { fill: #3fb950 } .fill2 { fill: #ab7df8 } .fill3 { fill: #db61a2 } .fill4 { fill: #db6d28 } .fill5 { fill: #39c5cf }
}
`
