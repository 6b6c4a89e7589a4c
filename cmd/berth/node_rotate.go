package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/wireguard"
	"github.com/spf13/cobra"
)

func (p *program) nodeRotateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rotate-key",
		Short: "Replace this host's key of encrypted networks",
		Long: `Replace this host's key of encrypted networks. The key is made at once, and this host's
agent replaces the old one without a loss: the hosts send to each other by a second
device, from and to the network's UDP port plus 10000, until all of them know the new
key. A host whose agent does not run, though its containers may, is waited for. Hosts
take turns.

It is not for a file of peers: write another key there.

` + exitCodes,
		Args: arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			err := wireguard.Rotate(cmp.Or(p.settings.dataDir, overlay.DataDir()))
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("this host has no key: does 'berth agent' run here? %w", err)
			}
			return err
		},
	}
}
