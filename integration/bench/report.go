package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// report is all that one run has measured.
type report struct {
	Machine machine       `json:"machine"`
	Plan    plan          `json:"plan"`
	Took    string        `json:"took"`
	Results []*result     `json:"results"`
	IPAM    *ipamResult   `json:"ipam"`
	Modes   []*modeResult `json:"modes,omitempty"`
}

const nameWidth, cellWidth = 44, 18

func (r report) print(w io.Writer) {
	fmt.Fprintf(w, "\nBerth beside the reference plugins and the kernel\n%s; run of %s\n", r.Machine, r.Took)
	fmt.Fprintf(w, "Every plugin through libcni.\n")
	if len(r.Results) > 0 {
		fmt.Fprintf(w, "Berth and the reference publish one TCP port for each container.\n")
		for _, v := range verbs {
			r.printVerb(w, v)
		}
		r.printRest(w)
	}
	r.printIPAM(w)
	r.printModes(w)
	r.printTargets(w)
}

var verbs = []struct {
	name string
	of   func(*sampled) times
}{
	{"ADD", func(s *sampled) times { return s.Add }},
	{"CHECK", func(s *sampled) times { return s.Check }},
	{"DEL", func(s *sampled) times { return s.Del }},
}

// printVerb prints p50 and p90 by population, and each p50 as a multiple of the
// floor's.
func (r report) printVerb(w io.Writer, verb struct {
	name string
	of   func(*sampled) times
}) {
	head := []string{}
	for _, p := range r.Plan.Populations {
		head = append(head, fmt.Sprintf("%d attached", p))
	}
	title(w, verb.name+", ms: p50 / p90 (times the floor)", head...)
	for _, c := range r.Results {
		cells := []string{}
		for _, p := range r.Plan.Populations {
			t := verb.of(orNone(c.Samples[p]))
			if len(t) == 0 {
				cells = append(cells, "-")
				continue
			}
			cell := fmt.Sprintf("%s / %s", ms(t.median()), ms(t.quantile(0.9)))
			if base := r.p50(floorName, p, verb.of); base > 0 {
				cell += fmt.Sprintf(" %7s", fmt.Sprintf("(%.1f)", t.median()/base))
			}
			cells = append(cells, cell)
		}
		row(w, c.Name, cells...)
	}
}

func (r report) printRest(w io.Writer) {
	title(w, "", "burst, per s", "VERSION, ms", "peak memory", "binaries")
	for _, c := range r.Results {
		cells := []string{fmt.Sprintf("%.0f", c.PerSecond.median()), "-", "-", "-"}
		if c.Start > 0 {
			cells[1] = ms(c.Start)
			cells[2] = fmt.Sprintf("%.1f MiB", float64(c.MaxRSS)/1024)
			cells[3] = fmt.Sprintf("%.1f MB", float64(c.Size)/1e6)
		}
		row(w, c.Name, cells...)
	}
	fmt.Fprintf(w, "  Burst: ADD of %d containers, %d in flight. VERSION and binaries: of all plugins of one ADD.\n"+
		"  Memory: the largest process of one ADD.\n", r.Plan.Burst, r.Plan.Flight)
	for _, c := range r.Results {
		if c.Failures > 0 {
			fmt.Fprintf(w, "  %s: %d ADDs of the burst failed and were tried again.\n", c.Name, c.Failures)
		}
		if c.Stopped > 0 {
			fmt.Fprintf(w, "  %s: stopped at %d containers, as filling took too long.\n", c.Name, c.Stopped)
		}
	}
}

func (r report) printIPAM(w io.Writer) {
	if r.IPAM == nil {
		return
	}
	title(w, "One address of a /16, ms: p50 / p90", "no leases", fmt.Sprintf("%d leases", r.IPAM.Leases), "and a full search")
	cells := []string{}
	for _, t := range []times{r.IPAM.Empty, r.IPAM.Full, r.IPAM.Hole} {
		cells = append(cells, fmt.Sprintf("%s / %s", ms(t.median()), ms(t.quantile(0.9))))
	}
	row(w, "Berth's library, one process", cells...)
}

// target is one number that Berth promises a bound of; an infinite one is no promise.
type target struct {
	what   string
	got    float64
	atMost bool
	want   float64
}

