package main

import (
	"fmt"

	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/agent"
	"github.com/spf13/cobra"
)

func (p *program) networkConflistCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "conflist [flags] NAME",
		Short: "Print a network's conflist for a CNI runtime",
		Long: `Print what a runtime needs to attach containers to a network. Of one of this host that
is the file in --net-dir. Of one that spans hosts it is the same on every host, and holds
the name only: all else comes from the store. The agent's --conf-dir writes it for every
such network by itself.

` + exitCodes,
		Example: "  berth network conflist blue > /etc/cni/net.d/20-blue.conflist",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			files, _ := p.netDir().List() // what cannot be read is not of this name
			if f := conflist.Find(files, args[0]); f != nil && f.Driver() != driverOverlay {
				_, err := p.out.Write(f.Data)
				return err
			}
			return p.withState(c.Context(), func(s *overlay.State) error {
				if _, ok := s.Networks[args[0]]; !ok {
					return fmt.Errorf("network %s: %w", args[0], overlay.ErrNotFound)
				}
				_, err := p.out.Write(agent.Conflist(args[0]))
				return err
			})
		},
	}
	p.settings.storeFlags(c.Flags())
	return c
}
