package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/spf13/cobra"
)

func (p *program) networkInspectCommand() *cobra.Command {
	var how shape
	c := &cobra.Command{
		Use:   "inspect [flags] NAME...",
		Short: "Show networks with their containers",
		Long: `Show networks: what they were made with, and which containers of this host are on
them, with their addresses, published ports and names; of one that spans hosts also
which host owns which blocks of addresses. As JSON one network is an object, several
are a list.

` + exitCodes,
		Example: `  berth network inspect my-bridge
  berth network inspect --format json my-bridge | jq '.containers[].addresses'
  berth network inspect --format '{{range .Containers}}{{.Name}} {{end}}' my-bridge`,
		Args: arguments(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			n, err := p.networks().All(c.Context())
			if err != nil {
				return err
			}
			var errs []error
			var found []shownNetwork
			all := shown(n)
			for _, name := range args {
				i := slices.IndexFunc(all, func(v shownNetwork) bool { return v.line().name == name })
				if i < 0 {
					errs = append(errs, p.noNetwork(name))
					continue
				}
				found = append(found, all[i])
			}
			return errors.Join(append(errs, p.writeNetworks(&how, found, len(args) == 1))...)
		},
	}
	f := c.Flags()
	f.SortFlags = false
	addFlag(f, how.value(), "format", "how to write")
	p.settings.storeFlags(f)
	return c
}

// noNetwork says that there is none of that name, as far as was looked.
func (p *program) noNetwork(name string) error {
	files, _ := p.netDir().List()
	if f := conflist.Find(files, name); f != nil && !p.settings.named {
		return fmt.Errorf("network %s: spans hosts: --etcd-endpoints or --peers-file says which store has it", name)
	}
	if p.settings.named {
		return fmt.Errorf("network %s: is not in %s, and %w", name, p.settings.netDir, overlay.ErrNotFound)
	}
	return fmt.Errorf("network %s: is not in %s, and no store of networks that span hosts is named", name, p.settings.netDir)
}

func (p *program) writeNetworks(how *shape, found []shownNetwork, single bool) error {
	if len(found) == 0 {
		return nil
	}
	if single && how.each == nil && !how.table() {
		return writeJSON(p.out, found[0])
	}
	if !how.table() {
		return writeShape(p.out, how, found, nil)
	}
	for i, v := range found { // a table each: they have columns of their own
		if i > 0 {
			fmt.Fprintln(p.out)
		}
		w := tabwriter.NewWriter(p.out, 0, 0, 3, ' ', 0)
		v.table(io.Writer(w))
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}
