package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/berth-cni/berth/pkg/host"
	"github.com/spf13/cobra"
)

func (p *program) reloadCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "reload [flags] [NETWORK...]",
		Short: "Put back what somebody took away from containers",
		Long: `Compare everything that the containers of this host were given with their records,
and put back what is missing: after 'nft flush ruleset', a reload of firewalld, a
bridge or an interface that somebody deleted, an agent that has ended. Without names
of networks, all of them.

The firewall is made anew as a whole, with nftables in one transaction in which no
packet sees a gap. It is that of all networks, whichever are named. What is in order
is not touched otherwise, and no container is restarted. A container whose interface
has to be made again loses its connections for that moment.

One line is written for each container that something was wrong with. Containers whose
namespace is gone are left to 'berth gc'. Addresses of another IPAM plugin are left as
they are.

` + exitCodes,
		Example: `  nft flush ruleset; berth reload
  berth reload blue green`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			return p.reload(c.Context(), args)
		},
	}
	p.settings.recordsFlag(c.Flags())
	return c
}

// reload puts back what is missing on these networks, or on all.
func (p *program) reload(ctx context.Context, networks []string) error {
	return host.Reload(ctx, p.hostStore(), host.ReloadOptions{Networks: networks, Now: p.now()}, func(e host.Event) {
		e.Why = strings.ReplaceAll(e.Why, "\n", "\n              ")
		line := e.String()
		if e.Action == host.Left { // under one another
			line = strings.TrimSuffix("left:     "+e.What+": "+e.Why, ": ")
		}
		fmt.Fprintln(p.out, line)
	})
}
