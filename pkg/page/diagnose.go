package page

import (
	"context"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/doctor"
	"github.com/berth-cni/berth/pkg/graph"
)

// The doctor's pace: it opens the namespace of each container, and runs programs.
const (
	doctorCalm    = time.Second      // after a change, for what belongs to it
	doctorSoon    = 15 * time.Second // between two diagnoses, when the host has changed
	doctorRest    = time.Minute      // when it has not
	doctorPortion = 200              // a diagnosis takes one part in so many of the time
)

// diagnose has the doctor look, now and then.
func (v *view) diagnose(ctx context.Context) {
	for {
		v.mu.Lock()
		last, cost := v.reported, doctorPortion*v.took
		v.mu.Unlock()
		next := last.Add(max(doctorRest, cost))
		if last.IsZero() { // the first one is for what is to be seen first
			next = time.Now().Add(doctorRest)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(next)):
		case <-v.moved:
			soon := max(time.Until(last.Add(max(doctorSoon, cost))), doctorCalm)
			select {
			case <-ctx.Done():
				return
			case <-time.After(soon):
			}
		}
		start := time.Now()
		r := v.Diagnose(ctx)
		v.tell(ctx, func(m *moment) {
			v.report, v.reported, v.took = r, time.Now(), time.Since(start)
			if m.host != nil {
				v.show(m)
			}
		})
	}
}

// finding is what the doctor found.
type finding struct {
	Check string `json:"check"`
	doctor.Problem
	Error string   `json:"error,omitempty"` // why it could not look
	At    []string `json:"at"`              // nodes of the picture
}

// place marks in a picture what the doctor found, where it concerns a network, a container
// or the host, and returns all of it.
func place(g *graph.Graph, r *doctor.Report) []finding {
	all := []finding{}
	for _, c := range r.Checks {
		if c.Error != "" {
			all = append(all, finding{Check: c.Check, Error: c.Error, At: []string{}})
		}
		for _, p := range c.Problems {
			f := finding{Check: c.Check, Problem: p, At: []string{}}
			mark := func(id, what string) {
				if g.Blame(id, what) {
					f.At = append(f.At, id)
				}
			}
			what := p.What
			if network, rest, ok := strings.Cut(what, ": "); ok && strings.HasPrefix(network, "network ") {
				what = rest // the place says it
			}
			for _, n := range p.Networks {
				mark(graph.NetworkID(n), what)
			}
			for _, id := range p.Containers {
				mark(graph.ContainerID(id), what)
			}
			if len(p.Networks)+len(p.Containers) == 0 {
				mark(graph.HostID, what)
			}
			all = append(all, f)
		}
	}
	return all
}
