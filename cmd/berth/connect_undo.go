package main

import (
	"github.com/berth-cni/berth/pkg/connect"
	"github.com/spf13/cobra"
)

func (p *program) networkDisconnectCommand() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "disconnect [flags] NETWORK CONTAINER",
		Short: "Detach a container from a network",
		Long: `Detach a container from a network: its interface goes, its address, published ports and
names on it.

` + whichContainer + `

What its runtime attached can be detached, too. The runtime is not told: it goes on to
show the address, and its own DEL at the container's end finds nothing to do. Names are
found no more where the container's resolv.conf has the gateway of that network. A
container without a network of its own (the modes host and container-share) is refused.

` + exitCodes,
		Example: "  berth network disconnect my-bridge web",
		Args:    arguments(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, args []string) error {
			network, err := p.networkName(c.Context(), args[0])
			if err != nil {
				return err
			}
			return connect.Disconnect(c.Context(), p.connectConfig(), network, args[1], force)
		},
	}
	addShort(c.Flags(), onOff(&force), "force", "f", "it is no error when there is nothing to detach")
	return c
}
