// Vxlan-overlay gives a container an interface on a network that spans hosts: a veth
// pair on a bridge of this host, an address of the block that the host owns, and
// routes to the blocks of the other hosts through VXLAN.
//
// The plugin asks nobody: what it needs is in the file that `berth agent` keeps for
// each network. It works while the agent and the store are away.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/cni/bridged"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/firewall/allow"
	"github.com/berth-cni/berth/pkg/ipam"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/berth-cni/berth/pkg/overlay"
)

var mode = cni.Mode{Name: "vxlan-overlay", Config: func() cni.Config {
	masquerade := true
	return &config{Conf: bridged.Conf{IsDefaultGateway: true, IPMasq: &masquerade}}
}}

func main() { cni.Main(mode) }

// Plan implements [cni.Config].
func (c *config) Plan(r *cni.Request) ([]attach.Step, error) {
	c.validate(r)
	local, err := c.local()
	if err != nil {
		return nil, err
	}
	n := &local.Network
	policy := bridged.Policy{Internal: n.Internal, Isolate: n.Isolate, NoICC: n.NoICC}
	rules, err := c.Rules(r, n.Bridge(), policy)
	if err != nil {
		return nil, err
	}
	rules.Overlay, rules.OverlayPort = n.Device(), n.Port
	blocks := addresses(local)
	network := &attach.Network{Name: c.Name, Plugin: "vxlan-overlay", Link: n.Bridge(), Subnets: n.Subnets, Ranges: blocks.Spans(), Settings: c.Settings(policy)}
	if c.Routed() {
		return c.routed(r, network, rules, local, blocks), nil
	}
	reflects := c.Reflects()
	steps := []attach.Step{
		network,
		r.Addresses(blocks),
		&link.Gateway{Gateway: true, DefaultRoute: c.IsDefaultGateway && !n.Internal, NoDefault: n.Internal || r.KeepsDefaultRoute(), Priority: r.GatewayPriority(n.Internal)},
		c.Ports(r, rules, blocks, true),
		&allow.Forward{Bridge: n.Bridge(), Tunnel: n.Device(), Names: r.WantsNames()},
		&link.Forwarding{Gateway: true},
		&link.Bridge{Name: n.Bridge(), MTU: local.MTU, FollowMTU: true, Gateway: true, MoreAddresses: true, Promisc: c.PromiscMode},
		&link.Veth{Bridge: n.Bridge(), MTU: local.MTU, Hairpin: c.HairpinMode, Reflect: reflects, Isolated: c.PortIsolation,
			NoICC: n.NoICC, MACSpoofCheck: c.MACSpoofCheck, DAD: c.EnableDAD, AcceptRA: r.AcceptRA(blocks)},
		rules,
		&firewall.Hairpin{Backend: rules.Backend, Bridge: n.Bridge()},
	}
	return confined(n, append(steps, bridged.Senders(c.holds(r), reflects), r.Names(n.Bridge(), n.Internal, n.Subnets))), nil
}

// routed are the steps for a host that has no bridge of the network: on others it may have one.
func (c *config) routed(r *cni.Request, network *attach.Network, rules *firewall.Rules, local *overlay.Local, blocks *ipam.Config) []attach.Step {
	n := &local.Network
	network.Link = ""
	before, behind := c.RoutedSteps(r, rules, link.Routed{Beside: n.Bridge(), MTU: local.MTU, AcceptRA: r.AcceptRA(blocks)}, c.holds(r))
	steps := []attach.Step{
		network,
		r.Addresses(blocks),
		&link.Gateway{Gateway: true, Routed: true, DefaultRoute: c.IsDefaultGateway && !n.Internal, NoDefault: n.Internal || r.KeepsDefaultRoute(), Priority: r.GatewayPriority(n.Internal)},
		c.Ports(r, rules, blocks, true),
	}
	return confined(n, append(slices.Concat(steps, before, behind), r.Names(names.AnyInterface, n.Internal, n.Subnets)))
}

// confined has an encrypted network confined before an address could be reached.
func confined(n *overlay.Network, steps []attach.Step) []attach.Step {
	if !n.Encrypted {
		return steps
	}
	return slices.Insert(steps, 1, attach.Step(&firewall.Confined{Device: n.Device(), Next: n.NextDevice(), Bridge: n.Bridge(), Group: attach.Group(n.Name), Subnets: n.Subnets}))
}

// local reads what the host knows of the network, and whether it may be used.
func (c *config) local() (*overlay.Local, error) {
	local, err := overlay.ReadLocal(overlay.DataDir(), c.Name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, cni.Later(fmt.Errorf("network %q: this host does not know it yet: is it in 'berth network ls', and does 'berth agent' run here?", c.Name))
	case err != nil:
		return nil, fmt.Errorf("network %q: %w", c.Name, err)
	}
	if err := local.Ready(attach.New("", nil).Dir()); err != nil {
		return nil, cni.Later(fmt.Errorf("network %q: %w", c.Name, err))
	}
	return local, nil
}

// addresses is the built-in IPAM on the host's blocks: one address from those of
// each subnet, and the whole subnet through the gateway.
func addresses(local *overlay.Local) *ipam.Config {
	conf := &ipam.Config{Grows: true, Sticky: local.Network.Sticky}
	for _, s := range local.Network.Subnets {
		var set ipam.RangeSet
		for _, b := range local.Blocks {
			if s.Overlaps(b) {
				set = append(set, blockRange(b))
			}
		}
		conf.Ranges = append(conf.Ranges, set)
		conf.Routes = append(conf.Routes, attach.Route{Dst: s})
	}
	return conf
}

// blockRange is all of a block behind its gateway.
func blockRange(b netip.Prefix) ipam.Range {
	gw := overlay.Gateway(b)
	r := ipam.Range{Subnet: b, Gateway: gw, Start: gw.Next(), End: overlay.Last(b)}
	if b.Addr().Is4() {
		r.End = r.End.Prev() // the broadcast address
	}
	return r
}

// Verify implements [cni.Verifier]: the device that leads to the other hosts is there,
// and the container's addresses are still this host's.
func (c *config) Verify(_ *cni.Request, a *attach.Attachment) error {
	local, err := overlay.ReadLocal(overlay.DataDir(), c.Name) // whether more can be added does not matter
	if err != nil {
		return fmt.Errorf("network %q: %w", c.Name, err)
	}
	var errs []error
	if up, err := link.Up(local.Network.Device()); err != nil || !up {
		errs = append(errs, fmt.Errorf("the device %s is not up: does 'berth agent' run?", local.Network.Device()), err)
	}
	for _, addr := range a.Addresses {
		if !owned(local, addr.Prefix.Addr()) {
			errs = append(errs, fmt.Errorf("address %s is in no block of this host any more", addr.Prefix.Addr()))
		}
	}
	return errors.Join(errs...)
}

func owned(local *overlay.Local, addr netip.Addr) bool {
	for _, b := range local.Blocks {
		if b.Contains(addr) {
			return true
		}
	}
	return false
}

// Status implements [cni.Statuser]. An agent that is away is no reason to say no:
// an ADD works without it.
func (c *config) Status(*cni.Request) error {
	if running, err := overlay.AgentRuns(attach.New("", nil).Dir()); err == nil && !running {
		cni.Warn("network %s: 'berth agent' does not run on this host: it reaches the other hosts as they were when it stopped", c.Name)
	}
	return nil
}
