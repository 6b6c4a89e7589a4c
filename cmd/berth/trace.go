package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/inspect"
	"github.com/berth-cni/berth/pkg/trace"
	"github.com/spf13/cobra"
)

func (p *program) traceCommand() *cobra.Command {
	var o traceOptions
	c := &cobra.Command{
		Use:   "trace [flags] FROM TO:PORT[/udp]",
		Short: "Follow one flow of packets, and tell who drops it",
		Long: `Follow one flow of packets from FROM to TO, and the answer's way back: which routes and
rules it meets, who drops it, and what mends that. Each of the two is a container (its
name, its ID or the start of it), "host", or an address.

First what is there is looked at: routes, and what the records of both containers stand
for. Then one packet is sent, from inside the source: a TCP connection that is closed at
once, or an empty UDP datagram. nftables tells of each rule that it meets, ours and
others', also those that iptables-nft made; for that a table of the name berth-trace-NUMBER
is there meanwhile in each of the namespaces on the way, which the kernel removes when the
program ends, by whatever signal. Which rule of iptables from before nftables drops a packet
is asked with one more packet, for whose time the kernel's logger of packets is NFLOG.

Where the flow begins outside of this host, nothing can be sent: with --wait, the next
packet of it is followed that comes in.

Exit codes: 0 it arrives, or nothing was sent and nothing is wrong; 1 it does not; 2 the
command line is wrong.`,
		Example: `  berth trace web1 db:5432
  berth trace web1 10.1.2.3:53/udp
  berth trace --wait 30s 192.0.2.7 host:8080
  berth trace --format json web1 db:5432 | jq .why`,
		Args: arguments(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, args []string) error { return p.trace(c.Context(), &o, args[0], args[1]) },
	}
	flags := c.Flags()
	addFlag(flags, duration(&o.wait, 0, 0), "wait", "how long to wait for a packet from outside")
	addFlag(flags, onOff(&o.still), "still", "send nothing: only look at what is there")
	o.format.flag(flags)
	p.settings.hostFlags(flags)
	return c
}

type traceOptions struct {
	wait   time.Duration
	still  bool
	format format
}

func (p *program) trace(ctx context.Context, o *traceOptions, from, to string) error {
	// The check of names asks the agent of the folder that the environment names.
	if err := os.Setenv(attach.DirEnv, p.settings.stateDir); err != nil {
		return err
	}
	records, err := inspect.Records(ctx, p.hostStore(), p.warn)
	if err != nil {
		return err
	}
	r, err := trace.Follow(ctx, trace.Config{Records: records, Wait: o.wait, Still: o.still}, from, to)
	if err != nil {
		return usageError{err}
	}
	if o.format.word == formatJSON {
		err = writeJSON(p.out, r)
	} else {
		writeTrace(p.out, r, terminal(p.out))
	}
	if err == nil && r.Verdict != trace.Arrives && r.Verdict != trace.Unknown {
		return exitError(exitFailed)
	}
	return err
}

func writeTrace(w io.Writer, r *trace.Report, colours bool) {
	paint := func(colour, s string) string {
		if !colours {
			return s
		}
		return colour + s + plain
	}
	source := r.From
	if r.Source.IsValid() && r.Source.String() != r.From {
		source += " (" + r.Source.String() + ")"
	}
	target := r.Target.String()
	if host, port, err := net.SplitHostPort(target); err == nil && host != r.To {
		target = r.To + ":" + port + " (" + host + ")"
	}
	fmt.Fprintf(w, "%s -> %s, %s\n\n", source, target, r.Protocol)
	width := 0
	for _, s := range r.Steps {
		width = max(width, len(s.Place))
	}
	marks := map[trace.State]string{trace.OK: paint(green, "ok  "), trace.Bad: paint(red, "BAD "), trace.Note: paint(yellow, "note")}
	for _, s := range r.Steps {
		fmt.Fprintf(w, "%s  %-"+strconv.Itoa(width)+"s  %s\n", marks[s.State], s.Place, s.What)
	}
	fmt.Fprintln(w)
	switch r.Verdict {
	case trace.Arrives:
		fmt.Fprintln(w, paint(green, "It arrives."))
	case trace.Unknown:
		fmt.Fprintln(w, "Nothing is seen to be wrong, and nothing was sent.")
	default:
		fmt.Fprintf(w, "%s %s\n", paint(red, "It does not get through:"), r.Why)
		if r.Mend != "" {
			fmt.Fprintf(w, "mend: %s\n", r.Mend)
		}
	}
}
