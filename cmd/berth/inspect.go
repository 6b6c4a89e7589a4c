package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/inspect"
	"github.com/spf13/cobra"
)

func (p *program) inspectCommand() *cobra.Command {
	var o inspectOptions
	c := &cobra.Command{
		Use:   "inspect [flags] CONTAINER|NETWORK...",
		Short: "Show everything of containers and networks of this host, as JSON",
		Long: `Show everything that this host knows of containers and networks, as a list in JSON.

A container is named by its ID, the start of it, its name or one of its aliases. Of
each of its attachments come the record with its steps, the host's end of the
interface with its counters, the elements of the firewall that belong to it, its
names, and what a check of every step says: ok, or what is wrong.

Of a network come what the host remembers of it, its bridge or parent, what an overlay
network is on this host, and its attachments. A word that is both shows both.

It works without the agent; names are then a problem of the check. Where iptables is
the firewall, it runs iptables-save.

` + exitCodes,
		Example: `  berth inspect web
  berth inspect --type network blue
  berth inspect web | jq '.[0].attachments[].check'
  berth inspect --format '{{range .Attachments}}{{.Check.OK}} {{end}}' web`,
		Args: arguments(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error { return p.inspect(c.Context(), &o, args) },
	}
	flags := c.Flags()
	addFlag(flags, oneOf(&o.kind, "any", inspect.KindContainer, inspect.KindNetwork), "type", "what the words name")
	addShort(flags, o.shape.value(formatJSON), "format", "f", "how to write")
	p.settings.netDirFlag(c.Flags())
	p.settings.hostFlags(flags)
	return c
}

// write writes JSON for people, unless a template was asked for.
func (o *inspectOptions) write(w io.Writer, all []any) error {
	if o.shape.each != nil {
		return writeTemplate(w, &o.shape, all)
	}
	return writeJSON(w, all)
}

type inspectOptions struct {
	kind  string
	shape shape
}

// inspect shows what the words name. One that names nothing does not keep the others.
func (p *program) inspect(ctx context.Context, o *inspectOptions, words []string) error {
	// The check of names asks the agent of the folder that the environment names.
	if err := os.Setenv(attach.DirEnv, p.settings.stateDir); err != nil {
		return err
	}
	i, err := inspect.Look(ctx, inspect.Config{Store: p.hostStore(), DataDir: p.settings.dataDir, Now: p.now(), Warn: p.warn})
	if err != nil {
		return err
	}
	names, err := networkNames(ctx, p.networks().Local, words)
	if err != nil {
		return err
	}
	all := []any{}
	var errs []error
	for k, word := range words {
		found := len(all)
		if o.kind != inspect.KindNetwork {
			id, err := inspect.Find(i.Records, word)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			if id != "" {
				all = append(all, i.Container(ctx, id))
			}
		}
		if o.kind != inspect.KindContainer {
			if n := i.Network(names[k]); n != nil {
				all = append(all, n)
			}
		}
		if len(all) == found {
			what := map[string]string{"any": "container or network"}[o.kind]
			if what == "" {
				what = o.kind
			}
			errs = append(errs, fmt.Errorf("%s: this host has no such %s", host.Printable(word), what))
		}
	}
	err = o.write(p.out, all)
	return errors.Join(append(errs, err)...)
}
