package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/berth-cni/berth/pkg/graph"
	"github.com/spf13/cobra"
)

func (p *program) graphCommand() *cobra.Command {
	var o graphOptions
	c := &cobra.Command{
		Use:   "graph [flags]",
		Short: "Draw the networks of this host",
		Long: `Draw this host: its uplink, its networks with their bridges, subnets and gateways,
the veth pairs, the containers with their addresses, names and published ports, what
is on a parent by macvlan or ipvlan, who shares a namespace; and the other hosts of overlay
networks with their blocks, and whether they are reached. What is missing, down or
gone is marked.

The tree is for a terminal; the SVG for a browser or a document: one file that needs
nothing else, light or dark as its reader likes it.

With --serve it is a page that updates itself, at the address that is written: rates on
its lines, what doctor finds at the place that it concerns, networks of more than --most
containers opened by a click. It changes nothing, and nothing is looked at while nobody
has it open. From elsewhere, an SSH tunnel leads to it: ssh -L 8080:127.0.0.1:PORT HOST,
then http://127.0.0.1:8080/.

It works without the agent: other hosts are then those of the agent's last run, and
whether they are reached is not known.

` + exitCodes,
		Example: `  berth graph
  berth graph --ascii --most 0 | less
  berth graph --svg host.svg
  berth graph --serve 127.0.0.1:0
  berth graph --format json | jq '.nodes[] | select(.bad)'`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.checkServe(c.Flags().Changed); err != nil {
				return usageError{err}
			}
			if o.serve == "" {
				return p.graph(c.Context(), &o)
			}
			return p.serveGraph(c.Context(), &o, p.hostDoctor(c))
		},
	}
	flags := c.Flags()
	flags.SortFlags = false
	addFlag(flags, oneOf(&o.format, "tree", "svg", formatJSON), "format", "how to draw")
	addFlag(flags, text(&o.file, "file", "", nil), "svg", "write the SVG to this file")
	addFlag(flags, onOff(&o.ascii), "ascii", "a tree of ASCII characters")
	o.most = graphMost
	addFlag(flags, number(&o.most, "number", 0, 1<<20), "most", "containers of a network that are drawn, and hosts; 0: all")
	addFlag(flags, text(&o.serve, "address:port", "", validListen), "serve", "serve the picture as a page that updates itself; port 0: any")
	addFlag(flags, onOff(&o.anywhere), "serve-anywhere", "let --serve be an address that is not of loopback: whoever reaches it can see everything there")
	p.settings.hostFlags(flags)
	return c
}

type graphOptions struct {
	format, file string
	ascii        bool
	most         int
	serve        string
	anywhere     bool
}

// graphMost containers of a network are about as many as a picture can show.
const graphMost = 40

func (p *program) graphConfig() graph.Config {
	return graph.Config{Store: p.hostStore(), DataDir: p.settings.dataDir, Listen: p.settings.listen, Now: p.now(), Warn: p.warn}
}

func (p *program) graph(ctx context.Context, o *graphOptions) error {
	in, err := graph.Look(ctx, p.graphConfig())
	if err != nil {
		return err
	}
	g := graph.Build(*in)
	if o.format != formatJSON || o.file != "" {
		g = g.Fold(o.most)
	}
	switch {
	case o.file != "":
		return replaceFile(o.file, g.SVG)
	case o.format == formatJSON:
		return writeJSON(p.out, g)
	case o.format == "svg":
		return g.SVG(p.out)
	}
	return g.Tree(p.out, graph.TreeOptions{ASCII: o.ascii, Colours: terminal(p.out)})
}

// replaceFile writes a file as a whole, or leaves the one that is there.
func replaceFile(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // when it has not been renamed
	defer f.Close()
	if err := write(f); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}
