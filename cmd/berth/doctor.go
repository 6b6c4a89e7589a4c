package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// problem is what is wrong, why it matters, and what mends it.
type problem struct {
	What string `json:"what"`
	Why  string `json:"why"`
	Mend string `json:"mend"` // a command, or what to do
}

// check is one thing that the doctor looks at. look returns an error when it could
// not look.
type check struct {
	name string
	look func(*facts) ([]problem, error)
}

// checks are all of them, in the order in which they are shown: what causes the
// others comes first.
var checks = []check{
	{"the agent runs", checkAgent},
	{"the store answers", checkStore},
	{"this host may use its networks", checkRefused},
	{"networks work", checkNetworks},
	{"VXLAN devices are there and up", checkDevices},
	{"the host forwards packets", checkForwarding},
	{"the MTU fits the underlay", checkMTU},
	{"other hosts are reached", checkProbes},
	{"blocks have free addresses", checkBlocks},
	{"subnets are nobody else's", checkOverlaps},
	{"the store holds valid data", checkStoreData},
}

// report is what the doctor found.
type report struct {
	Note   string    `json:"note,omitempty"`
	Checks []finding `json:"checks"`
}

type finding struct {
	Check    string    `json:"check"`
	OK       bool      `json:"ok"`
	Problems []problem `json:"problems"`
	Error    string    `json:"error,omitempty"` // why it could not look
}

// examine runs the checks.
func examine(f *facts, checks []check) *report {
	r := &report{Checks: []finding{}}
	if f.unused() {
		r.Note = "This host takes no part in overlay networks: no agent runs, and " + f.DataDir + " knows of none."
	}
	for _, c := range checks {
		problems, err := c.look(f)
		found := finding{Check: c.name, OK: err == nil && len(problems) == 0, Problems: append([]problem{}, problems...)}
		if err != nil {
			found.Error = err.Error()
		}
		r.Checks = append(r.Checks, found)
	}
	return r
}

// code is the program's exit code: problems found matter more than what could not
// be looked at.
func (r *report) code() int {
	code := exitDone
	for _, c := range r.Checks {
		switch {
		case len(c.Problems) > 0:
			return exitFailed
		case c.Error != "":
			code = exitUsage
		}
	}
	return code
}

// Marks of a line, and their colours at a terminal (ECMA-48, SGR).
const (
	green, red, yellow, plain = "\x1b[32m", "\x1b[31m", "\x1b[33m", "\x1b[0m"
)

func (r *report) write(w io.Writer, colours bool) {
	paint := func(colour, s string) string {
		if !colours {
			return s
		}
		return colour + s + plain
	}
	indent := func(label, text string) {
		fmt.Fprintf(w, "        %s %s\n", label, strings.ReplaceAll(text, "\n", "\n              "))
	}
	if r.Note != "" {
		fmt.Fprintln(w, r.Note)
	}
	for _, c := range r.Checks {
		switch {
		case c.OK:
			fmt.Fprintf(w, "%s    %s\n", paint(green, "ok"), c.Check)
			continue
		case len(c.Problems) == 0:
			fmt.Fprintf(w, "%s     %s\n", paint(yellow, "?"), c.Check)
		default:
			fmt.Fprintf(w, "%s   %s\n", paint(red, "BAD"), c.Check)
		}
		if c.Error != "" {
			indent("what:", "could not look: "+c.Error)
		}
		for _, p := range c.Problems {
			indent("what:", p.What)
			indent("why: ", p.Why)
			indent("mend:", p.Mend)
		}
	}
}

func (p *program) doctorCommand() *cobra.Command {
	var f format
	c := &cobra.Command{
		Use:   "doctor [flags]",
		Short: "Tell what is wrong on this host, and what mends it",
		Long: `Look at this host's part of the overlay networks: the agent, the store, devices,
MTU, black holes on the way to other hosts, blocks, subnets. Each problem comes with
why it matters and the command that mends it. It changes nothing.

Exit codes: 0 all is well; 1 problems found; 2 it could not look at everything, and
found no problem in the rest, or the command line is wrong.`,
		Example: "  berth doctor\n  berth doctor --format json | jq '.checks[] | select(.ok | not)'",
		Args:    arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return p.diagnose(c.Context(), f.word == formatJSON)
		},
	}
	f.flag(c.Flags())
	p.settings.storeFlags(c.Flags())
	p.settings.hostFlags(c.Flags())
	return c
}

func (p *program) diagnose(ctx context.Context, asJSON bool) error {
	r := examine(p.gather(ctx), checks)
	if asJSON {
		if err := writeJSON(p.out, r); err != nil {
			return err
		}
	} else {
		r.write(p.out, terminal(p.out))
	}
	if code := r.code(); code != exitDone {
		return exitError(code)
	}
	return nil
}
