package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/inspect"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/spf13/cobra"
)

func (p *program) networkCommand() *cobra.Command {
	c := group(&cobra.Command{
		Use:     "network",
		Aliases: []string{"net"},
		Short:   "Make, show and remove networks",
		Long: `A network of one host (bridge, macvlan) is a file NAME.conflist in the folder of CNI
configurations (--net-dir): every runtime of the host finds it there. Networks that
others wrote there are shown, too, and containers can be connected to them.

Networks that span hosts (vxlan-overlay) are kept in the store: every host's agent sees
them. The store is asked where it is named by a flag or in the configuration file.

` + exitCodes,
		Example: `  berth network create my-bridge
  berth network connect my-bridge web
  berth network ls`,
	}, p.networkCreateCommand(), p.networkListCommand(), p.networkInspectCommand(), p.networkRemoveCommand(), p.networkPruneCommand(),
		p.networkConnectCommand(), p.networkDisconnectCommand(), p.networkConflistCommand())
	p.settings.netFlags(c.PersistentFlags())
	p.settings.recordsFlag(c.PersistentFlags())
	return c
}

const (
	driverBridge  = conflist.Bridge
	driverMacvlan = conflist.Macvlan
	driverOverlay = conflist.Overlay
)

// networks are all that this host knows, of both kinds.
type networks struct {
	files   []*conflist.File
	records []*attach.Attachment
	known   []attach.Network // of the records
	state   *overlay.State   // nil: no store is named, or it does not answer
	unread  error            // files that say nothing
}

func (p *program) netDir() conflist.Dir { return conflist.Dir(p.settings.netDir) }

// networks gathers them. What cannot be read, or a store that is away, is a warning.
func (p *program) networks(ctx context.Context) (*networks, error) {
	n, err := p.hostNetworks(ctx)
	if err == nil && n.unread != nil {
		p.warn(n.unread)
	}
	if err != nil || !p.settings.named {
		return n, err
	}
	err = p.withState(ctx, func(s *overlay.State) error {
		n.state = s
		return nil
	})
	if err != nil {
		p.warn(fmt.Errorf("the networks that span hosts are not known: %w", err))
	}
	return n, nil
}

// hostNetworks are those of this host, and the overlay's whose conflist is here.
func (p *program) hostNetworks(ctx context.Context) (*networks, error) {
	n := &networks{}
	n.files, n.unread = p.netDir().List()
	var err error
	if n.records, err = p.records(ctx); err != nil {
		return nil, err
	}
	err = p.hostStore().View(ctx, func(tx *attach.Tx) error {
		n.known, err = tx.Networks()
		return err
	})
	return n, err
}

// on are the attachments to a network, those of a chain's parts too.
func (n *networks) on(network string) []*attach.Attachment {
	var all []*attach.Attachment
	for _, a := range n.records {
		if a.Network == network {
			all = append(all, a)
		}
	}
	return all
}

// containersOf are the containers of attachments as people call them, each once.
func containersOf(all []*attach.Attachment) []string {
	var ids, called []string
	for _, a := range all {
		if slices.Contains(ids, a.Container) {
			continue
		}
		ids = append(ids, a.Container)
		name := names.Called(a)
		if !namespaceThere(a) {
			name += " (whose namespace is gone: 'berth gc' removes what is left of it)"
		}
		called = append(called, name)
	}
	slices.Sort(called)
	return called
}

// shownNetwork is a network as it is shown, of either kind.
type shownNetwork interface {
	line() *networkLine
	table(io.Writer)
}

// networkLine is what a list shows of a network, and filters look at.
type networkLine struct {
	name, driver, on  string
	subnets, options  []string
	labels            map[string]string
	containers        int
	predefined, berth bool
}

// shown are the networks as they are shown, sorted by name.
func (p *program) shown(n *networks) []shownNetwork {
	all := []shownNetwork{}
	have := map[string]bool{}
	if n.state != nil {
		for _, v := range networkViews(n.state) {
			v.Containers = p.containersOn(n, v.Name)
			have[v.Name] = true
			all = append(all, &v)
		}
	}
	for _, f := range n.files {
		if !have[f.Name] {
			have[f.Name] = true
			all = append(all, p.hostNetworkView(n, f))
		}
	}
	for _, name := range []string{conflist.Host, conflist.None} {
		if !have[name] {
			all = append(all, &hostNetworkView{Name: name, Driver: name, Scope: scopeHost, Predefined: true, Containers: p.containersOn(n, name)})
		}
	}
	slices.SortFunc(all, func(a, b shownNetwork) int { return cmp.Compare(a.line().name, b.line().name) })
	return all
}

// containersOn are the attachments to a network as 'berth ps' shows them.
func (p *program) containersOn(n *networks, network string) []inspect.Attachment {
	return inspect.Attachments(n.on(network), func(*inspect.Attachment) bool { return true }, nil, p.now())
}

// labelFits tells whether labels have what a filter wants: KEY, or KEY=VALUE.
func labelFits(labels map[string]string, want string) bool {
	key, text, both := strings.Cut(want, "=")
	have, ok := labels[key]
	return ok && (!both || have == text)
}
