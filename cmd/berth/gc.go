package main

import (
	"fmt"

	"github.com/berth-cni/berth/pkg/host"
	"github.com/spf13/cobra"
)

func (p *program) gcCommand() *cobra.Command {
	o := host.CollectOptions{Unused: true}
	c := &cobra.Command{
		Use:   "gc [flags] [NETWORK...]",
		Short: "Remove what containers that are gone have left",
		Long: `Remove what nobody needs any more, and say what and why:

  attachments whose namespace is gone, or whose path leads to another namespace by now
  leases whose holder has no record
  interfaces of the host that were a container's (veth and 11 letters or digits)
  elements and rules of our firewall that are no container's
  bridges of networks that have no configuration and no container any more

With names of networks, only what is of those.

What is alive is never touched: a container whose path leads to the namespace that was
attached, one whose namespace goes on without its path, and one that is being added or
deleted. Run it where the runtime runs: elsewhere the paths of the namespaces are not
to be seen.

` + exitCodes,
		Example: `  berth gc --dry-run
  berth gc
  berth gc blue`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			o.Networks, o.ConfDir, o.Now = args, netDirOf(c), p.now
			return host.Collect(c.Context(), p.hostStore(), o, func(e host.Event) { fmt.Fprintln(p.out, e) })
		},
	}
	addFlag(c.Flags(), onOff(&o.DryRun), "dry-run", "only say what would be removed")
	addFlag(c.Flags(), onOff(&o.Unused), "networks", "bridges of networks without a configuration and without containers, too")
	c.Flags().SortFlags = false
	addFlag(c.Flags(), text(&p.settings.netDir, "folder", netDirOf(c), nil), "net-dir", "the CNI configurations of this host")
	p.settings.recordsFlag(c.Flags())
	return c
}
