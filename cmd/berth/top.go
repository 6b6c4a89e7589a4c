package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/berth-cni/berth/pkg/firewall/conntrack"
	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/inspect"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func (p *program) topCommand() *cobra.Command {
	var o topOptions
	c := &cobra.Command{
		Use:   "top [flags]",
		Short: "Show what containers and networks carry",
		Long: `Show what the containers of this host carry each second: bytes and packets that they
receive and send, packets that are dropped at the host's end of their interface, and
how many connections the kernel tracks for their addresses; the sum of each network,
and the busiest containers first.

At a terminal it goes on until it is interrupted; else it looks twice and writes once.
What has no end on the host (macvlan, ipvlan, host) is not counted. Connections are counted
where the host tracks them: those within one bridge are none of its.

` + exitCodes,
		Example: "  berth top\n  berth top --interval 5s\n  berth top --format json | jq '.containers[0]'",
		Args:    arguments(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return p.top(c.Context(), &o) },
	}
	flags := c.Flags()
	addFlag(flags, duration(&o.interval, 2*time.Second, 100*time.Millisecond), "interval", "the time between two looks")
	o.format.flag(flags)
	p.settings.hostFlags(flags)
	return c
}

type topOptions struct {
	interval time.Duration
	format   format
}

// topView is what top shows.
type topView struct {
	Networks   []inspect.Traffic `json:"networks"`
	Containers []inspect.Traffic `json:"containers"`
}

func (p *program) top(ctx context.Context, o *topOptions) error {
	live := o.format.word == formatTable && terminal(p.out)
	before, err := p.look(ctx)
	if err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(o.interval):
		}
		now, err := p.look(ctx)
		if err != nil {
			return err
		}
		connections, err := conntrack.Count()
		if err != nil {
			return err
		}
		v := topView{Networks: []inspect.Traffic{}, Containers: []inspect.Traffic{}}
		containers, networks := now.TrafficSince(before, connections)
		v.Containers, v.Networks = append(v.Containers, containers...), append(v.Networks, networks...)
		if !live {
			return o.format.write(p.out, &v, func(w io.Writer) { writeTop(w, &v) })
		}
		if err := p.screen(&v); err != nil {
			return err
		}
		before = now
	}
}

func (p *program) look(ctx context.Context) (*inspect.Host, error) {
	return inspect.Look(ctx, inspect.Config{Store: p.hostStore(), DataDir: p.settings.dataDir, Now: time.Now(), Warn: p.warn})
}

// screen writes the view over the last one, as much of it as there is room for (ECMA-48: CUP,
// EL, ED).
func (p *program) screen(v *topView) error {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	writeTop(t, v)
	t.Flush()
	lines := strings.SplitAfter(b.String(), "\n")
	width, height := 1<<10, 1<<10
	if f, ok := p.out.(interface{ Fd() uintptr }); ok {
		if w, h, err := term.GetSize(int(f.Fd())); err == nil {
			width, height = w, h
		}
	}
	var s strings.Builder
	s.WriteString("\x1b[H")
	for _, line := range lines[:min(len(lines), height-1)] {
		text := []rune(strings.TrimSuffix(line, "\n"))
		s.WriteString(string(text[:min(len(text), width)]) + "\x1b[K\n")
	}
	s.WriteString("\x1b[J")
	_, err := io.WriteString(p.out, s.String())
	return err
}

// writeTop writes a table of networks, and one of containers.
func writeTop(w io.Writer, v *topView) {
	for _, part := range []struct {
		head []any
		all  []inspect.Traffic
	}{{[]any{"NETWORK", "", ""}, v.Networks}, {[]any{"CONTAINER", "NETWORK", "INTERFACE"}, v.Containers}} {
		row(w, append(part.head, "RECEIVED/s", "PACKETS/s", "SENT/s", "PACKETS/s", "DROPPED/s", "CONNECTIONS")...)
		for _, t := range part.all {
			name := []any{t.Name, t.Network, t.Interface}
			if t.Name == "" {
				name = []any{t.Network, "", ""}
			}
			row(w, append(name, host.Bytes(t.ReceivedBytes), countText(t.ReceivedPackets), host.Bytes(t.SentBytes), countText(t.SentPackets),
				countText(t.Dropped), t.Connections)...)
		}
		row(w, "")
	}
}

func countText(n float64) string { return fmt.Sprintf("%.0f", n) }
