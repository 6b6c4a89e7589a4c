package main

import (
	"context"
	"fmt"
	"io"
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
	var o psOptions
	c := &cobra.Command{
		Use:   "ps [flags]",
		Short: "List the attachments of this host",
		Long: `List what the containers of this host are attached to: one line for each interface
of a container on a network. It reads the records only, and needs no agent.

A container is shown by its name, or where the runtime gave none, by the start of its
ID. ADDRESSES are those in the container, PORTS what this host publishes of it, NAMES
what it is called on a network with names. With --wide also: its MAC, the host's end
of the interface, the plugin, and its namespace with what has become of that: there,
or gone ('berth gc' removes what such a container has left).

Filters of one key are alternatives, those of several keys must all fit:
  network=NAME   on this network
  name=TEXT      with this text in its name, one of its names, or at the start of its ID

A template of Go is written for each attachment, with the fields .Name .Container
.Network .Interface .Addresses .Ports .Names .MAC .HostInterface .Plugin .Netns
.Namespace .Created .Age .Removing.

` + exitCodes,
		Example: `  berth ps
  berth ps --wide --filter network=blue --filter network=green
  berth ps --format '{{.Name}} {{index .Addresses 0}}'
  berth ps --format json | jq -r '.[] | select(.ports).container'
  berth ps -q --filter name=web`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return p.ps(c.Context(), &o) },
	}
	flags := c.Flags()
	addFlag(flags, onOff(&o.wide), "wide", "more columns")
	addFlag(flags, o.filter.value(), "filter", "only those that fit: network=NAME, name=TEXT")
	addFlag(flags, o.shape.value(), "format", "how to write")
	flags.VarPF(onOff(&o.quiet), "quiet", "q", "the containers' IDs only").NoOptDefVal = "true"
	flags.SortFlags = false
	p.settings.recordsFlag(flags)
	return c
}

type psOptions struct {
	wide, quiet bool
	filter      psFilter
	shape       shape
}

func (p *program) ps(ctx context.Context, o *psOptions) error {
	records, err := p.records(ctx)
	if err != nil {
		return err
	}
	var links host.Links
	if !o.quiet && (o.wide || !o.shape.table()) {
		if links, err = host.ListLinks(); err != nil {
			return err
		}
	}
	all := inspect.Attachments(records, o.filter.fits, links, p.now())
	if o.quiet {
		last := ""
		for _, v := range all { // sorted: those of a container are together
			if v.Container != last {
				fmt.Fprintln(p.out, v.Container)
			}
			last = v.Container
		}
		return nil
	}
	return writeShape(p.out, &o.shape, all, func(w io.Writer) {
		head := []any{"CONTAINER", "NETWORK", "INTERFACE", "ADDRESSES", "PORTS", "NAMES", "AGE"}
		if o.wide {
			head = append(head, "MAC", "HOST INTERFACE", "PLUGIN", "NAMESPACE")
		}
		row(w, head...)
		for _, v := range all {
			row(w, cells(&v, o.wide)...)
		}
	})
}
