package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/connect"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (p *program) portCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "port [flags] CONTAINER [PORT[/PROTOCOL]]",
		Short: "List, and change, what a running container publishes",
		Long: `List what the host publishes of a container, as Docker does: the container's port, and
where the host takes it. With a port of the container, only where that is taken.

'port add' and 'port rm' change it while the container runs. ` + whichContainer + `

` + exitCodes,
		Example: "  berth port web\n  berth port web 80\n  berth port add web 8080:80\n  berth port rm web 8080",
		Args:    arguments(cobra.RangeArgs(1, 2)),
		RunE: func(c *cobra.Command, args []string) error {
			return p.listPorts(c.Context(), args[0], args[1:])
		},
	}
	c.AddCommand(p.portAddCommand(), p.portRemoveCommand())
	p.settings.netDirFlag(c.PersistentFlags())
	p.settings.recordsFlag(c.PersistentFlags())
	return c
}

// containerPort reads PORT[/PROTOCOL], and adds /tcp where no protocol is given.
func containerPort(word string) (string, error) {
	port, protocol, given := strings.Cut(word, "/")
	if !given {
		protocol = "tcp"
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 || !slices.Contains([]string{"tcp", "udp", "sctp"}, protocol) {
		return "", fmt.Errorf("%s: want a port of the container, 1 to 65535, with /tcp, /udp or /sctp", word)
	}
	return port + "/" + protocol, nil
}

func (p *program) portAddCommand() *cobra.Command {
	network := ""
	c := &cobra.Command{
		Use:   "add [flags] CONTAINER [ADDRESS:]PORT:PORT[/PROTOCOL]...",
		Short: "Publish more ports of a running container",
		Long: `Publish more ports of a running container: a port of this host, on an address or on all,
and the container's that it leads to, or as many of both (8000-8002:80-82).

It holds from now on, and goes with the container, as what its runtime published. The
runtime is not told: it goes on to show its own. Nothing else of the container changes,
and no connection is lost.

Refused is a port that another container has, or that a process of this host listens on.

` + exitCodes,
		Example: "  berth port add web 8080:80\n  berth port add --network back db 127.0.0.1:5432:5432 5353:53/udp",
		Args:    arguments(cobra.MinimumNArgs(2)),
		RunE: func(c *cobra.Command, args []string) error {
			var ports []attach.Port
			for _, word := range args[1:] {
				if err := publish(&ports).Set(word); err != nil {
					return usageError{fmt.Errorf("%s: %w", word, err)}
				}
			}
			name, err := p.networkName(c.Context(), network)
			if err != nil {
				return err
			}
			return connect.Publish(c.Context(), p.connectConfig(), args[0], name, ports)
		},
	}
	addFlag(c.Flags(), text(&network, "network", "", nil), "network", "the network to publish on (default: the first of the container's that can)")
	return c
}

func (p *program) portRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "rm [flags] CONTAINER [ADDRESS:]PORT[:PORT][/PROTOCOL]...",
		Aliases: []string{"remove"},
		Short:   "Publish ports of a running container no longer",
		Long: `Publish ports of a running container no longer, whoever has published them. A port of the
host alone stands for it on all addresses. Connections of TCP that have come by it go on
until they end.

` + exitCodes,
		Example: "  berth port rm web 8080\n  berth port rm db 5353/udp 127.0.0.1:5432:5432",
		Args:    arguments(cobra.MinimumNArgs(2)),
		RunE: func(c *cobra.Command, args []string) error {
			var ports []attach.Port
			for _, word := range args[1:] {
				if err := withdrawn(&ports).Set(word); err != nil {
					return usageError{fmt.Errorf("%s: %w", word, err)}
				}
			}
			return connect.Unpublish(c.Context(), p.connectConfig(), args[0], ports)
		},
	}
}

// withdrawn reads a port of the host, with or without the container's.
func withdrawn(to *[]attach.Port) pflag.Value {
	return &value{kind: "port", get: func() string { return "" }, set: func(s string) error {
		number, protocol, given := strings.Cut(s, "/")
		if !strings.Contains(number, ":") {
			number += ":" + number // the container's is not looked at
			if given {
				number += "/" + protocol
			}
			ports, err := connect.ParsePorts(number)
			for _, p := range ports {
				p.ContainerPort = 0
				*to = append(*to, p)
			}
			return err
		}
		return publish(to).Set(s)
	}}
}

// listPorts writes what the host publishes of a container, of one port of it perhaps.
func (p *program) listPorts(ctx context.Context, word string, only []string) error {
	want := ""
	if len(only) > 0 {
		var err error
		if want, err = containerPort(only[0]); err != nil {
			return usageError{err}
		}
	}
	all, err := connect.Published(ctx, p.connectConfig(), word)
	if err != nil {
		return err
	}
	var lines []string
	for _, a := range all {
		lines = append(lines, portLines(a)...)
	}
	slices.Sort(lines)
	if want == "" {
		for _, line := range lines {
			fmt.Fprintln(p.out, line)
		}
		return nil
	}
	found := false
	for _, line := range lines {
		if at, ok := strings.CutPrefix(line, want+" -> "); ok {
			found = true
			fmt.Fprintln(p.out, at)
		}
	}
	if !found {
		return errors.New("no public port '" + want + "' published for " + word)
	}
	return nil
}

// portLines are those of an attachment, as Docker writes them: 80/tcp -> 0.0.0.0:8080. What is
// let in without translation is taken at the container's own address.
func portLines(a *attach.Attachment) (all []string) {
	line := func(p attach.Port, at netip.AddrPort) {
		all = append(all, fmt.Sprintf("%d/%s -> %s", p.ContainerPort, p.Protocol, at))
	}
	each := func(ports []attach.Port, fn func(p attach.Port, host, own netip.Addr)) {
		for _, p := range ports {
			for _, host := range p.HostIPs() {
				i := slices.IndexFunc(a.Addresses, func(x attach.Address) bool { return x.Prefix.Addr().Is4() == host.Is4() })
				if i >= 0 {
					fn(p, host, a.Addresses[i].Prefix.Addr())
				}
			}
		}
	}
	each(a.Ports, func(p attach.Port, host, _ netip.Addr) { line(p, netip.AddrPortFrom(host, p.HostPort)) })
	if r := firewall.RulesOf(a); r != nil {
		each(r.Open, func(p attach.Port, _, own netip.Addr) { line(p, netip.AddrPortFrom(own, p.ContainerPort)) })
	}
	return all
}
