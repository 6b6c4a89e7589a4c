package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/spf13/cobra"
)

func (p *program) networkCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "network",
		Aliases: []string{"net"},
		Short:   "Make, show and remove networks",
		Long: `Networks that span hosts are kept in the store: every host's agent sees them, and
every host has the same conflist for them.

` + exitCodes,
	}, p.networkCreateCommand(), p.networkListCommand(), p.networkInspectCommand(), p.networkRemoveCommand(), p.networkConflistCommand())
}

const (
	driverBridge  = "bridge"
	driverOverlay = "vxlan-overlay"
)

func (p *program) networkListCommand() *cobra.Command {
	var f format
	c := &cobra.Command{
		Use:     "ls [flags]",
		Aliases: []string{"list"},
		Short:   "List the networks",
		Long:    "List the networks of the store, with how many hosts own blocks of them.\n\n" + exitCodes,
		Example: `  berth network ls
  berth network ls --format json | jq -r '.[].name'`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return p.withState(c.Context(), func(s *overlay.State) error {
				all := networkViews(s)
				return f.write(p.out, all, func(w io.Writer) {
					row(w, "NAME", "DRIVER", "VNI", "SUBNETS", "NODES", "OPTIONS")
					for _, n := range all {
						row(w, n.Name, n.Driver, n.VNI, list(n.Subnets), len(n.Nodes), list(n.options()))
					}
				})
			})
		},
	}
	f.flag(c.Flags())
	p.settings.storeFlags(c.Flags())
	return c
}

// networkView is a network as it is shown.
type networkView struct {
	overlay.Network
	Driver string      `json:"driver"`
	Nodes  []nodeShare `json:"nodes"`
	// Problem is why no host uses the network.
	Problem string `json:"problem,omitempty"`
}

// nodeShare is what a node owns of a network.
type nodeShare struct {
	Name    string         `json:"name"`
	Address netip.Addr     `json:"address"`
	Alive   bool           `json:"alive"`
	Blocks  []netip.Prefix `json:"blocks"`

	seen time.Time
}

// networkViews are the networks of the store, sorted by name.
func networkViews(s *overlay.State) []networkView {
	conflicts := s.Conflicts()
	all := []networkView{}
	for _, name := range slices.Sorted(maps.Keys(s.Networks)) {
		v := networkView{Network: s.Networks[name], Driver: driverOverlay, Nodes: []nodeShare{}}
		if err := conflicts[name]; err != nil {
			v.Problem = err.Error()
		}
		for _, node := range slices.Sorted(maps.Keys(s.Nodes)) {
			if blocks := s.BlocksOf(name, node); len(blocks) > 0 {
				_, alive := s.Alive[node]
				v.Nodes = append(v.Nodes, nodeShare{node, s.Nodes[node].Address, alive, blocks, s.Nodes[node].Seen})
			}
		}
		all = append(all, v)
	}
	return all
}

// options are the words that a network was made with.
func (v *networkView) options() []string {
	var all []string
	for word, on := range map[string]bool{"internal": v.Internal, "isolate": v.Isolate, "no-icc": v.NoICC} {
		if on {
			all = append(all, word)
		}
	}
	if v.MTU != 0 {
		all = append(all, fmt.Sprintf("mtu=%d", v.MTU))
	}
	if v.Port != overlay.DefaultPort {
		all = append(all, fmt.Sprintf("udp-port=%d", v.Port))
	}
	if v.Problem != "" {
		all = append(all, "REFUSED")
	}
	slices.Sort(all)
	return all
}

func (p *program) networkInspectCommand() *cobra.Command {
	var f format
	c := &cobra.Command{
		Use:     "inspect [flags] NAME",
		Short:   "Show one network with the blocks of its hosts",
		Long:    "Show a network: what it was made with, and which host owns which blocks.\n\n" + exitCodes,
		Example: "  berth network inspect blue\n  berth network inspect --format json blue",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return p.withState(c.Context(), func(s *overlay.State) error {
				all := networkViews(s)
				i := slices.IndexFunc(all, func(v networkView) bool { return v.Name == args[0] })
				if i < 0 {
					return fmt.Errorf("network %s: %w", args[0], overlay.ErrNotFound)
				}
				return f.write(p.out, all[i], all[i].table)
			})
		},
	}
	f.flag(c.Flags())
	p.settings.storeFlags(c.Flags())
	return c
}

func (v networkView) table(w io.Writer) {
	row(w, "name:", v.Name)
	row(w, "driver:", v.Driver)
	row(w, "id:", printable(v.ID))
	row(w, "created:", stamp(v.Created))
	for i, s := range v.Subnets {
		row(w, "subnet:", fmt.Sprintf("%s in blocks of /%d", s, v.NodePrefix[i]))
	}
	row(w, "vni:", v.VNI)
	row(w, "devices:", v.Device()+", "+v.Bridge())
	row(w, "udp port:", v.Port)
	mtu := "what the underlay leaves"
	if v.MTU != 0 {
		mtu = fmt.Sprint(v.MTU)
	}
	row(w, "mtu:", mtu)
	row(w, "options:", list(v.options()))
	for _, key := range slices.Sorted(maps.Keys(v.Labels)) {
		row(w, "label:", printable(key+"="+v.Labels[key]))
	}
	if v.Problem != "" {
		row(w, "problem:", strings.ReplaceAll(v.Problem, "\n", "; "))
	}
	row(w, "")
	row(w, "NODE", "ADDRESS", "STATE", "BLOCKS")
	for _, n := range v.Nodes {
		row(w, n.Name, n.Address, life(n.Alive, n.seen), list(n.Blocks))
	}
}

func (p *program) networkRemoveCommand() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:     "rm [flags] NAME...",
		Aliases: []string{"remove"},
		Short:   "Remove networks",
		Long: `Remove networks, and the blocks that hosts own of them. A network that a host has
containers on is refused. With --force it goes all the same: its containers lose
their connections to other hosts.

` + exitCodes,
		Example: "  berth network rm blue\n  berth network rm --force blue green",
		Args:    arguments(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return p.removeAll(c.Context(), args, func(ctx context.Context, s overlay.Store, name string) error {
				return s.RemoveNetwork(ctx, name, force)
			})
		},
	}
	addFlag(c.Flags(), onOff(&force), "force", "though hosts use it")
	p.settings.storeFlags(c.Flags())
	return c
}

// removeAll removes one after the other, and prints what is gone. One that cannot be
// removed does not keep the others.
func (p *program) removeAll(ctx context.Context, names []string, remove func(context.Context, overlay.Store, string) error) error {
	return p.withStore(func(s overlay.Store) error {
		var errs []error
		for _, name := range names {
			if err := p.ask(ctx, func(ctx context.Context) error { return remove(ctx, s, name) }); err != nil {
				errs = append(errs, err)
				continue
			}
			fmt.Fprintln(p.out, name)
		}
		return errors.Join(errs...)
	})
}
