package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/berth-cni/berth/pkg/overlay"
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

It works without the agent; names are then a problem of the check. For the elements
of the firewall it runs nft or iptables-save.

` + exitCodes,
		Example: `  berth inspect web
  berth inspect --type network blue
  berth inspect web | jq '.[0].attachments[].check'
  berth inspect --format '{{range .Attachments}}{{.Check.OK}} {{end}}' web`,
		Args: arguments(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error { return p.inspect(c.Context(), &o, args) },
	}
	flags := c.Flags()
	addFlag(flags, oneOf(&o.kind, "any", kindContainer, kindNetwork), "type", "what the words name")
	addFlag(flags, o.shape.value(formatJSON), "format", "how to write")
	p.settings.hostFlags(flags)
	return c
}

type inspectOptions struct {
	kind  string
	shape shape
}

const (
	kindContainer = "container"
	kindNetwork   = "network"
)

// inspect shows what the words name. One that names nothing does not keep the others.
func (p *program) inspect(ctx context.Context, o *inspectOptions, words []string) error {
	i, err := p.newInspector(ctx)
	if err != nil {
		return err
	}
	all := []any{}
	var errs []error
	for _, word := range words {
		found := len(all)
		if o.kind != kindNetwork {
			id, err := findContainer(i.records, word)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			if id != "" {
				all = append(all, i.container(ctx, id))
			}
		}
		if o.kind != kindContainer {
			if n := i.network(word); n != nil {
				all = append(all, n)
			}
		}
		if len(all) == found {
			what := map[string]string{"any": "container or network"}[o.kind]
			if what == "" {
				what = o.kind
			}
			errs = append(errs, fmt.Errorf("%s: this host has no such %s", printable(word), what))
		}
	}
	err = writeShape(p.out, &o.shape, all, func(io.Writer) {})
	return errors.Join(append(errs, err)...)
}

// inspector has what is looked at once.
type inspector struct {
	*program
	records  []*attach.Attachment
	known    []attach.Network
	locals   []*overlay.Local
	links    host.Links
	counters map[string]counters
}

func (p *program) newInspector(ctx context.Context) (*inspector, error) {
	i := &inspector{program: p}
	// The check of names asks the agent of the folder that the environment names.
	if err := os.Setenv(attach.DirEnv, p.settings.stateDir); err != nil {
		return nil, err
	}
	var err error
	if i.records, err = p.records(ctx); err != nil {
		return nil, err
	}
	err = p.hostStore().View(ctx, func(tx *attach.Tx) (err error) {
		i.known, err = tx.Networks()
		return err
	})
	if err != nil {
		return nil, err
	}
	if i.locals, err = overlay.ListLocal(p.settings.dataDir); err != nil {
		p.warn(err)
	}
	if i.links, err = host.ListLinks(); err != nil {
		return nil, err
	}
	i.counters, err = readCounters()
	return i, err
}

// findContainer returns the ID of the container that a word names: its ID, else its
// name, else one of its names, else the start of its ID. Empty when there is none, an
// error when there are several.
func findContainer(all []*attach.Attachment, word string) (string, error) {
	for _, is := range []func(*attach.Attachment) bool{
		func(a *attach.Attachment) bool { return a.Container == word },
		func(a *attach.Attachment) bool {
			return names.Called(a) == word || a.Args["K8S_POD_NAMESPACE"] != "" && a.Args["K8S_POD_NAMESPACE"]+"/"+a.Args["K8S_POD_NAME"] == word
		},
		func(a *attach.Attachment) bool { return slices.Contains(names.Registered(a), strings.ToLower(word)) },
		func(a *attach.Attachment) bool { return strings.HasPrefix(a.Container, word) },
	} {
		var ids []string
		for _, a := range all {
			if is(a) && !slices.Contains(ids, a.Container) {
				ids = append(ids, a.Container)
			}
		}
		switch {
		case len(ids) > 1:
			return "", fmt.Errorf("%s: %d containers have it: %s", printable(word), len(ids), host.Some(ids))
		case len(ids) == 1:
			return ids[0], nil
		}
	}
	return "", nil
}
