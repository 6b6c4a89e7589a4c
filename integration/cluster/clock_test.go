package cluster

import (
	"strings"
	"testing"
	"time"
)

// TestShiftClock has a program in Go tell the time before and after its clock jumped.
func TestShiftClock(t *testing.T) {
	if err := ClocksShift(); err != nil {
		t.Skip(err)
	}
	c := newCluster(t, 1, Options{})
	e, err := c.Etcd(1)
	must(t, err)
	m := e.Members[0]
	for _, by := range []time.Duration{time.Hour, -time.Hour, 0} {
		must(t, m.ShiftClock(by))
		before := len(m.Log())
		_, err := e.Ctl("defrag") // which etcd logs
		must(t, err)
		line := m.Log()[before:]
		at, err := loggedAt(line)
		if err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		if d := time.Until(at) - by; d.Abs() > time.Minute {
			t.Errorf("a clock that jumped by %v says %v", by, at)
		}
	}
	must(t, e.Healthy())
}

// loggedAt is when etcd has written a line: 3.4's, or in JSON.
func loggedAt(line string) (time.Time, error) {
	const old = "2006-01-02 15:04:05.999999"
	if _, rest, ok := strings.Cut(line, `"ts":"`); ok {
		stamp, _, _ := strings.Cut(rest, `"`)
		return time.Parse("2006-01-02T15:04:05.999999Z0700", stamp)
	}
	return time.ParseInLocation(old, strings.TrimSpace(line[:min(len(line), len(old))]), time.Local)
}
