package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/conflist"
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
			if err := p.disconnect(c.Context(), args[0], args[1], force); err != nil {
				return fmt.Errorf("disconnect %s from network %s: %w", args[1], args[0], err)
			}
			return nil
		},
	}
	addShort(c.Flags(), onOff(&force), "force", "f", "it is no error when there is nothing to detach")
	return c
}

func (p *program) disconnect(ctx context.Context, network, word string, force bool) error {
	records, err := p.records(ctx)
	if err != nil {
		return err
	}
	c, err := meantContainer(records, word)
	if err != nil {
		if force {
			p.warn(err)
			return nil
		}
		return err
	}
	var errs []error
	found := false
	for _, role := range []attach.Role{attach.Chained, attach.Main} { // as a DEL
		for _, a := range c.records {
			if a.Network != network || a.Role != role {
				continue
			}
			found = true
			errs = append(errs, p.disconnectOne(ctx, a))
		}
	}
	if !found && !force {
		return errors.New("is not connected to it")
	}
	return errors.Join(errs...)
}

func (p *program) disconnectOne(ctx context.Context, a *attach.Attachment) error {
	switch a.Plugin {
	case conflist.Host:
		return errHostMode
	case conflist.Share:
		return errSharedMode
	}
	if err := p.hostStore().Disconnect(ctx, a.Key); err != nil && !errors.Is(err, attach.ErrNotFound) {
		return err
	}
	if !a.Connected && a.Role == attach.Main {
		p.warn(fmt.Errorf("the container's runtime made %s of it and is not told: it goes on to show it", a.IfName))
	}
	return nil
}
