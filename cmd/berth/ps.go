package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/inspect"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// recordsFlag is what a command needs that looks at this host's records only.
func (s *settings) recordsFlag(f *pflag.FlagSet) {
	dir := attach.New("", nil).Dir() // which reads the environment
	addFlag(f, text(&s.stateDir, "folder", dir, nil), "state-dir", "what a reboot takes away: records and leases")
}

// records are all attachments of this host that can be read.
func (p *program) records(ctx context.Context) ([]*attach.Attachment, error) {
	return inspect.Records(ctx, p.hostStore(), p.warn)
}

// warn tells a person what does not end the command.
func (p *program) warn(err error) {
	fmt.Fprintf(p.err, "berth: warning: %s\n", strings.ReplaceAll(err.Error(), "\n", "\n       "))
}

func (p *program) psCommand() *cobra.Command {
	o := psOptions{shape: shape{thing: "CONTAINER"}, last: -1}
	c := &cobra.Command{
		Use:   "ps [flags]",
		Short: "List the attachments of this host",
		Long: `List what the containers of this host are attached to: one line for each interface
of a container on a network. It reads the records only, and needs no agent. Those of
containers that have ended are shown, too.

A container is shown by its name, or where the runtime gave none, by the start of its
ID. ADDRESSES are those in the container, PORTS what this host publishes of it, NAMES
what it is called on a network with names. With --wide also: its MAC, the host's end
of the interface, the plugin, and its namespace with what has become of that: there,
or gone ('berth gc' removes what such a container has left).

Filters of one key are alternatives, those of several keys must all fit:
  network=NAME   on this network, by its name or ID
  name=TEXT      with this text in its name, one of its names, or at the start of its ID
  id=START       whose container's ID begins so
  status=WORD    running, exited (its namespace is gone) or removing

A template of Go is written for each attachment, after a head if it begins with "table",
with the fields .ID .Name .Container .Network .Interface .Addresses .Ports .Names .MAC
.HostInterface .Plugin .Netns .Namespace .Created .CreatedAt .Age .RunningFor .State
.Status .Removing. JSON is a line for each.

` + exitCodes,
		Example: `  berth ps
  berth ps --wide -f network=blue -f network=green
  berth ps --format 'table {{.ID}}\t{{.Name}}\t{{join .Addresses " "}}'
  berth ps --format json | jq -r 'select(.ports).container'
  berth ps -q -f name=web`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return p.ps(c.Context(), &o) },
	}
	flags := c.Flags()
	flags.SortFlags = false
	all := true
	addShort(flags, onOff(&all), "all", "a", "those that have ended, too, which are always shown")
	addFlag(flags, onOff(&o.wide), "wide", "more columns")
	addShort(flags, o.filter.value(), "filter", "f", "only those that fit: network=, name=, id=, status=")
	addFlag(flags, o.shape.value(), "format", "how to write")
	addShort(flags, number(&o.last, "number", -1, math.MaxInt32), "last", "n", "only so many, those that were made last; -1: all")
	addShort(flags, onOff(&o.latest), "latest", "l", "the one that was made last")
	addFlag(flags, onOff(&o.whole), "no-trunc", "IDs as a whole")
	addShort(flags, onOff(&o.quiet), "quiet", "q", "the containers' IDs only")
	p.settings.netDirFlag(c.Flags())
	p.settings.recordsFlag(flags)
	return c
}

type psOptions struct {
	wide, quiet, whole bool
	latest             bool
	last               int // -1: all
	filter             psFilter
	shape              shape
}

func (p *program) ps(ctx context.Context, o *psOptions) error {
	records, err := p.records(ctx)
	if err != nil {
		return err
	}
	if on := o.filter["network"]; on != nil {
		if o.filter["network"], err = networkNames(ctx, p.networks().Local, on); err != nil {
			return err
		}
	}
	var links host.Links
	if o.wide || !o.shape.table() || len(o.filter["status"]) > 0 {
		if links, err = host.ListLinks(); err != nil {
			return err
		}
	}
	if o.latest {
		o.last = 1
	}
	all := last(inspect.Attachments(records, o.filter.fits, links, p.now()), o.last)
	if o.quiet {
		before := ""
		for _, v := range all { // sorted: those of a container are together
			if v.Container != before {
				fmt.Fprintln(p.out, shownID(v.Container, o.whole))
			}
			before = v.Container
		}
		return nil
	}
	lines := []psLine{}
	for i := range all {
		lines = append(lines, psLine{&all[i], o.whole})
	}
	return writeShape(p.out, &o.shape, lines, func(w io.Writer) { o.table(w, all) })
}

func (o *psOptions) table(w io.Writer, all []inspect.Attachment) {
	head := []any{"NAME", "NETWORK", "INTERFACE", "ADDRESSES", "PORTS", "NAMES", "AGE"}
	if o.wide {
		head = append(head, "MAC", "HOST INTERFACE", "PLUGIN", "NAMESPACE")
	}
	row(w, append([]any{"CONTAINER ID"}, head...)...)
	for _, v := range all {
		row(w, append([]any{shownID(v.Container, o.whole)}, cells(&v, o.wide)...)...)
	}
}
