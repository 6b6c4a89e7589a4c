package rebuild

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/cni/bridged"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/firewall/allow"
	"github.com/berth-cni/berth/pkg/firewall/publish"
	"github.com/berth-cni/berth/pkg/ipam"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/berth-cni/berth/pkg/overlay"
)

// record makes the record of an interface that the kernel has. e and p are what was asked
// for; nil where nobody knows.
func (b *builder) record(k attach.Key, x link.Found, e *entry, p *conflist.Plugin) *attach.Attachment {
	a := &attach.Attachment{Key: k, Netns: x.Netns, Cookie: x.Cookie, Created: b.Now().UTC(), MAC: x.MAC,
		Addresses: x.Addresses, Routes: x.Routes, Steps: slices.Clone(x.Steps)}
	var r *cni.Request
	conf, given := &bridged.Conf{}, &ipam.Config{}
	if e != nil {
		if r, conf = e.request(p); r != nil {
			a.Args = r.Args
			a.Connected = r.Args[cni.ArgConnected] != ""
		}
		if !e.written.IsZero() {
			a.Created = e.written.UTC()
		}
		if a.Netns == "" {
			a.Netns = e.Netns
		}
	}
	b.settleAddresses(a, x, e)
	if x.Link == "" && x.Group == 0 && e != nil && e.file.Link() != "" {
		x.Link = e.file.Link()
		a.Steps = withoutBridge(a.Steps, x.Link, &p.Conf)
	}
	if parsed, err := ipam.Parse(conf.IPAM); err == nil {
		given = parsed
	}
	if child := slices.IndexFunc(x.Steps, func(s attach.Step) bool { return conflist.OnParent(s.Kind()) }); child >= 0 {
		a.Plugin = x.Steps[child].Kind()
	} else {
		a.Plugin = b.behindBridge(a, x, r, conf)
	}
	if r != nil && !given.BuiltIn() && !given.Empty() {
		a.Steps = append(a.Steps, r.Addresses(given)) // whose DEL wants the interface to be there
	} else if r == nil || !given.Empty() || a.Plugin == conflist.Overlay {
		for _, addr := range a.Addresses {
			a.Leases = append(a.Leases, addr.Prefix.Addr())
		}
	}
	if r != nil && len(a.Leases) > 0 {
		a.Sticky = r.Sticky(given)
	}
	b.network(a, x, given)
	return a
}

// withoutBridge are the steps of a container whose bridge somebody deleted: it is made
// again as it is asked for.
func withoutBridge(steps []attach.Step, bridge string, p *conflist.Conf) []attach.Step {
	gateway := p.IsGateway || p.IsDefaultGateway
	all := []attach.Step{&link.Forwarding{Gateway: gateway}, &link.Bridge{Name: bridge, MTU: p.MTU, Gateway: gateway, ForceAddress: p.ForceAddress, Promisc: p.PromiscMode}}
	for _, s := range steps {
		if v, ok := s.(*link.Veth); ok {
			v.Bridge = bridge
			all = append(all, v)
		}
	}
	return all
}

// settleAddresses leaves the record the addresses that the runtime was told of and that
// are there, in the runtime's order. Without a result, and without a namespace, they are
// those that the firewall knows.
func (b *builder) settleAddresses(a *attach.Attachment, x link.Found, e *entry) {
	held := b.held[a.Hash()]
	if x.Netns == "" && held != nil {
		for _, ip := range held.Addresses {
			a.Addresses = append(a.Addresses, attach.Address{Prefix: netip.PrefixFrom(ip, ip.BitLen())})
		}
	}
	if e != nil {
		var told []attach.Address
		for _, ip := range e.Result.IPs {
			i := slices.IndexFunc(a.Addresses, func(have attach.Address) bool { return have.Prefix.Addr() == ip.Address.Addr() })
			if i >= 0 {
				told = append(told, attach.Address{Prefix: ip.Address, Gateway: ip.Gateway})
			}
		}
		if a.Addresses = told; len(e.Result.IPs) == 0 { // of layer 2: what is there somebody else gave
			a.Routes = nil
		}
	}
	if a.MAC == "" {
		a.MAC = link.MAC(a)
	}
}

