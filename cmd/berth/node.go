package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/spf13/cobra"
)

func (p *program) nodeCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "node",
		Short: "Show and remove the hosts of the overlay networks",
		Long: `A node is a host that takes part in overlay networks. It owns blocks of addresses,
which stay its own while it is away, however long: only 'berth node rm' and 'berth
node prune' give them back.

` + exitCodes,
	}, p.nodeListCommand(), p.nodeInspectCommand(), p.nodeRemoveCommand(), p.nodePruneCommand(), p.nodeRotateCommand(), p.nodeResetCommand())
}

// nodeView is a node as it is shown. Its token is its secret.
type nodeView struct {
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
	MTU     int        `json:"mtu"`
	Alive   bool       `json:"alive"`
	// Since is when it became alive, or when it was last seen.
	Since  time.Time   `json:"since"`
	Joined time.Time   `json:"joined"`
	Blocks []blockView `json:"blocks"`
}

type blockView struct {
	Network string       `json:"network"`
	Prefix  netip.Prefix `json:"prefix"`
	Used    bool         `json:"used"`
}

// nodeViews are the nodes of the store, sorted by name.
func nodeViews(s *overlay.State) []nodeView {
	all := []nodeView{}
	for _, name := range slices.Sorted(maps.Keys(s.Nodes)) {
		n := s.Nodes[name]
		v := nodeView{Name: name, Address: n.Address, MTU: n.MTU, Since: s.LastSeen(name), Joined: n.Since, Blocks: []blockView{}}
		if a, ok := s.Alive[name]; ok {
			v.Alive, v.Since = true, a.Since
		}
		for _, network := range slices.Sorted(maps.Keys(s.Networks)) {
			for _, prefix := range s.BlocksOf(network, name) {
				v.Blocks = append(v.Blocks, blockView{network, prefix, s.Blocks[overlay.BlockKey{Network: network, Prefix: prefix}].Used})
			}
		}
		all = append(all, v)
	}
	return all
}

func (v *nodeView) used() int {
	n := 0
	for _, b := range v.Blocks {
		if b.Used {
			n++
		}
	}
	return n
}

// state is "alive 3h" or "away 2d".
func (v *nodeView) state(now time.Time) string {
	word := life(v.Alive, v.Since)
	if v.Since.IsZero() {
		return word
	}
	return word + " " + host.Age(max(0, now.Sub(v.Since))) // clocks may differ
}

// life is whether a node lives, in a word. A store that is a file does not know.
func life(alive bool, seen time.Time) string {
	switch {
	case alive:
		return "alive"
	case seen.IsZero():
		return "unknown"
	}
	return "away"
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

func (p *program) nodeListCommand() *cobra.Command {
	var f format
	c := &cobra.Command{
		Use:     "ls [flags]",
		Aliases: []string{"list"},
		Short:   "List the nodes",
		Long: `List the nodes of the store: since when each is alive, or was last seen; how many
blocks it owns, and on how many of them it has containers.

` + exitCodes,
		Example: "  berth node ls\n  berth node ls --format json | jq -r '.[] | select(.alive | not).name'",
		Args:    arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return p.withState(c.Context(), func(s *overlay.State) error {
				all := nodeViews(s)
				return f.write(p.out, all, func(w io.Writer) {
					row(w, "NODE", "ADDRESS", "STATE", "BLOCKS", "USED")
					for _, v := range all {
						row(w, v.Name, v.Address, v.state(p.now()), len(v.Blocks), v.used())
					}
				})
			})
		},
	}
	f.flag(c.Flags())
	p.settings.storeFlags(c.Flags())
	return c
}

func (p *program) nodeInspectCommand() *cobra.Command {
	var f format
	c := &cobra.Command{
		Use:     "inspect [flags] NAME",
		Short:   "Show one node with its blocks",
		Long:    "Show a node of the store, and the blocks that it owns.\n\n" + exitCodes,
		Example: "  berth node inspect host-a",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return p.withState(c.Context(), func(s *overlay.State) error {
				all := nodeViews(s)
				i := slices.IndexFunc(all, func(v nodeView) bool { return v.Name == args[0] })
				if i < 0 {
					return fmt.Errorf("node %s: %w", args[0], overlay.ErrNotFound)
				}
				v := all[i]
				return f.write(p.out, v, func(w io.Writer) {
					row(w, "name:", v.Name)
					row(w, "address:", v.Address)
					row(w, "mtu:", v.MTU)
					row(w, "state:", v.state(p.now()))
					row(w, "joined:", stamp(v.Joined))
					row(w, "")
					row(w, "NETWORK", "BLOCK", "USED")
					for _, b := range v.Blocks {
						row(w, b.Network, b.Prefix, map[bool]string{true: "yes", false: "no"}[b.Used])
					}
				})
			})
		},
	}
	f.flag(c.Flags())
	p.settings.storeFlags(c.Flags())
	return c
}

func (p *program) removeNode(force bool) func(context.Context, overlay.Store, string) error {
	return func(ctx context.Context, s overlay.Store, name string) error {
		err := s.RemoveNode(ctx, name, force)
		return p.buryLost(ctx, s, err, func(from *overlay.State) (overlay.Removal, bool) {
			n, ok := from.Nodes[name]
			return overlay.Removal{Node: name, ID: n.Token, Forced: force}, ok
		})
	}
}

func (p *program) nodeRemoveCommand() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:     "rm [flags] NAME...",
		Aliases: []string{"remove"},
		Short:   "Give the names and blocks of nodes back",
		Long: `Remove nodes from the store: for hosts that are gone for good. Their blocks become
free for others, so a host that still has containers must not be removed. One that
is alive is refused, unless forced.

` + exitCodes,
		Example: "  berth node rm host-c",
		Args:    arguments(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return p.removeAll(c.Context(), args, p.removeNode(force))
		},
	}
	addFlag(c.Flags(), onOff(&force), "force", "though the node is alive")
	p.settings.storeFlags(c.Flags())
	return c
}
