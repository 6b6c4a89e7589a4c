package main

import (
	"cmp"
	"io"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/network"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/spf13/cobra"
)

func (p *program) networkCommand() *cobra.Command {
	c := group(&cobra.Command{
		Use:     "network",
		Aliases: []string{"net"},
		Short:   "Make, show and remove networks",
		Long: `A network of one host (bridge, macvlan, ipvlan) is a file NAME.conflist in the folder of CNI
configurations (--net-dir): every runtime of the host finds it there. Networks that
others wrote there are shown, too, and containers can be connected to them.

Networks that span hosts (vxlan-overlay) are kept in the store: every host's agent sees
them. The store is asked where it is named by a flag or in the configuration file.

` + exitCodes,
		Example: `  berth network create my-bridge
  berth network connect my-bridge web
  berth network ls`,
	}, p.networkCreateCommand(), p.networkListCommand(), p.networkInspectCommand(), p.networkRemoveCommand(), p.networkPruneCommand(),
		p.networkRestoreCommand(), p.networkConnectCommand(), p.networkDisconnectCommand(), p.networkConflistCommand(), p.networkInstallCommand())
	p.settings.netFlags(c.PersistentFlags())
	p.settings.recordsFlag(c.PersistentFlags())
	return c
}

const (
	driverBridge  = conflist.Bridge
	driverMacvlan = conflist.Macvlan
	driverIPVlan  = conflist.IPVlan
	driverOverlay = conflist.Overlay
	driverNone    = conflist.None

	// What Docker calls the last two.
	dockersOverlay = "overlay"
	dockersNull    = "null"
)

// networks is where this host's networks are, and the store of those that span hosts
// where one is named.
func (p *program) networks() *network.Host {
	s := &p.settings
	h := &network.Host{Dir: p.netDir(), Store: p.hostStore(), DataDir: cmp.Or(s.dataDir, overlay.DataDir()), Warn: p.warn, Now: p.now}
	if s.named {
		h.Overlay = p.readState
	}
	return h
}

func (p *program) netDir() conflist.Dir { return conflist.Dir(p.settings.netDir) }

// shownNetwork is a network as it is shown, of either kind.
type shownNetwork interface {
	line() *networkLine
	table(io.Writer)
	// listed and inspected are what templates and JSON show of it.
	listed(wholeID bool) any
	inspected(verbose bool) any
}

// networkLine is what a list shows of a network, and filters look at.
type networkLine struct {
	name, driver, on  string
	id, scope         string
	subnets, options  []string
	labels            map[string]string
	containers        int
	predefined, berth bool
}

// shown are the networks as they are shown, sorted by name.
func shown(n *network.Networks) []shownNetwork {
	all := []shownNetwork{}
	have := map[string]bool{}
	if n.Overlay != nil {
		for _, v := range network.OverlayViews(n.Overlay) {
			v.Containers = n.ContainersOn(v.Name)
			have[v.Name] = true
			all = append(all, overlayNetworkView{&v})
		}
	}
	for _, f := range n.Files {
		if !have[f.Name] {
			have[f.Name] = true
			all = append(all, hostNetworkView{n.View(f)})
		}
	}
	for _, name := range []string{conflist.Host, conflist.None} {
		if !have[name] {
			all = append(all, hostNetworkView{n.Predefined(name)})
		}
	}
	slices.SortFunc(all, func(a, b shownNetwork) int { return cmp.Compare(a.line().name, b.line().name) })
	return all
}

// labelFits tells whether labels have what a filter wants: KEY, or KEY=VALUE.
func labelFits(labels map[string]string, want string) bool {
	key, text, both := strings.Cut(want, "=")
	have, ok := labels[key]
	return ok && (!both || have == text)
}
