package cni

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/internal/durations"
)

// TraceEnv is the environment variable that has an ADD say on stderr where its
// time went: one line of microseconds, from the start of main on.
const TraceEnv = "BERTH_TRACE"

// trace measures a run of a plugin. nil measures nothing.
type trace struct {
	start, last time.Time
	phases      []phase
}

type phase struct {
	name string
	took time.Duration
}

func newTrace() *trace {
	now := time.Now()
	return &trace{start: now, last: now}
}

// did notes that something is done.
func (t *trace) did(what string) {
	if t == nil {
		return
	}
	now := time.Now()
	t.phases = append(t.phases, phase{what, now.Sub(t.last)})
	t.last = now
}

// end counts the run for the agent's metrics, when its verb is one that has something to
// do: how long it took, the phases of an ADD that succeeded, and an error by its code.
// What it costs is some system calls after the answer; where it cannot be had it is left.
func (t *trace) end(dir, verb string, code uint) {
	total := time.Since(t.start)
	if verb == "ADD" && code == 0 && os.Getenv(TraceEnv) != "" {
		var line strings.Builder
		for _, p := range t.phases {
			fmt.Fprintf(&line, " %s=%d", p.name, p.took.Microseconds())
		}
		fmt.Fprintf(os.Stderr, "berth: us%s total=%d\n", &line, total.Microseconds())
	}
	table := durations.Open
	switch verb {
	case "ADD", "DEL":
		table = durations.Make
	case "CHECK", "GC", "STATUS": // which change nothing where nothing has been attached
	default:
		return
	}
	defer func() { _ = recover() }() // the file was cut while it was mapped
	d, err := table(dir)
	if err != nil {
		return
	}
	if code != 0 {
		d.Add(durations.Failed(verb, code), total)
		return
	}
	d.Add(verb, total)
	if verb == "ADD" {
		for _, p := range t.phases {
			d.Add(durations.Phase(verb, p.name), p.took)
		}
	}
}
