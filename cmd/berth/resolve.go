package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/spf13/cobra"
)

// resolved is a container that has a name or an address.
type resolved struct {
	Network   string   `json:"network"`
	Container string   `json:"container"`
	Interface string   `json:"interface"`
	Addresses []string `json:"addresses"`
	Names     []string `json:"names"`
}

func (p *program) resolveCommand() *cobra.Command {
	var s shape
	c := &cobra.Command{
		Use:   "resolve [flags] NAME|ADDRESS",
		Short: "Look up a container's addresses by its name",
		Long: `Look up the addresses of a container by a name that it has on a network with names: its
own, an alias or its short ID, by itself or as NAME.NETWORK or NAME.NETWORK.berth; or the
names of the one that has an address. The agent is asked, which knows the containers of this
host, and on overlay networks those of others. Each network that has the name is a line.

With --quiet only addresses are written, which a shell can take.

` + exitCodes,
		Example: `  berth resolve web
  berth resolve web.my-bridge
  curl http://$(berth resolve -q web.my-bridge | head -n 1)/
  berth resolve 172.18.0.2`,
		Args: arguments(cobra.ExactArgs(1)),
	}
	quiet := false
	c.RunE = func(c *cobra.Command, args []string) error { return p.resolve(c.Context(), &s, quiet, args[0]) }
	f := c.Flags()
	f.SortFlags = false
	addShort(f, onOff(&quiet), "quiet", "q", "only addresses")
	addFlag(f, s.value(), "format", "how to write")
	p.settings.recordsFlag(f)
	return c
}

func (p *program) resolve(ctx context.Context, s *shape, quiet bool, word string) error {
	found, err := names.Find(ctx, attach.New(p.settings.stateDir, nil).Dir(), word)
	if err != nil {
		return fmt.Errorf("look up %s: %w", word, err)
	}
	if len(found) == 0 {
		return fmt.Errorf("no container is called %s, or has that address, on a network with names", word)
	}
	var all []resolved
	for _, e := range found {
		r := resolved{Network: e.Network, Container: e.Container, Interface: e.IfName, Names: e.Names, Addresses: []string{}}
		for _, a := range e.Addresses {
			r.Addresses = append(r.Addresses, a.String())
		}
		all = append(all, r)
	}
	if quiet {
		for _, r := range all {
			fmt.Fprintln(p.out, strings.Join(r.Addresses, "\n"))
		}
		return nil
	}
	return writeShape(p.out, s, all, func(out io.Writer) {
		row(out, "NETWORK", "ADDRESSES", "NAMES")
		for _, r := range all {
			row(out, r.Network, strings.Join(r.Addresses, ", "), strings.Join(r.Names, ", "))
		}
	})
}