// printTargets compares with what Berth promises.
func (r report) printTargets(w io.Writer) {
	targets := append(r.bridgeTargets(), r.modeTargets()...)
	if len(targets) == 0 {
		return
	}
	title(w, "Targets", "measured", "wanted")
	for _, t := range targets {
		want, ok := fmt.Sprintf(">= %g", t.want), t.got >= t.want
		if t.atMost {
			want, ok = fmt.Sprintf("<= %g", t.want), t.got <= t.want
		}
		if math.IsInf(t.want, 1) {
			row(w, t.what, fmt.Sprintf("%.2f", t.got), "(for comparison)")
			continue
		}
		row(w, t.what, fmt.Sprintf("%.2f", t.got), want, map[bool]string{true: "reached", false: "MISSED"}[ok])
	}
}

func (r report) bridgeTargets() []target {
	if r.p50(berthName, r.Plan.Populations[0], verbs[0].of) == 0 {
		return nil
	}
	if r.find(besideName).Name != "" {
		return r.besideTargets()
	}
	first, last := r.Plan.Populations[0], slices.Max(r.Plan.Populations)
	add, del := verbs[0].of, verbs[2].of
	ratio := func(a, b string, p int, of func(*sampled) times) float64 { return r.p50(a, p, of) / r.p50(b, p, of) }
	grown := r.p50(floorName, last, add) - r.p50(floorName, first, add)
	return []target{
		{fmt.Sprintf("ADD / floor, at %d", first), ratio(berthName, floorName, first, add), true, 3},
		{fmt.Sprintf("ADD / floor, at %d", last), ratio(berthName, floorName, last, add), true, 3},
		{fmt.Sprintf("reference (iptables) / ADD, at %d", first), ratio(iptName, berthName, first, add), false, 20},
		{fmt.Sprintf("reference (nftables) / ADD, at %d", first), ratio(nftName, berthName, first, add), false, 20},
		{fmt.Sprintf("ADD at %d / at %d, without the floor's growth", last, first),
			(r.p50(berthName, last, add) - grown) / r.p50(berthName, first, add), true, 1.3},
		{"ADD / process + transaction + floor, at " + fmt.Sprint(first), ratio(berthName, pluginName, first, add), true, math.Inf(1)},
		{"DEL / process + transaction + removal, at " + fmt.Sprint(first), ratio(berthName, pluginName, first, del), true, math.Inf(1)},
		{fmt.Sprintf("DEL / veth removal, at %d", first), ratio(berthName, floorName, first, del), true, 1.2},
		{fmt.Sprintf("DEL / veth removal, at %d", last), ratio(berthName, floorName, last, del), true, 1.2},
		{"burst, per second", r.find(berthName).PerSecond.median(), false, 200},
	}
}

// besideTargets say how this build compares with the other: a change may cost 5 %.
func (r report) besideTargets() (all []target) {
	const slower = 1.05
	for _, v := range verbs {
		for _, p := range r.Plan.Populations {
			if was := r.p50(besideName, p, v.of); was > 0 {
				all = append(all, target{fmt.Sprintf("%s / the other build's, at %d", v.name, p), r.p50(berthName, p, v.of) / was, true, slower})
			}
		}
	}
	was := r.find(besideName).PerSecond.median()
	return append(all, target{"burst / the other build's, per second", r.find(berthName).PerSecond.median() / was, false, 1 / slower})
}

func (r report) find(name string) *result {
	for _, c := range r.Results {
		if c.Name == name {
			return c
		}
	}
	return &result{}
}

// p50 is a contestant's median at a population; 0 when it was not measured.
func (r report) p50(name string, population int, of func(*sampled) times) float64 {
	return of(orNone(r.find(name).Samples[population])).median()
}

func orNone(s *sampled) *sampled { return cmp.Or(s, &sampled{}) }

func title(w io.Writer, name string, columns ...string) {
	fmt.Fprintf(w, "\n%s\n", name)
	row(w, "", columns...)
	fmt.Fprintf(w, "  %s\n", strings.Repeat("─", nameWidth+len(columns)*(cellWidth+4)))
}

func row(w io.Writer, name string, cells ...string) {
	fmt.Fprintf(w, "  %-*s", nameWidth, name)
	for _, c := range cells {
		fmt.Fprintf(w, "%*s", cellWidth+4, c)
	}
	fmt.Fprintln(w)
}

// ms renders milliseconds with three digits or so.
func ms(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
