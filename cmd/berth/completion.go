package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/spf13/cobra"
)

// completionTime is how long a person who pressed the tab key waits at most.
const completionTime = 500 * time.Millisecond

// completeNetworks completes the names of networks, those that have not been given yet:
// the net dir's, those that this host has containers on or a part of. It asks no store.
func (p *program) completeNetworks(c *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	found := map[string]string{}
	note := func(name, what string) { found[name] = cmp.Or(found[name], what) }
	files, _ := conflist.Dir(netDirOf(c)).List()
	for _, f := range files {
		note(f.Name, f.Driver())
	}
	locals, _ := overlay.ListLocal(cmp.Or(p.settings.dataDir, overlay.DataDir()))
	for _, l := range locals {
		note(l.Network.Name, driverOverlay)
	}
	p.eachRecord(c, func(a *attach.Attachment) { note(a.Network, a.Plugin) })
	return completions(found, args)
}

// completeContainers completes containers by name and by ID.
func (p *program) completeContainers(c *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
	found := map[string]string{}
	p.eachRecord(c, func(a *attach.Attachment) {
		name := names.Called(a)
		found[name] = "on " + a.Network
		if word != "" { // the IDs would hide the names
			found[a.Container] = cmp.Or(found[a.Container], name+" on "+a.Network)
		}
	})
	return completions(found, args)
}

// completeNetworkThenContainer is for commands that take a network, then containers.
func (p *program) completeNetworkThenContainer(c *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return p.completeNetworks(c, nil, word)
	}
	return p.completeContainers(c, args[1:], word)
}

// completeBoth is for commands that take both.
func (p *program) completeBoth(c *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
	containers, _ := p.completeContainers(c, args, word)
	networks, directive := p.completeNetworks(c, args, word)
	return append(containers, networks...), directive
}

// completeArguments has the commands that take networks or containers complete them.
func (p *program) completeArguments(root *cobra.Command) {
	for path, complete := range map[string]cobra.CompletionFunc{
		"inspect": p.completeBoth, "port": p.completeContainers, "port add": p.completeContainers, "port rm": p.completeContainers, "reload": p.completeNetworks, "gc": p.completeNetworks,
		"network inspect": p.completeNetworks, "network rm": p.completeNetworks, "network conflist": p.completeNetworks,
		"network connect": p.completeNetworkThenContainer, "network disconnect": p.completeNetworkThenContainer,
	} {
		if c, _, err := root.Find(strings.Fields(path)); err == nil && c.ValidArgsFunction == nil {
			c.ValidArgsFunction = complete
		}
	}
}

// eachRecord calls fn for the records that can be read, if they can be in time.
func (p *program) eachRecord(c *cobra.Command, fn func(*attach.Attachment)) {
	ctx := c.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	all, _ := p.hostStore().List(ctx, "")
	for _, a := range all {
		fn(a)
	}
}

func completions(found map[string]string, given []string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var all []cobra.Completion
	for _, name := range slices.Sorted(maps.Keys(found)) {
		if !slices.Contains(given, name) {
			all = append(all, cobra.CompletionWithDesc(name, host.Printable(found[name])))
		}
	}
	return all, cobra.ShellCompDirectiveNoFileComp
}

// netDirOf is the folder of networks that the command line, the environment or nobody
// names.
func netDirOf(c *cobra.Command) string {
	if f := c.Flag("net-dir"); f != nil && f.Value.String() != "" {
		return f.Value.String()
	}
	return cmp.Or(os.Getenv(conflist.Env), conflist.Default)
}

// shells are those that completion is written for, each with its writer.
var shells = []struct {
	name, install string
	write         func(*program, *cobra.Command) error
}{
	{"bash", "berth completion bash > /usr/share/bash-completion/completions/berth",
		func(p *program, root *cobra.Command) error { return root.GenBashCompletionV2(p.out, true) }},
	{"zsh", "berth completion zsh > /usr/local/share/zsh/site-functions/_berth",
		func(p *program, root *cobra.Command) error { return root.GenZshCompletion(p.out) }},
	{"fish", "berth completion fish > /etc/fish/completions/berth.fish",
		func(p *program, root *cobra.Command) error { return root.GenFishCompletion(p.out, true) }},
}

func (p *program) completionCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Write what a shell needs to complete commands, networks and containers",
		Long: `Write the script that has a shell complete the commands of this program, their flags,
and the names of networks and containers of this host. For the running shell alone,
source it; for all, put it where the shell looks.

` + exitCodes,
		Example: "  source <(berth completion bash)\n",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			for _, s := range shells {
				if s.name == args[0] {
					return s.write(p, c.Root())
				}
			}
			return usageError{fmt.Errorf("%s: want bash, zsh or fish", args[0])}
		},
		ValidArgs: []cobra.Completion{"bash", "zsh", "fish"},
	}
	for i, s := range shells {
		c.Example += "  " + s.install
		if i < len(shells)-1 {
			c.Example += "\n"
		}
	}
	return c
}
