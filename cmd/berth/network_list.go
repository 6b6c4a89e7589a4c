package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"
)

func (p *program) networkListCommand() *cobra.Command {
	o := listOptions{shape: shape{thing: "NETWORK"}}
	c := &cobra.Command{
		Use:     "ls [flags]",
		Aliases: []string{"list"},
		Short:   "List the networks",
		Long: `List the networks of this host, of all authors, and those of the store where one is
named. A store that does not answer is a warning.

Filters of one key are alternatives, those of several keys must all fit:
  name=TEXT                  with this text in its name
  id=TEXT                    with this text in its ID
  driver=NAME                bridge, macvlan, ipvlan, overlay, host, null, or another's
  scope=local|global         of this host, or one that spans hosts
  type=custom|builtin        that somebody made, or that is there by itself
  label=KEY, label=KEY=VALUE with this label
  dangling=true|false        without containers on this host, or with some

A template of Go is written for each network, after a head if it begins with "table", with
Docker's fields .ID .Name .Driver .Scope .CreatedAt .IPv4 .IPv6 .Internal .Labels .Label,
and .Subnets .Created .Isolate .NoICC .GatewayModeIPv4 .GatewayModeIPv6 .MTU .Containers.
JSON is a line for each, as Docker writes it.

` + exitCodes,
		Example: `  berth network ls
  berth network ls -f driver=bridge -f label=team=web
  berth network ls --format 'table {{.Name}}\t{{.Driver}}\t{{len .Containers}}'
  berth network ls --format json | jq -r .Name
  berth network rm $(berth network ls -q -f label=team=web)`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return p.listNetworks(c.Context(), &o) },
	}
	f := c.Flags()
	f.SortFlags = false
	addShort(f, o.filter.value(), "filter", "f", "only those that fit: name=, id=, driver=, scope=, type=, label=, dangling=")
	addFlag(f, o.shape.value(), "format", "how to write")
	addFlag(f, onOff(&o.whole), "no-trunc", "IDs as a whole")
	addShort(f, onOff(&o.quiet), "quiet", "q", "the IDs only")
	p.settings.storeFlags(f)
	return c
}

type listOptions struct {
	filter       networkFilter
	shape        shape
	quiet, whole bool
}

func (p *program) listNetworks(ctx context.Context, o *listOptions) error {
	n, err := p.networks().All(ctx)
	if err != nil {
		return err
	}
	all := slices.DeleteFunc(shown(n), func(v shownNetwork) bool { return !o.filter.fits(v.line()) })
	if o.quiet {
		for _, v := range all {
			fmt.Fprintln(p.out, shownID(v.line().id, o.whole))
		}
		return nil
	}
	lines := []any{}
	for _, v := range all {
		lines = append(lines, v.listed(o.whole))
	}
	return writeShape(p.out, &o.shape, lines, func(w io.Writer) {
		row(w, "NETWORK ID", "NAME", "DRIVER", "SCOPE", "SUBNETS", "ON", "CONTAINERS", "OPTIONS")
		for _, v := range all {
			l := v.line()
			row(w, shownID(l.id, o.whole), l.name, l.driver, l.scope, list(l.subnets), l.on, l.containers, list(l.options))
		}
	})
}
