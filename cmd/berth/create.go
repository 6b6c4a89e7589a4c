package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/spf13/cobra"
)

func (p *program) networkCreateCommand() *cobra.Command {
	var n overlay.Network
	var driver string
	c := &cobra.Command{
		Use:   "create [flags] NAME",
		Short: "Make a network",
		Long: `Make a network that spans hosts (--driver vxlan-overlay). Each host owns blocks of
its subnets, from which its containers get their addresses; containers reach each
other by address, wherever they are. Broadcast and multicast stay on their host.

Refused are a name, a VNI or a subnet that another network has, and a subnet that
this host has a route to. A network does not change once it is made.

` + exitCodes,
		Example: `  berth network create --driver vxlan-overlay --subnet 10.42.0.0/16 blue
  berth network create --driver vxlan-overlay --subnet 10.44.0.0/16 --subnet fd00:44::/48 \
      --node-prefix 25,64 --mtu 1400 --isolate --label team=web green`,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			n.Name = args[0]
			if driver != driverOverlay {
				return usageError{fmt.Errorf("--driver: %s: this version makes networks of one driver here: want --driver %s; "+
					"the others are made by their conflist alone", driver, driverOverlay)}
			}
			return p.createNetwork(c.Context(), n)
		},
	}
	f := c.Flags()
	addFlag(f, oneOf(&driver, driverBridge, "macvlan", driverOverlay), "driver", "what kind of network")
	addFlag(f, prefixes(&n.Subnets), "subnet", "addresses of the network; twice for IPv4 and IPv6")
	addFlag(f, lengths(&n.NodePrefix), "node-prefix", "length of the blocks that hosts own, in the order of the subnets (default 24 and 64)")
	addFlag(f, number(&n.VNI, "number", 0, overlay.MaxVNI), "vni", "VXLAN network identifier; 0: one that is free")
	addFlag(f, number(&n.Port, "port", 0, math.MaxUint16), "udp-port", "port of the VXLAN packets; 0: 4789")
	addFlag(f, number(&n.MTU, "bytes", 0, math.MaxUint16), "mtu", "MTU of the containers; 0: what the underlay leaves")
	addFlag(f, onOff(&n.Internal), "internal", "nothing in or out but the network itself")
	addFlag(f, onOff(&n.Isolate), "isolate", "no traffic to or from other isolated networks, except to published ports")
	addFlag(f, onOff(&n.NoICC), "no-icc", "containers cannot talk to each other, except through published ports")
	addFlag(f, labels(&n.Labels), "label", "a note for people and programs, again for more")
	p.settings.storeFlags(f)
	return c
}

func (p *program) createNetwork(ctx context.Context, n overlay.Network) error {
	n.SetDefaults()
	check := n
	check.VNI = cmp.Or(n.VNI, overlay.FirstVNI) // 0: the store's to choose
	if err := check.Validate(); err != nil {
		return usageError{fmt.Errorf("network %s is refused:\n%w", n.Name, err)}
	}
	return p.withStore(func(s overlay.Store) error {
		state, err := p.state(ctx, s)
		if err != nil {
			return err
		}
		if err := inTheWay(&n, state); err != nil {
			return fmt.Errorf("network %s is refused:\n%w", n.Name, err)
		}
		var made overlay.Network
		err = p.ask(ctx, func(ctx context.Context) error {
			made, err = s.CreateNetwork(ctx, n)
			return err
		})
		if err != nil {
			return err
		}
		fmt.Fprintln(p.out, made.Name)
		if terminal(p.err) {
			fmt.Fprintf(p.err, "Each host's runtime needs its conflist: berth network conflist %s > /etc/cni/net.d/20-%s.conflist\n", made.Name, made.Name)
		}
		return nil
	})
}

// inTheWay tells of everything that a new network would be in the way of: other
// networks, and what this host has routes to.
func inTheWay(n *overlay.Network, state *overlay.State) error {
	var errs []error
	var devices []string
	for _, name := range slices.Sorted(maps.Keys(state.Networks)) {
		other := state.Networks[name]
		errs = append(errs, n.Conflict(&other))
		devices = append(devices, other.Device(), other.Bridge())
	}
	routes, err := link.HostRoutes(devices...)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, r := range overlaps(n.Subnets, routes) {
		errs = append(errs, errors.New("subnets: "+r))
	}
	return errors.Join(errs...)
}

// overlaps says which of the host's routes lead into a subnet.
func overlaps(subnets []netip.Prefix, routes []link.HostRoute) []string {
	var found []string
	for _, s := range subnets {
		for _, r := range routes {
			if !s.Overlaps(r.Dst) {
				continue
			}
			through := ""
			if r.Device != "" {
				through = " through " + r.Device
			}
			found = append(found, fmt.Sprintf("%s: overlaps %s, which this host reaches%s", s, r.Dst, through))
		}
	}
	return found
}
