package doctor

import (
	"context"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/host"
)

// remedy is something that mends, and cannot harm.
type remedy int

// The remedies, in the order in which they are used: what is left over goes before
// what is missing is made.
const (
	remedyGC remedy = iota
	remedyReload
)

// mend uses the remedies of the checks that found a problem, each once. It returns what
// was done, in lines.
func (c *Config) mend(ctx context.Context, r *Report) (done []string) {
	var wanted []remedy
	for _, found := range r.Checks {
		if len(found.Problems) > 0 {
			wanted = append(wanted, found.fix...)
		}
	}
	slices.Sort(wanted)
	for _, w := range slices.Compact(wanted) {
		var lines []string
		var err error
		switch w {
		case remedyGC:
			lines, err = did(func(report func(host.Event)) error {
				return host.Collect(ctx, c.Records, host.CollectOptions{Now: c.Now}, report)
			})
		case remedyReload:
			lines, err = did(func(report func(host.Event)) error {
				return host.Reload(ctx, c.Records, host.ReloadOptions{Now: c.Now()}, report)
			})
		}
		done = append(done, lines...)
		if err != nil {
			done = append(done, "NOT done: "+host.Summary(err))
		}
	}
	return done
}

// did are the lines about what was done, without those about what was left alone.
func did(do func(report func(host.Event)) error) (lines []string, err error) {
	err = do(func(e host.Event) {
		if e.Action != host.Left {
			lines = append(lines, strings.Split(e.String(), "\n")...)
		}
	})
	return lines, err
}
