package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/berth-cni/berth/pkg/names/local"
	"github.com/spf13/cobra"
)

// defaultHostNames is an address that docs and messages name: any other of loopback that
// nobody listens on does as well.
const defaultHostNames = "127.0.0.55"

func (p *program) hostNamesCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "host-names",
		Short: "Have this host's programs find containers by name",
		Long: `Programs of this host reach a container as NAME.NETWORK.berth, where the host's resolver
asks the agent for names under that domain: an agent with --host-names, a flag and a key of
the configuration file.

` + exitCodes,
		Example: `  echo 'host-names: ` + defaultHostNames + `' >>` + defaultConfig + `
  systemctl restart berth-agent
  berth host-names on
  curl http://web.my-bridge.berth/
  berth host-names off`,
	}, p.hostNamesOnCommand(), p.hostNamesOffCommand())
}

func (p *program) hostNamesOnCommand() *cobra.Command {
	var way string
	c := &cobra.Command{
		Use:   "on [flags]",
		Short: "Have the host's resolver ask the agent",
		Long: `Have this host's resolver ask the agent for names of containers, and say what is written.

With systemd-resolved that is a file in /etc/systemd, and it asks the agent for *.berth alone.
Without it the agent becomes the first nameserver in /etc/resolv.conf: it answers for *.berth
and asks the servers behind it for all else, which programs do, too, while it does not run. A
program that writes the file again takes it out.

` + exitCodes,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return p.hostNamesOn(c.Context(), way) },
	}
	c.Flags().SortFlags = false
	addFlag(c.Flags(), oneOf(&way, local.Auto, local.Resolved, local.ResolvConf), "way", "which resolver to tell; auto: systemd-resolved where /etc/resolv.conf leads to it")
	p.settings.recordsFlag(c.Flags())
	return c
}

func (p *program) hostNamesOffCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "off",
		Short: "Take away what 'on' has written",
		Long: `Take away what 'berth host-names on' has written, and say what that is.

` + exitCodes,
		Args: arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			h, did := p.resolver()
			if err := h.Off(); err != nil || *did {
				return err
			}
			fmt.Fprintln(p.out, "there is nothing to take away")
			return nil
		},
	}
}

func (p *program) hostNamesOn(ctx context.Context, way string) error {
	status, err := names.Call(ctx, attach.New(p.settings.stateDir, nil).Dir(), names.Request{Do: names.DoStatus})
	switch {
	case errors.Is(err, names.ErrNoAgent):
		return fmt.Errorf("%w: want one with --host-names %s, or host-names: %s in %s", err, defaultHostNames, defaultHostNames, defaultConfig)
	case err != nil:
		return err
	case status.HostDeaf != "":
		return errors.New(status.HostDeaf)
	case status.HostNames == "":
		return fmt.Errorf("the agent does not answer this host: start it with --host-names %s, or with host-names: %s in %s", defaultHostNames, defaultHostNames, defaultConfig)
	}
	at, err := netip.ParseAddrPort(status.HostNames)
	if err != nil {
		return fmt.Errorf("where the agent answers: %w", err)
	}
	h, _ := p.resolver()
	return h.On(way, at)
}

// resolver is this host's. did says whether it has reported anything.
func (p *program) resolver() (h *local.Host, did *bool) {
	did = new(bool)
	return &local.Host{Run: runProgram, Report: func(what string) {
		*did = true
		fmt.Fprintln(p.out, what)
	}}, did
}

// runProgram runs one of the host's. What it complains of is in the error.
func runProgram(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if said := strings.TrimSpace(string(exit.Stderr)); said != "" {
			err = fmt.Errorf("%w: %s", err, said)
		}
	}
	return string(out), err
}

// validHostNames is about where the agent answers the host's own programs.
func validHostNames(s string) error {
	_, err := parseHostNames(s)
	return err
}

// parseHostNames reads an address, whose port is DNS's, or an address and a port.
func parseHostNames(s string) (at netip.AddrPort, err error) {
	if a, bad := netip.ParseAddr(s); bad == nil {
		at = netip.AddrPortFrom(a, 53)
	} else {
		at, err = netip.ParseAddrPort(s)
	}
	if err != nil || !at.Addr().IsLoopback() || at.Port() == 0 {
		return at, errors.New("want an address of loopback that nobody listens on, such as " + defaultHostNames + ", or one with a port")
	}
	return at, nil
}
