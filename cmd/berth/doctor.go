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
	fix  []remedy // what is safe to do about its problems
	// overlay says that it is about overlay networks: nothing to look at where there
	// are none.
	overlay bool
}

// checks are all of them, in the order in which they are shown: what causes the
// others comes first.
var checks = []check{
	{"the kernel has what networks need", checkKernel, nil, false},
	{"the agent runs", checkAgent, nil, true},
	{"the store answers", checkStore, nil, true},
	{"this host may use its networks", checkRefused, nil, true},
	{"networks work", checkNetworks, nil, true},
	{"VXLAN devices are there and up", checkDevices, nil, true},
	{"the host forwards packets", checkForwarding, []remedy{remedyForwarding, remedyReload}, false},
	{"bridged frames are not dropped", checkBridgeNF, []remedy{remedyReload}, false},
	{"other firewalls let containers through", checkOtherFirewalls, []remedy{remedyReload}, false},
	{"records have a container", checkRecords, []remedy{remedyGC}, false},
	{"containers have what their records say", checkFaults, []remedy{remedyReload}, false},
	{"nothing is left without a record", checkStrangers, []remedy{remedyGC, remedyReload}, false},
	{"names are answered", checkNames, []remedy{remedyReload}, false},
	{"the MTU fits the way out", checkMTU, nil, false},
	{"other hosts are reached", checkProbes, nil, true},
	{"blocks have free addresses", checkBlocks, nil, true},
	{"subnets are nobody else's", checkOverlaps, nil, false},
	{"the store holds valid data", checkStoreData, nil, true},
}

// report is what the doctor found.
type report struct {
	Note string `json:"note,omitempty"`
	// Done is what --fix has done, before these checks.
	Done   []string  `json:"done,omitempty"`
	Checks []finding `json:"checks"`
}

type finding struct {
	Check    string    `json:"check"`
	OK       bool      `json:"ok"`
	Problems []problem `json:"problems"`
	Error    string    `json:"error,omitempty"` // why it could not look

	fix []remedy // the check's
}

// examine runs the checks.
func examine(f *facts, checks []check) *report {
	r := &report{Checks: []finding{}}
	if f.unused() {
		r.Note = "This host takes no part in overlay networks: " + f.DataDir + " knows of none."
	}
	for _, c := range checks {
		if c.overlay && f.unused() && f.State == nil && f.StoreErr == nil {
			continue
		}
		problems, err := c.look(f)
		found := finding{Check: c.name, OK: err == nil && len(problems) == 0, Problems: append([]problem{}, problems...), fix: c.fix}
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
	for _, line := range r.Done {
		fmt.Fprintf(w, "%s  %s\n", paint(yellow, "done"), line)
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
	var fix bool
	c := &cobra.Command{
		Use:   "doctor [flags]",
		Short: "Tell what is wrong on this host, and what mends it",
		Long: `Look at everything that containers of this host need: the kernel, forwarding, other
firewalls, records and what they stand for, what is left over, names as a container
asks for them, MTU, subnets; and at this host's part of the overlay networks: the
agent, the store, devices, black holes on the way to other hosts, blocks. Each problem
comes with why it matters and the command that mends it.

It changes nothing, unless --fix is given. Then it does of these commands what is safe
and ours: it switches forwarding on, and does what 'berth gc' and 'berth reload' do. It
starts an agent when none runs and containers need their names; it restarts nothing,
and leaves the rules of other firewalls alone, but for those that let our bridges
through. It says what it did, and looks again.

For each network with names, one question is asked from inside one of its containers.

Exit codes: 0 all is well; 1 problems found, or with --fix, left; 2 it could not look
at everything, and found no problem in the rest, or the command line is wrong.`,
		Example: "  berth doctor\n  berth doctor --fix\n  berth doctor --format json | jq '.checks[] | select(.ok | not)'",
		Args:    arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return p.diagnose(c.Context(), f.word == formatJSON, fix)
		},
	}
	addFlag(c.Flags(), onOff(&fix), "fix", "mend what can be mended safely, and look again")
	f.flag(c.Flags())
	p.settings.storeFlags(c.Flags())
	p.settings.hostFlags(c.Flags())
	return c
}

func (p *program) diagnose(ctx context.Context, asJSON, fix bool) error {
	facts := p.gather(ctx)
	r := examine(facts, checks)
	if fix {
		if done := p.mend(ctx, facts, r); len(done) > 0 {
			r = examine(p.gather(ctx), checks)
			r.Done = done
		}
	}
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
