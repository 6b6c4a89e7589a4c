package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/spf13/cobra"
)

func (p *program) networkInspectCommand() *cobra.Command {
	how := shape{thing: "NETWORK"}
	var verbose bool
	c := &cobra.Command{
		Use:   "inspect [flags] NETWORK...",
		Short: "Show networks with their containers",
		Long: `Show networks: what they were made with, and which containers of this host are on
them, with their addresses, published ports and names; of one that spans hosts also
which host owns which blocks of addresses. A network is named by its name, its ID or the
start of that.

At a terminal it is a sheet for people, else a list in JSON, as Docker prints it; with
--verbose what Docker has no words for is under the key Berth. --format table is the
sheet, --format json the list on one line. A template of Go has Docker's fields, and
those of 'berth network ls'.

` + exitCodes,
		Example: `  berth network inspect my-bridge
  berth network inspect my-bridge | jq '.[].Containers[].IPv4Address'
  berth network inspect -f '{{range .Containers}}{{.Name}} {{end}}' my-bridge
  berth network inspect -f '{{range .IPAM.Config}}{{.Subnet}}{{end}}' my-bridge`,
		Args: arguments(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if how.word == formatAuto && terminal(p.out) {
				how.word = formatTable
			}
			return p.inspectNetworks(c.Context(), &how, args, verbose)
		},
	}
	f := c.Flags()
	f.SortFlags = false
	addShort(f, how.value(formatAuto, formatTable, formatJSON), "format", "f", "how to write; auto: a table at a terminal, else JSON")
	addShort(f, onOff(&verbose), "verbose", "v", "with what Docker has no words for")
	p.settings.storeFlags(f)
	return c
}

// inspectNetworks shows the networks that the words name. One that names none does not keep
// the others.
func (p *program) inspectNetworks(ctx context.Context, how *shape, words []string, verbose bool) error {
	n, err := p.networks().All(ctx)
	if err != nil {
		return err
	}
	var errs []error
	var found []shownNetwork
	all := shown(n)
	for _, word := range words {
		v, err := networkCalled(all, word)
		if v == nil && err == nil {
			err = p.noNetwork(word)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		found = append(found, v)
	}
	return errors.Join(append(errs, p.writeNetworks(how, found, verbose))...)
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
	return absentError{fmt.Errorf("network %s: is not in %s, and no store of networks that span hosts is named", name, p.settings.netDir)}
}

func (p *program) writeNetworks(how *shape, found []shownNetwork, verbose bool) error {
	if !how.table() {
		all := []any{}
		for _, v := range found {
			all = append(all, v.inspected(verbose))
		}
		return writeList(p.out, how, all)
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
