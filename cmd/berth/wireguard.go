package main

import (
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/berth-cni/berth/pkg/overlay/wireguard"
	"github.com/spf13/cobra"
)

// wireguardName is the hidden command that has a device in user space.
const wireguardName = "wireguard"

// wireguardCommand is for the agent, which starts it detached.
func (p *program) wireguardCommand() *cobra.Command {
	mtu := 0
	c := &cobra.Command{
		Use:    wireguardName + " [flags] DEVICE",
		Short:  "Have a WireGuard device in user space",
		Hidden: true,
		Long: `Have a WireGuard device in user space, for a kernel without WireGuard. The agent starts
it for each encrypted network; it outlives the agent, and ends on SIGTERM or when its
device is deleted. 'wg show DEVICE' shows it. It says "ready" when the device is there.

` + exitCodes,
		Args: arguments(cobra.ExactArgs(1)),
		// The configuration file is the agent's.
		PersistentPreRunE: func(*cobra.Command, []string) error { return nil },
		RunE: func(c *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return wireguard.Serve(ctx, args[0], mtu, os.Stdout, log.New(p.err, args[0]+": ", log.LstdFlags))
		},
	}
	c.Flags().IntVar(&mtu, "mtu", 1420, "MTU of the device in bytes")
	return c
}