// behindBridge completes what is behind a bridge: the firewall's rules, what other
// firewalls were told, ports and names. It returns the plugin's name.
func (b *builder) behindBridge(a *attach.Attachment, x link.Found, r *cni.Request, conf *bridged.Conf) (plugin string) {
	plugin = conflist.Bridge
	rules, published := b.rules(a, r, conf)
	rules.Group = x.Group
	a.Ports = published
	if r != nil {
		opened := rules.Open
		a.Ports, a.Waiting = asFor(askedPorts(r, conf, rules), published) // which sets those that are opened, too
		if b.known(a) {
			rules.Open = b.openAsFor(a, rules.Open, opened)
		}
	}
	var subnets []netip.Prefix
	for _, l := range b.overlays {
		if n := &l.Network; n.Bridge() == rules.Bridge || x.Group != 0 && attach.Group(n.Name) == x.Group {
			plugin, rules.Overlay, rules.OverlayPort, subnets = conflist.Overlay, n.Device(), n.Port, n.Subnets
			overlaid(a, l)
		}
	}
	for _, s := range a.Steps {
		if v, ok := s.(*link.Veth); ok && rules.NoICC {
			v.NoICC, v.Isolated = true, false
		}
	}
	asks := rules.Names
	if r != nil {
		rules.Names = r.WantsNames()
		asks = rules.Names
	}
	a.Steps = append([]attach.Step{&allow.Forward{Bridge: bridgeOf(a), Group: x.Group, Names: asks}}, a.Steps...)
	a.Steps = append(a.Steps, rules)
	a.Steps = b.senders(a, x, conf)
	if !asks {
		return plugin
	}
	by := rules.Bridge
	if x.Group != 0 {
		by = names.AnyInterface
	}
	if r != nil {
		if step := r.Names(by, rules.Internal, subnets); step != nil {
			a.Steps = append(a.Steps, step)
			return plugin
		}
	}
	// It asks for names, and has none that anybody knows.
	a.Steps = append(a.Steps, &names.Register{Bridge: by, Internal: rules.Internal, Subnets: subnets})
	return plugin
}

// senders appends the step that looks at what the container sends.
func (b *builder) senders(a *attach.Attachment, x link.Found, conf *bridged.Conf) []attach.Step {
	held := b.held[a.Hash()]
	holds := held != nil && held.Spoof || conf != nil && conf.IPSpoofCheck
	reflects := held != nil && held.Echo
	for _, s := range a.Steps {
		if v, ok := s.(*link.Veth); ok && reflects {
			v.Reflect, v.Hairpin = true, false
		}
	}
	step := bridged.Senders(holds, reflects)
	if step == nil {
		return a.Steps
	}
	step.(*firewall.Spoof).Group = x.Group
	return append(a.Steps, step)
}

// overlaid gives the steps what is the overlay network's.
func overlaid(a *attach.Attachment, l *overlay.Local) {
	for _, s := range a.Steps {
		switch step := s.(type) {
		case *link.Bridge:
			step.MTU, step.FollowMTU, step.Gateway, step.MoreAddresses = l.MTU, true, true, true
		case *link.Veth:
			step.MTU = l.MTU
		case *link.Routed:
			step.MTU = l.MTU
		}
	}
}

// rules are those that the firewall has of the attachment, with its ports; where it has
// none, those that were asked for.
func (b *builder) rules(a *attach.Attachment, r *cni.Request, conf *bridged.Conf) (*firewall.Rules, []attach.Port) {
	if b.known(a) {
		held := b.held[a.Hash()]
		rules := held.Rules
		return &rules, held.Ports
	}
	rules := &firewall.Rules{Bridge: gatewayOf(a), Backend: firewall.NFTables}
	for _, h := range b.held { // as its neighbours have it
		if h.Bridge == rules.Bridge {
			n := h.Rules
			n.Masquerade, n.Open = n.Masquerade && len(a.Addresses) > 0, nil
			rules = &n
			break
		}
	}
	if r == nil {
		return rules, nil
	}
	policy := bridged.Policy{Internal: conf.Internal, Isolate: conf.Isolate, NoICC: conf.NoICC(), Modes: conf.Modes()}
	asked, err := conf.Rules(r, rules.Bridge, policy)
	if err != nil {
		return rules, nil
	}
	return asked, askedPorts(r, conf, asked)
}

// askedPorts are those that the runtime asked for.
func askedPorts(r *cni.Request, conf *bridged.Conf, rules *firewall.Rules) []attach.Port {
	given, err := ipam.Parse(conf.IPAM)
	if rules.Overlay != "" { // whose addresses no configuration tells
		given = &ipam.Config{Type: ipam.BuiltInType}
	}
	if err != nil {
		return nil
	}
	if s, ok := conf.Ports(r, rules, given, false).(*publish.Ports); ok {
		return s.Ports
	}
	return nil
}

// asFor splits what was asked for into what is published, in the words in which it was
// asked for, and what is not. What nobody asked for and is published stays.
func asFor(asked, published []attach.Port) (ports, waiting []attach.Port) {
	left := slices.Clone(published)
	for _, p := range asked {
		n := len(left)
		left = slices.DeleteFunc(left, func(q attach.Port) bool { return q.ContainerPort == p.ContainerPort && q.Overlaps(p) })
		if len(left) < n {
			ports = append(ports, p)
		} else {
			waiting = append(waiting, p)
		}
	}
	return append(ports, left...), waiting
}

