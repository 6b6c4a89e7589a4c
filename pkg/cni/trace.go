package cni

import (
	"fmt"
	"os"
	"time"
)

// TraceEnv is the environment variable that has an ADD say on stderr where its
// time went: one line of microseconds, from the start of main on.
const TraceEnv = "BERTH_TRACE"

// trace measures. nil measures nothing.
type trace struct {
	start, last time.Time
	line        string
}

func newTrace() *trace {
	if os.Getenv(TraceEnv) == "" {
		return nil
	}
	now := time.Now()
	return &trace{start: now, last: now}
}

// did notes that something is done, and with "answer" writes the line.
func (t *trace) did(what string) {
	if t == nil {
		return
	}
	now := time.Now()
	t.line += fmt.Sprintf(" %s=%d", what, now.Sub(t.last).Microseconds())
	t.last = now
	if what == "answer" {
		fmt.Fprintf(os.Stderr, "berth: us%s total=%d\n", t.line, now.Sub(t.start).Microseconds())
	}
}
