package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"slices"
)

// The plot's size and the frame inside it, in SVG units.
const (
	plotWidth, plotHeight = 960, 520
	frameLeft, frameRight = 70, 640
	frameTop, frameBottom = 84, 450
	lowestLabelGap        = 17
	ink, pale             = "#24292f", "#d8dee4"
	fontStack             = "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif"
)

var lineStyle = map[string]struct{ colour, dash string }{
	floorName:  {"#8c959f", "5 4"},
	pluginName: {"#8c959f", "2 3"},
	noopName:   {"#bf8700", "2 3"},
	berthName:  {"#0969da", ""},
	nftName:    {"#cf7a30", ""},
	iptName:    {"#b3261e", ""},
}

// point is one median.
type point struct{ population, ms float64 }

// plot draws the median of ADD against the number of attached containers, time on a
// logarithmic scale.
func plot(r report) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="%s" font-size="14" fill="%s">`+"\n",
		plotWidth, plotHeight, fontStack, ink)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", plotWidth, plotHeight)
	text(&b, frameLeft, 34, `font-size="20" font-weight="600"`, "Time to attach one container")
	text(&b, frameLeft, 58, `fill="#57606a"`, "median of ADD in milliseconds (logarithmic) by containers attached before")
	text(&b, frameLeft, plotHeight-14, `fill="#57606a" font-size="12"`, r.Machine.String())

	lines := curves(r)
	low, high := bounds(lines)
	last := float64(slices.Max(append([]int{1}, r.Plan.Populations...)))
	x := func(population float64) float64 { return frameLeft + population/last*(frameRight-frameLeft) }
	y := func(ms float64) float64 {
		return frameBottom - (math.Log10(ms)-low)/(high-low)*(frameBottom-frameTop)
	}
	axes(&b, r, low, high, x, y)
	type label struct {
		at           float64
		colour, text string
	}
	var labels []label
	for name, points := range lines {
		style := lineStyle[name]
		width := 2
		if name == berthName {
			width = 4
		}
		fmt.Fprintf(&b, `<polyline fill="none" stroke="%s" stroke-width="%d" stroke-dasharray="%s" stroke-linejoin="round" points="`,
			style.colour, width, style.dash)
		for _, p := range points {
			fmt.Fprintf(&b, "%.1f,%.1f ", x(p.population), y(p.ms))
		}
		b.WriteString("\"/>\n")
		for _, p := range points {
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="%d" fill="%s"/>`+"\n", x(p.population), y(p.ms), width+1, style.colour)
		}
		end := points[len(points)-1]
		said := fmt.Sprintf("%s, %s ms", name, ms(end.ms))
		if end.population < last {
			said += fmt.Sprintf(" at %g", end.population)
		}
		labels = append(labels, label{y(end.ms), style.colour, said})
	}
	slices.SortFunc(labels, func(a, b label) int { return int(math.Copysign(1, b.at-a.at)) })
	above := math.Inf(1)
	for _, l := range labels { // from the bottom up, none on top of another
		at := min(l.at, above-lowestLabelGap)
		above = at
		text(&b, frameRight+14, at+5, `fill="`+l.colour+`" font-weight="600" font-size="13"`, l.text)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// curves returns the contestants' medians in the order of population.
func curves(r report) map[string][]point {
	lines := map[string][]point{}
	for _, c := range r.Results {
		for _, p := range slices.Sorted(slices.Values(r.Plan.Populations)) {
			if s := c.Samples[p]; s != nil && len(s.Add) > 0 {
				lines[c.Name] = append(lines[c.Name], point{float64(p), s.Add.median()})
			}
		}
	}
	return lines
}

// bounds are the powers of ten around all points, as exponents.
func bounds(lines map[string][]point) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, points := range lines {
		for _, p := range points {
			low, high = min(low, math.Log10(p.ms)), max(high, math.Log10(p.ms))
		}
	}
	return math.Floor(low*2) / 2, math.Ceil(high*2) / 2
}

func axes(b *bytes.Buffer, r report, low, high float64, x, y func(float64) float64) {
	for exponent := -2; exponent < 5; exponent++ {
		for _, step := range []float64{1, 2, 5} {
			v := step * math.Pow10(exponent)
			if l := math.Log10(v); l < low-1e-9 || l > high+1e-9 {
				continue
			}
			fmt.Fprintf(b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="%s"/>`+"\n", frameLeft, frameRight, y(v), y(v), pale)
			text(b, frameLeft-10, y(v)+5, `text-anchor="end"`, fmt.Sprintf("%g", v))
		}
	}
	for _, p := range r.Plan.Populations {
		at := x(float64(p))
		fmt.Fprintf(b, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="%s"/>`+"\n", at, at, frameBottom, frameBottom+6, ink)
		text(b, at, frameBottom+24, `text-anchor="middle"`, fmt.Sprint(p))
	}
	fmt.Fprintf(b, `<line x1="%d" x2="%d" y1="%d" y2="%d" stroke="%s"/>`+"\n", frameLeft, frameRight, frameBottom, frameBottom, ink)
}

func text(b *bytes.Buffer, x, y float64, style, s string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" %s>%s</text>`+"\n", x, y, style, html.EscapeString(s))
}