// openAsFor is what is opened of what was asked for, in the words in which it was asked for,
// and what nobody asked for and is opened.
func (b *builder) openAsFor(a *attach.Attachment, asked, opened []attach.Port) (all []attach.Port) {
	left := slices.Clone(opened)
	for _, p := range asked {
		n := len(left)
		left = slices.DeleteFunc(left, func(q attach.Port) bool {
			return q.Protocol == p.Protocol && q.ContainerPort == p.ContainerPort && q.HostIP.Is4() == p.HostIP.Is4()
		})
		if len(left) < n {
			all = append(all, p)
		} else {
			b.withdrawn(a, p)
		}
	}
	return append(all, left...)
}

// known tells whether the firewall has the attachment.
func (b *builder) known(a *attach.Attachment) bool {
	held := b.held[a.Hash()]
	return held != nil && held.Bridge != ""
}

// withdrawn reports a port that somebody took away.
func (b *builder) withdrawn(a *attach.Attachment, p attach.Port) {
	b.report.Partly = append(b.report.Partly, fmt.Sprintf("%s: its runtime asked for %s, which is not published and stays so; 'berth port add' publishes it", a.Key, p))
}

// settleWaiting has records wait for those ports alone that another one of the container
// has. Another one that is not published is to be published again if the firewall has lost
// the container; if it has all else of it, somebody took the port away, and it stays so.
func (b *builder) settleWaiting() {
	for _, a := range b.made {
		a.Waiting = slices.DeleteFunc(a.Waiting, func(p attach.Port) bool {
			for _, o := range b.records {
				if o != a && o.Container == a.Container && slices.ContainsFunc(o.Ports, p.Overlaps) {
					return false
				}
			}
			if b.known(a) {
				b.withdrawn(a, p)
			} else {
				a.Ports = append(a.Ports, p)
			}
			return true
		})
	}
}

// gatewayOf is the host's interface that the container is reached by: the bridge, or that
// of its VLAN.
func gatewayOf(a *attach.Attachment) string {
	for _, s := range a.Steps {
		if br, ok := s.(*link.Bridge); ok {
			return br.Outward()
		}
	}
	return bridgeOf(a)
}

func bridgeOf(a *attach.Attachment) string {
	for _, s := range a.Steps {
		switch s := s.(type) {
		case *link.Veth:
			return s.Bridge
		case *link.Routed:
			return a.HostIfName()
		}
	}
	return ""
}

// network notes the record's network, for one that the file does not know.
func (b *builder) network(a *attach.Attachment, x link.Found, given *ipam.Config) {
	if _, known := b.networks[a.Network]; known || a.Network == "" {
		return
	}
	n := attach.Network{Name: a.Network, Plugin: a.Plugin, Link: x.Link, Ranges: given.Spans(), Made: true}
	for _, s := range a.Steps {
		switch step := s.(type) {
		case *link.Bridge:
			for _, addr := range a.Addresses {
				if p := addr.Prefix.Masked(); step.Gateway && !slices.Contains(n.Subnets, p) {
					n.Subnets = append(n.Subnets, p)
				}
			}
		case *link.Routed:
			n.Subnets = given.Subnets()
		case *firewall.Rules:
			conf := bridged.Conf{}
			conf.Names = step.Names
			n.Settings = conf.Settings(bridged.Policy{Internal: step.Internal, Isolate: step.Isolate, NoICC: step.NoICC,
				Modes: bridged.Modes{IPv4: step.Mode4, IPv6: step.Mode6}})
		}
	}
	b.networks[a.Network] = n
}

// chained makes the record of what was added to an earlier plugin's interface. The
// firewall has it all.
func (b *builder) chained(k attach.Key, e *entry) *attach.Attachment {
	held := b.held[k.Hash()]
	a := &attach.Attachment{Key: k, Plugin: conflist.Bridge, Created: b.Now().UTC(), Ports: held.Ports}
	if e != nil {
		a, _, _ = b.empty(k, e, conflist.Bridge)
		a.Addresses, a.Ports = prefixed(held.Addresses, e), held.Ports
	}
	if len(a.Addresses) == 0 {
		for _, ip := range held.Addresses {
			a.Addresses = append(a.Addresses, attach.Address{Prefix: netip.PrefixFrom(ip, ip.BitLen())})
		}
	}
	rules := held.Rules
	rules.Own = !link.IsBridge(rules.Bridge)
	a.Steps = []attach.Step{&link.Forwarding{}, &link.Localnet{Interface: rules.Bridge}, &allow.Forward{Bridge: rules.Bridge, Own: rules.Own}, &rules}
	return a
}
