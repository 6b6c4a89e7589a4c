package cni

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/ipam"
	"github.com/berth-cni/berth/pkg/link"
)

// addition is an ADD on its way.
type addition struct {
	*Request
	plan  *Plan
	a     *attach.Adding
	prev  *previous
	ports []attach.Port
	known attach.Network // what the host remembered of the network
}

func (p *plugin) add(r *Request) error {
	switch c := r.config.(type) {
	case Joiner:
		return p.join(r, c)
	case *Loopback:
		return p.loopback(r)
	}
	add, err := p.prepare(r)
	if err != nil {
		return err
	}
	p.did("prepare")
	if p.trace != nil {
		add.a.Did = p.did
	}
	s := p.store()
	err = s.Add(p.ctx, add.a, add.claim)
	for overlap := (*attach.OverlapError)(nil); errors.As(err, &overlap) && forgetGone(p.ctx, s, overlap.Other); {
		err = s.Add(p.ctx, add.a, add.claim)
	}
	if err != nil {
		return err
	}
	if err := add.remember(p.ctx, s); err != nil {
		return errors.Join(err, s.Del(p.ctx, add.a.Key))
	}
	return p.answer(add, s)
}

// prepare reads and validates everything, and looks at the host where that needs
// no claim. Nothing is made or written.
func (p *plugin) prepare(r *Request) (*addition, error) {
	ns, err := r.openNetns()
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	plan, err := r.Plan()
	if err != nil {
		return nil, err
	}
	add := &addition{Request: r, plan: plan}
	if add.prev, err = r.previous(); err != nil {
		return nil, err
	}
	if err := add.readPorts(); err != nil {
		return nil, err
	}
	cookie, err := ns.Cookie()
	if err != nil {
		return nil, err
	}
	add.a = &attach.Adding{Attachment: &attach.Attachment{
		Key: r.key(attach.Main), Plugin: p.Name, Netns: r.Netns, Cookie: cookie,
		Created: time.Now().UTC().Truncate(time.Millisecond), Args: r.Args, MAC: r.wantedMAC,
		Connected: r.Args[ArgConnected] != "",
	}}
	if add.a.MAC == "" {
		add.a.MAC = plan.MAC
	}
	if add.prev.chained() {
		if plan.Chained == nil {
			return nil, configError{fmt.Errorf("prevResult: an earlier plugin of the chain has made %s: %s cannot", r.IfName, p.Name)}
		}
		if add.names != nil {
			return nil, configError{errors.New("names: another plugin of the chain has made the interface: want false, and no args.cni.links")}
		}
		add.a.Role = attach.Chained
	}
	return add, nil
}

// readPorts validates the ports to publish and asks whether a process of the host
// listens on one.
func (add *addition) readPorts() error {
	v4, v6 := true, true
	if add.prev.chained() {
		v4, v6 = families(add.prev.prefixes())
	} else if add.IPAM.BuiltIn() {
		v4, v6 = families(add.IPAM.Subnets())
	}
	ports := add.Request.ports(v4, v6)
	if err := errors.Join(add.problems...); err != nil {
		return configError{err}
	}
	if len(ports) > 0 && add.plan.Internal {
		Warn("network %s is internal: its published ports are ignored", add.Conf.Name)
		return nil
	}
	if len(ports) > 0 && add.plan.NoPorts != "" {
		Warn("published ports of network %s are ignored: %s", add.Conf.Name, add.plan.NoPorts)
		return nil
	}
	if len(ports) > 0 && add.IPAM.Empty() && !add.prev.chained() {
		return configError{fmt.Errorf("runtimeConfig.portMappings: %d ports: want an ipam section, since a port is published to an address", len(ports))}
	}
	for _, p := range ports {
		holder, err := firewall.Listener(p, add.ContainerID)
		if err != nil {
			return configError{fmt.Errorf("runtimeConfig.portMappings: %w", err)}
		}
		if holder != "" {
			return &takenError{p, holder}
		}
	}
	add.ports = ports
	return nil
}

// takenError: a process of the host listens on the port.
type takenError struct {
	port   attach.Port
	holder string
}

func (e *takenError) Error() string {
	return fmt.Sprintf("%s is taken: %s listens on it", e.port, e.holder)
}

