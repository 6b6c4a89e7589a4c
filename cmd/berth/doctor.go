package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/doctor"
	"github.com/spf13/cobra"
)

// exitCode is the program's: problems found matter more than what could not
// be looked at.
func exitCode(r *doctor.Report) int {
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

func writeReport(w io.Writer, r *doctor.Report, colours bool) {
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
and ours: it switches forwarding on, and does what 'berth gc' and 'berth reload' do.
Before that it rebuilds the records, where the state file is damaged or was removed, or
containers live that no record has: from what can be read of the file, from what
runtimes keep of their ADDs (libcni's cache in /var/lib/cni), and from the kernel. The
damaged file is kept beside the new one. It says which containers nobody knows: their
addresses and ports are kept from others until they are gone. It starts an agent when
none runs and containers need their names; it restarts nothing,
and leaves the rules of other firewalls alone, but for those that let our bridges
through. It says what it did, and looks again.

For each network with names, one question is asked from inside one of its containers.

Exit codes: 0 all is well; 1 problems found, or with --fix, left; 2 it could not look
at everything, and found no problem in the rest, or the command line is wrong.`,
		Example: "  berth doctor\n  berth doctor --fix\n  berth doctor --format json | jq '.checks[] | select(.ok | not)'",
		Args:    arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return p.diagnose(c, f.word == formatJSON, fix)
		},
	}
	addFlag(c.Flags(), onOff(&fix), "fix", "mend what can be mended safely, and look again")
	f.flag(c.Flags())
	p.settings.storeFlags(c.Flags())
	p.settings.hostFlags(c.Flags())
	return c
}

// hostDoctor is a doctor that looks at this host, and does not ask the store.
func (p *program) hostDoctor(c *cobra.Command) doctor.Config {
	return doctor.Config{Records: p.hostStore(), ConfDir: conflist.Dir(netDirOf(c)), PluginDirs: pluginDirs(), DataDir: p.settings.dataDir, Listen: p.settings.listen, Now: p.now}
}

func (p *program) diagnose(c *cobra.Command, asJSON, fix bool) error {
	s := &p.settings
	look := p.hostDoctor(c)
	look.StoreName, look.State, look.Tokens, look.Named = s.storeName(), p.readState, s.store != storeStatic, s.named
	r := doctor.Diagnose(c.Context(), look, fix)
	if asJSON {
		if err := writeJSON(p.out, r); err != nil {
			return err
		}
	} else {
		writeReport(p.out, r, terminal(p.out))
	}
	if code := exitCode(r); code != exitDone {
		return exitError(code)
	}
	return nil
}
