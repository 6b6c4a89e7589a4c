package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/host/former"
	"github.com/berth-cni/berth/pkg/rebuild"
	"github.com/spf13/cobra"
)

func (p *program) gcCommand() *cobra.Command {
	o := host.CollectOptions{Unused: true}
	yes := false
	c := &cobra.Command{
		Use:   "gc [flags] [NETWORK...]",
		Short: "Remove what containers that are gone have left",
		Long: `Remove what nobody needs any more, and say what and why:

  attachments whose namespace is gone, or whose path leads to another namespace by now
  leases whose holder has no record
  interfaces of the host that were a container's (veth and 11 letters or digits)
  elements and rules of our firewall that are no container's
  bridges of networks that have no configuration and no container any more
  rules and addresses that the reference plugins left for containers which no runtime
  remembers, after asking

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
			names, err := p.knownNetworks(c, args)
			if err != nil {
				return err
			}
			o.Networks, o.ConfDir, o.Now = names, netDirOf(c), p.now
			report := func(e host.Event) { fmt.Fprintln(p.out, e) }
			err = host.Collect(c.Context(), p.hostStore(), o, report)
			if len(args) > 0 {
				return err
			}
			return errors.Join(err, p.collectFormer(c.Context(), o.DryRun, yes, report))
		},
	}
	addFlag(c.Flags(), onOff(&o.DryRun), "dry-run", "only say what would be removed")
	addFlag(c.Flags(), onOff(&yes), "yes", "do not ask before what the reference plugins left is removed")
	addFlag(c.Flags(), onOff(&o.Unused), "networks", "bridges of networks without a configuration and without containers, too")
	c.Flags().SortFlags = false
	p.settings.netDirFlag(c.Flags())
	p.settings.recordsFlag(c.Flags())
	return c
}

// collectFormer removes what the reference plugins left. Whether a container lives whose
// runtime keeps no cache is to be seen only by its address, if host-local gave it: a person
// is asked.
func (p *program) collectFormer(ctx context.Context, dry, yes bool, report func(host.Event)) error {
	const why = "no runtime remembers the container"
	records, err := p.hostStore().List(ctx, "")
	if err != nil {
		return nil // said already; whose containers there are is not known
	}
	all, err := former.On(rebuild.Caches(), rebuild.Namespaces(), records).Find(ctx)
	action := host.Surplus
	if !dry && len(all) > 0 && !yes && !p.confirm(fmt.Sprintf("The reference plugins left %d things of containers that no runtime remembers, such as the %s. Remove them?", len(all), all[0].What)) {
		action = host.Left
	} else if !dry {
		action = host.Removed
	}
	for _, l := range all {
		because := why
		if action == host.Left {
			because += "; --yes removes it"
		}
		if action == host.Removed {
			if bad := l.Remove(); bad != nil {
				err = errors.Join(err, bad)
				continue
			}
		}
		report(host.Event{Action: action, What: l.What, Why: because})
	}
	return err
}