// claim runs in the transaction that writes the record.
func (add *addition) claim(tx *attach.Tx) error {
	a := add.a
	n := add.plan.Network
	if add.IPAM.BuiltIn() {
		n.Ranges = add.ranges()
		if add.plan.Gateway && n.Subnets == nil {
			n.Subnets = add.IPAM.Subnets()
		}
	}
	var err error
	if add.known, err = tx.EnsureNetwork(n); err != nil {
		return err
	}
	same := slices.Equal(add.known.Settings, n.Settings)
	a.NetworkKnown, a.NetworkChanged = add.known.Made && same, !add.known.Made || !same
	a.Ports = nil
	for _, p := range add.ports {
		if err := add.claimPort(tx, p); err != nil {
			return err
		}
	}
	if add.prev.chained() {
		a.Addresses = add.prev.addresses()
		a.Steps = add.plan.Chained(add.prev.hostIf())
		return nil
	}
	complete := &gateway{Gateway: add.plan.Gateway, DefaultRoute: add.plan.DefaultRoute,
		NoDefault: add.plan.Internal || add.Args[ArgConnected] == Connected}
	a.Steps = append(slices.Clone(add.plan.Once), add.plan.Steps...)
	if add.names != nil {
		a.Steps = append(a.Steps, add.names)
	}
	if delegated(add.IPAM) {
		delegate := &ipam.Delegate{Type: add.IPAM.Type, Conf: add.StdinData, Path: add.Path, Args: add.CmdArgs.Args}
		a.Steps = append([]attach.Step{delegate, complete}, a.Steps...)
		return nil
	}
	if err := add.lease(tx); err != nil {
		return err
	}
	complete.complete(a.Attachment)
	return nil
}

// ranges are the first and last addresses of the ipam section's ranges.
func (add *addition) ranges() [][2]netip.Addr {
	var all [][2]netip.Addr
	for _, set := range add.IPAM.Ranges {
		for _, r := range set {
			all = append(all, [2]netip.Addr{r.Start, r.End})
		}
	}
	return all
}

// lease takes addresses from the built-in IPAM.
func (add *addition) lease(tx *attach.Tx) error {
	if add.IPAM.Empty() {
		return nil
	}
	a := add.a
	var err error
	if a.Addresses, err = add.IPAM.Allocate(tx, a.Key, add.wantedIPs); err != nil {
		return err
	}
	a.Leases = nil
	for _, addr := range a.Addresses {
		a.Leases = append(a.Leases, addr.Prefix.Addr())
	}
	a.Routes = append([]attach.Route(nil), add.IPAM.Routes...)
	return nil
}

// claimPort claims one port, of each family by itself if another network of the
// container has one of them. A container on several networks publishes a port
// once: the first network keeps it.
func (add *addition) claimPort(tx *attach.Tx, p attach.Port) error {
	err := tx.ClaimPort(p, add.a.Key)
	var held *attach.HeldError
	if errors.As(err, &held) && held.Holder.Container == add.a.Container {
		if !p.HostIP.IsValid() {
			v4, v6 := p, p
			v4.HostIP, v6.HostIP = netip.IPv4Unspecified(), netip.IPv6Unspecified()
			return errors.Join(add.claimPort(tx, v4), add.claimPort(tx, v6))
		}
		Warn("%s is published to this container on network %s already", p, held.Holder.Network)
		return nil
	}
	if err != nil {
		return err
	}
	add.a.Ports = append(add.a.Ports, p)
	return nil
}

// remember notes that the network is made, with these settings.
func (add *addition) remember(ctx context.Context, s *attach.Store) error {
	if add.a.NetworkKnown || add.prev.chained() {
		return nil
	}
	return s.Update(ctx, func(tx *attach.Tx) error {
		return tx.MadeNetwork(add.plan.Network.Name, add.plan.Network.Settings)
	})
}

// forgetGone forgets a network whose interface somebody deleted. It reports
// whether it did.
func forgetGone(ctx context.Context, s *attach.Store, n attach.Network) bool {
	there, err := link.Exists(n.Link)
	if err != nil || there {
		return false
	}
	return s.Update(ctx, func(tx *attach.Tx) error { return tx.ForgetNetwork(n.Name) }) == nil
}
