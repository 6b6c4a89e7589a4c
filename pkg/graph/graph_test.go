package graph

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("not as in %s (-update writes it):\n%s", path, got)
	}
}

// pictures are the models that every renderer has to draw.
func pictures() map[string]*Graph {
	bare := newModel()
	bare.kernel.uplink = ""
	return map[string]*Graph{
		"bare": Build(bare.Input), "small": Build(single().Input), "modes": Build(modes().Input), "overlay": Build(spanning().Input),
		"twelve": Build(crowded(12).Input), "sixty": Build(crowded(60).Input), "folded": Build(crowded(60).Input).Fold(10),
	}
}

func treeText(t *testing.T, g *Graph, o TreeOptions) string {
	t.Helper()
	var b strings.Builder
	if err := g.Tree(&b, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func svgText(t *testing.T, g *Graph) string {
	t.Helper()
	var b bytes.Buffer
	if err := g.SVG(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	all := pictures()
	for _, name := range []string{"bare", "small", "modes", "overlay", "folded"} {
		golden(t, name+".txt", treeText(t, all[name], TreeOptions{}))
		golden(t, name+".svg", svgText(t, all[name]))
	}
	golden(t, "modes-ascii.txt", treeText(t, all["modes"], TreeOptions{ASCII: true}))
	golden(t, "modes-colours.txt", treeText(t, all["modes"], TreeOptions{Colours: true}))
	data, err := json.MarshalIndent(all["modes"], "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "modes.json", string(data)+"\n")
}

// The same host gives the same picture, in whatever order its records come.
func TestDeterministic(t *testing.T) {
	want := svgText(t, Build(modes().Input))
	m := modes()
	slices.Reverse(m.Records)
	if got := svgText(t, Build(m.Input)); got != want {
		t.Error("the order of the records changes the picture")
	}
}

func TestASCII(t *testing.T) {
	for name, g := range pictures() {
		for _, r := range treeText(t, g, TreeOptions{ASCII: true}) {
			if r > 0x7e {
				t.Errorf("%s: %q in a tree of ASCII", name, r)
			}
		}
	}
}

// rect is what a text covers: from above its letters to below those that hang.
func (l label) rect() (x0, y0, x1, y1 int) {
	return l.x, l.y - l.size*8/10, l.x + measure(l.text, l.size), l.y + l.size*2/10
}

func TestNothingOverlaps(t *testing.T) {
	for name, g := range pictures() {
		nothingOverlaps(t, name, g.lay(false))
		nothingOverlaps(t, name+", live", g.lay(true))
	}
}

func nothingOverlaps(t *testing.T, name string, d *drawing) {
	if len(d.texts) == 0 {
		t.Errorf("%s: no text", name)
	}
	for i, a := range d.texts {
		ax0, ay0, ax1, ay1 := a.rect()
		if ax0 < 0 || ay0 < 0 || ax1 > d.width || ay1 > d.height {
			t.Errorf("%s: %q is beyond the edge", name, a.text)
		}
		for _, b := range d.texts[i+1:] {
			if x0, y0, x1, y1 := b.rect(); ax0 < x1 && x0 < ax1 && ay0 < y1 && y0 < ay1 {
				t.Errorf("%s: %q at %d,%d and %q at %d,%d", name, a.text, a.x, a.y, b.text, b.x, b.y)
			}
		}
		for _, l := range d.lines {
			for k := 1; k < len(l.points); k++ {
				p, q := l.points[k-1], l.points[k]
				if min(p[0], q[0]) < ax1 && max(p[0], q[0]) > ax0 && min(p[1], q[1]) < ay1 && max(p[1], q[1]) > ay0 {
					t.Errorf("%s: a line from %v to %v goes through %q", name, p, q, a.text)
				}
			}
		}
	}
	overlapBoxes(t, name, d)
}

func overlapBoxes(t *testing.T, name string, d *drawing) {
	var boxes []box
	for _, b := range d.boxes {
		if strings.HasPrefix(b.class, "box") || strings.HasPrefix(b.class, "fold") {
			boxes = append(boxes, b)
		}
	}
	for i, a := range boxes {
		if a.x+a.w > d.width || a.y+a.h > d.height {
			t.Errorf("%s: a box is beyond the edge: %v", name, a)
		}
		for _, b := range boxes[i+1:] {
			if a.x < b.x+b.w && b.x < a.x+a.w && a.y < b.y+b.h && b.y < a.y+a.h {
				t.Errorf("%s: boxes overlap: %v and %v", name, a, b)
			}
		}
	}
}

func TestFold(t *testing.T) {
	g := Build(crowded(60).Input)
	f := g.Fold(10)
	if got := len(f.of(Container)); got != 10 {
		t.Errorf("%d containers, want 10", got)
	}
	x := f.index()
	var texts []string
	for _, n := range f.of(More) {
		texts = append(texts, x.to[n.ID][0].From+" "+n.Title)
	}
	slices.Sort(texts)
	// 9 of the 60 are on my-bridge, too.
	shown := len(x.from["network:my-bridge"]) - 1
	if len(texts) != 2 || texts[0] != "network:blue and 50 more" || !strings.HasSuffix(texts[1], " more") || shown < 0 || shown > 9 {
		t.Errorf("%q, %d shown", texts, shown)
	}
	for _, e := range f.Edges {
		if f.node(e.From) == nil || f.node(e.To) == nil {
			t.Errorf("%v leads nowhere", e)
		}
	}
	if len(g.Fold(0).of(Container)) != 60 || len(g.Fold(60).of(More)) != 0 {
		t.Error("folded without need")
	}
}

// Who shares a namespace that is left out is left out, and counted.
func TestFoldShares(t *testing.T) {
	f := Build(modes().Input).Fold(1)
	x := f.index()
	if f.node(ContainerID(id("sidecar"))) != nil && f.node(ContainerID(id("db"))) == nil {
		t.Error("a sharer without its owner")
	}
	for _, e := range f.Edges {
		if f.node(e.From) == nil || f.node(e.To) == nil {
			t.Errorf("%v leads nowhere", e)
		}
	}
	if len(x.from["network:blue"]) == 0 {
		t.Error("nothing left of blue")
	}
}

// Names that people chose harm neither a terminal nor a page.
func TestUntrusted(t *testing.T) {
	m := single()
	m.Host = "a\x1b[2J<script>"
	m.Called = func(*attach.Attachment) (string, []string) {
		return `</text><script>alert("1")</script>` + "\x1b]0;x\a\u202e", []string{"a&b\x00"}
	}
	m.Records[0].Steps = m.Records[0].Steps[:3]
	g := Build(m.Input)
	for _, text := range []string{treeText(t, g, TreeOptions{}), svgText(t, g)} {
		if strings.ContainsAny(text, "\x1b\a\x00\u202e") {
			t.Errorf("%q", text)
		}
	}
	picture := svgText(t, g)
	if strings.Contains(picture, "<script") {
		t.Error(picture)
	}
	for d := xml.NewDecoder(strings.NewReader(picture)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// A picture stands for itself: nothing is loaded, nothing runs.
func TestSelfContained(t *testing.T) {
	for name, g := range pictures() {
		picture := strings.Replace(svgText(t, g), `xmlns="http://www.w3.org/2000/svg"`, "", 1)
		for _, bad := range []string{"http", "url(", "@import", "href", "<script", "onload"} {
			if strings.Contains(picture, bad) {
				t.Errorf("%s: %s", name, bad)
			}
		}
	}
}

// The glyphs of the fonts that are named are 0.602 of the size wide, or less.
func TestMeasure(t *testing.T) {
	if got := measure(strings.Repeat("m", 100), normal); got < 100*normal*602/1000 {
		t.Errorf("100 letters of %d pixels: %d wide", normal, got)
	}
}

func TestCells(t *testing.T) {
	for s, want := range map[string]int{"": 0, "web": 3, "日本": 4, "e\u0301": 1, "→": 1} {
		if got := cells(s); got != want {
			t.Errorf("%q: %d, want %d", s, got, want)
		}
	}
	for _, c := range []struct {
		s    string
		most int
		want string
	}{{"container", 9, "container"}, {"container", 5, "co…er"}, {"日本語", 5, "日…語"}} {
		if got := cut(c.s, c.most); got != c.want || cells(got) > c.most {
			t.Errorf("%q to %d: %q", c.s, c.most, got)
		}
	}
}

// Hosts beyond the limit are counted, those that are not reached stay.
func TestFoldPeers(t *testing.T) {
	m := spanning()
	for i := range 30 {
		m.Overlays[0].Peers = append(m.Overlays[0].Peers, Remote{Name: fmt.Sprintf("z%02d", i), Address: netip.MustParseAddr("192.0.2.9"), Reach: "failed", Bad: i == 29})
	}
	g := Build(m.Input).Fold(3)
	if len(g.of(Peer)) != 4 || g.node("peer:z29") == nil || g.node(morePeers).Title != "and 28 more hosts" {
		t.Errorf("%d peers", len(g.of(Peer)))
	}
	if text := treeText(t, g, TreeOptions{}); strings.Count(text, "and 28 more hosts") != 1 {
		t.Error(text)
	}
}

// A network that is open is whole, and can be folded again.
func TestFoldOpen(t *testing.T) {
	f := Build(crowded(60).Input).Fold(10, NetworkID("blue"))
	if got := len(f.of(Container)); got != 60 {
		t.Errorf("%d containers, want 60", got)
	}
	if n := f.node(MoreID(NetworkID("blue"))); n == nil || n.Title != "show only 10" {
		t.Errorf("%+v", n)
	}
	if f := Build(crowded(10).Input).Fold(10, NetworkID("blue")); len(f.of(More)) != 0 {
		t.Error("more of a network that has none")
	}
}

// What something is wrong with is not folded away before what is well.
func TestFoldWrong(t *testing.T) {
	g := Build(crowded(60).Input)
	last := g.of(Container)[59]
	if !g.Blame(last.ID, "its process\x1b has ended") || g.Blame("container:none", "is not there") {
		t.Error("blamed what is not there, or could not blame what is")
	}
	f := g.Fold(10)
	if n := f.node(last.ID); n == nil || len(n.Bad) != 1 || n.Bad[0] != "its process\ufffd has ended" || len(f.of(Container)) != 10 {
		t.Errorf("%+v of %d", n, len(f.of(Container)))
	}
}

// A page has room for the rates of each pair, network and uplink, and a style of its own.
func TestLive(t *testing.T) {
	for name, g := range pictures() {
		var b strings.Builder
		if err := g.Live(&b); err != nil {
			t.Fatal(err)
		}
		want, counted := len(g.of(Uplink)), map[string]bool{}
		for _, e := range g.Edges {
			if e.Way == Veth && e.Label != "" && g.node(e.To).Kind == Container {
				want++
				counted[e.From] = true
			}
		}
		want += len(counted)
		if got := strings.Count(b.String(), "data-rate="); got != 2*want || strings.Contains(b.String(), "<style") {
			t.Errorf("%s: %d texts for %d rates", name, got, want)
		}
		if err := xml.Unmarshal([]byte(b.String()), new(any)); err != nil && !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is wrong with the host is said beside its name.
func TestBlameHost(t *testing.T) {
	g := Build(single().Input)
	g.Blame(HostID, "forwards nothing")
	g.Blame(HostID, "has no nftables")
	if s := svgText(t, g); !strings.Contains(s, ">! forwards nothing, and 1 more</text>") {
		t.Error(s)
	}
	if s := treeText(t, g, TreeOptions{}); !strings.HasPrefix(s, "host-a  ! forwards nothing  ! has no nftables\n") {
		t.Error(s)
	}
	nothingOverlaps(t, "host", g.lay(false))
}
