package doctor

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall/ruleset"
	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/berth-cni/berth/pkg/overlay"
)

// Commands that mend.
const (
	mendReload = "berth reload"
	mendGC     = "berth gc"
)

func checkKernel(f *facts) ([]Problem, error) {
	var found []Problem
	if err := f.Host.FirewallErr; err != nil {
		found = append(found, problem(host.Summary(err),
			"no container with a port, masquerade or isolation can be added",
			"load nf_tables (modprobe nf_tables), or install iptables"))
	}
	tunnels := slices.ContainsFunc(f.Locals, func(l *overlay.Local) bool { return len(l.Blocks) > 0 })
	if tunnels && f.Host.NoVXLAN {
		found = append(found, problem("the kernel has no module vxlan", "networks that span hosts cannot be made on this one",
			"install the modules of the running kernel, then: modprobe vxlan"))
	}
	return found, nil
}

// drops are the chains of that hook that drop what nobody accepts.
func (h *hostFacts) drops(hook string) []ruleset.Chain {
	if h.Filters == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(h.Filters.Drops), func(d ruleset.Chain) bool { return d.Hook != hook })
}

// barredBy are the bridges of living containers that the chain does not let through. Of
// iptables and firewalld the firewall's own step knows; of others it is read from the
// rules.
func (h *hostFacts) barredBy(d ruleset.Chain) (barred []string) {
	sorted, _ := host.Bridges(h.living())
	for _, bridge := range sorted {
		known := h.Barred[bridge] != nil
		if !d.IsIPTables() {
			known = !d.Accepts(bridge, 0)
		}
		if known {
			barred = append(barred, bridge)
		}
	}
	return barred
}

func checkOtherFirewalls(f *facts) ([]Problem, error) {
	var found []Problem
	h := &f.Host
	for _, bridge := range slices.Sorted(maps.Keys(h.Barred)) {
		found = append(found, problem(host.Summary(h.Barred[bridge]), "containers behind it reach nobody outside, and nobody their published ports", mendReload, h.behind(bridge)))
	}
	for _, d := range h.drops("forward") {
		if d.IsIPTables() || d.Table == "firewalld" {
			continue // told of above
		}
		for _, bridge := range h.barredBy(d) {
			found = append(found, problem(fmt.Sprintf("%s drops what it does not accept, and no rule there names bridge %s", d, bridge),
				"containers behind it reach nobody outside, and nobody their published ports: of several firewalls each has to accept a packet",
				letThrough(d, bridge), h.behind(bridge)))
		}
	}
	return append(found, checkInput(f)...), h.FiltersErr
}

// letThrough is the commands that let a bridge through: what its containers send, what
// answers it, and what goes to published ports.
func letThrough(d ruleset.Chain, bridge string) string {
	var all []string
	for _, match := range []string{"iifname " + bridge, "oifname " + bridge + " ct state established,related", "oifname " + bridge + " ct status dnat"} {
		all = append(all, fmt.Sprintf("nft add rule %s %s %s %s accept", d.Family, d.Table, d.Name, match))
	}
	return strings.Join(all, "; ")
}

// checkInput is about the ports that this host's own programs answer on.
func checkInput(f *facts) []Problem {
	h := &f.Host
	var found []Problem
	for _, d := range f.Host.drops("input") {
		for _, q := range f.Host.Questions {
			if q.Err == nil || q.Server.Is4() && !d.V4() || q.Server.Is6() && !d.V6() || d.Accepts(q.Bridge, h.namesPort()) {
				continue
			}
			found = append(found, problem(fmt.Sprintf("%s drops what it does not accept, and no rule there names port %d or bridge %s", d, h.namesPort(), q.Bridge),
				"containers of network "+q.Network+" get no answer when they ask for names", openInput(d, "udp", h.namesPort(), q.Bridge), about{network: q.Network}))
		}
		for _, l := range f.Locals {
			if len(l.Blocks) == 0 || d.Accepts("", l.Network.Port) {
				continue
			}
			found = append(found, problem(fmt.Sprintf("%s drops what it does not accept, and no rule there names port %d", d, l.Network.Port),
				"network "+l.Network.Name+" gets no packets of other hosts", openInput(d, "udp", l.Network.Port, ""), about{network: l.Network.Name}))
		}
	}
	return found
}

// openInput is the command that lets packets in.
func openInput(d ruleset.Chain, protocol string, port int, bridge string) string {
	if d.IsIPTables() {
		in := ""
		if bridge != "" {
			in = "-i " + bridge + " "
		}
		return fmt.Sprintf("%s -A %s %s-p %s --dport %d -j ACCEPT", d.Program(), d.Name, in, protocol, port)
	}
	in := ""
	if bridge != "" {
		in = "iifname " + bridge + " "
	}
	return fmt.Sprintf("nft add rule %s %s %s %s%s dport %d accept", d.Family, d.Table, d.Name, in, protocol, port)
}

// checkRecords tells of records whose container is gone.
func checkRecords(f *facts) ([]Problem, error) {
	h := &f.Host
	by := map[host.State][]string{}
	which := map[host.State][]about{}
	one := map[host.State]string{}
	for _, a := range h.Records {
		what := h.States[a.Key]
		by[what] = append(by[what], a.Key.String())
		which[what] = append(which[what], about{container: a.Container})
		one[what] = h.Whys[a.Key]
	}
	var found []Problem
	if all := by[host.Gone]; len(all) > 0 {
		found = append(found, problem(fmt.Sprintf("%d of %d records have no container: %s (%s)", len(all), len(h.Records), host.Some(all), one[host.Gone]),
			"their addresses and ports are kept from others, and packets for their ports go nowhere", mendGC, which[host.Gone]...))
	}
	if all := by[host.Detached]; len(all) > 0 {
		found = append(found, problem(fmt.Sprintf("%d containers go on without the path of their namespace: %s (%s)", len(all), host.Some(all), one[host.Detached]),
			"their runtime cannot remove them any more", "remove them with their runtime, or end their processes, then: "+mendGC, which[host.Detached]...))
	}
	if h.StateFile.bad() {
		return found, nil // that was told of
	}
	return found, h.RecordsErr
}

// stepsOf are what people call the steps.
var stepsOf = map[string]string{
	"veth": "the interface", "macvlan": "the interface", "ipvlan": "the interface", "bridge": "the bridge", "firewall": "the firewall",
	"names": "the names", "rebind": "the namespace", "host-shim": "the way from the host", "localnet": "the setting for 127.0.0.1",
	"spoof": "the check of who sends", "loopback": "lo", "subinterface": "the interface of the VLAN",
}

// subject is what a fault is of: the container, or for what is shared the network.
func subject(x host.Fault) about {
	for _, s := range x.Attachment.Steps {
		if _, shared := s.(attach.Shared); shared && s.Kind() == x.Kind {
			return about{network: x.Attachment.Network}
		}
	}
	return about{container: x.Attachment.Container}
}

// checkFaults tells what is missing, together for each network and kind.
func checkFaults(f *facts) ([]Problem, error) {
	type group struct{ network, kind string }
	by := map[group][]string{}
	which := map[group][]about{}
	first := map[group]error{}
	var groups []group
	for _, x := range f.Host.Faults {
		g := group{x.Attachment.Network, x.Kind}
		if first[g] == nil {
			first[g] = x.Err
			groups = append(groups, g)
		}
		by[g] = append(by[g], names.Called(x.Attachment))
		which[g] = append(which[g], subject(x))
	}
	var found []Problem
	for _, g := range groups {
		what := stepsOf[g.kind]
		if what == "" {
			what = g.kind
		}
		more := ""
		if g.kind == "firewall" && len(by[g]) >= host.MaxRuleFaults {
			more = " and perhaps others"
		}
		found = append(found, problem(fmt.Sprintf("network %s: %s of %s%s: %s", g.network, what, host.Some(by[g]), more, host.Summary(first[g])),
			"what these containers were given does not work", mendReload, which[g]...))
	}
	return found, nil
}

// checkStrangers tells of what is ours, and nobody's on record.
func checkStrangers(f *facts) ([]Problem, error) {
	var found []Problem
	h := &f.Host
	var stray []string
	for _, l := range host.StrayLinks(h.Links, h.Records) {
		stray = append(stray, l.Name)
	}
	if h.RecordsErr != nil { // of those that cannot be read nothing is known
		return nil, nil
	}
	if len(stray) > 0 {
		found = append(found, problem("interfaces of attachments without a record: "+host.Some(stray),
			"the containers behind them have addresses that others may get, too", mendGC))
	}
	if h.Filters != nil && len(h.StateFile.Unrecorded) == 0 {
		if strangers := h.Filters.Unrecorded(h.Records); len(strangers) > 0 {
			found = append(found, problem("firewall elements of attachments without a record: "+host.Some(strangers),
				"packets for published ports may go to nobody, or to a container that has the address by now", mendReload))
		}
	}
	var lost []string
	for _, l := range h.Lost {
		lost = append(lost, fmt.Sprintf("%s on %s", l.Address, l.Holder.Network))
	}
	if len(lost) > 0 {
		found = append(found, problem("leases without a record: "+host.Some(lost), "no container can have these addresses", mendGC))
	}
	var left []string
	for _, l := range h.Former {
		left = append(left, l.What)
	}
	if len(left) > 0 {
		found = append(found, problem("the reference plugins left what no container needs: "+host.Some(left),
			"rules may lead a port to a container that has the address by now, and no container gets the addresses", mendGC+", which asks"))
	}
	for _, path := range h.HostMounts {
		if !slices.ContainsFunc(h.Records, func(a *attach.Attachment) bool { return samePath(a.Netns, path) }) {
			found = append(found, problem(path+" leads to this host's own namespace, and no container on record has that path",
				"whatever is started with that path has the host's network: one of mode host may have left it", "umount "+quote(path)+" && rm "+quote(path)))
		}
	}
	return found, h.FormerErr
}

// samePath compares paths of which one may be through /var/run, a link to /run.
func samePath(a, b string) bool {
	return strings.TrimPrefix(a, "/var") == strings.TrimPrefix(b, "/var")
}

// checkBridgeMTU compares bridges with the way out.
func checkBridgeMTU(f *facts) []Problem {
	var found []Problem
	h := &f.Host
	sorted, networks := host.Bridges(h.living())
	for _, bridge := range sorted {
		br, ok := h.Links[bridge]
		if !ok || br.Kind != "bridge" {
			continue
		}
		rules := &networks[bridge].Rules
		name := networks[bridge].Newest.Network
		switch over, tunnel := h.Links[rules.Overlay]; {
		case tunnel && br.MTU > over.MTU:
			found = append(found, problem(fmt.Sprintf("network %s: bridge %s has MTU %d, and its VXLAN device %s %d", name, bridge, br.MTU, over.Name, over.MTU),
				"large packets to other hosts are lost", fmt.Sprintf("ip link set %s mtu %d", bridge, over.MTU), about{network: name}))
		case rules.Overlay == "" && !rules.Internal && h.Uplink.MTU != 0 && h.Uplink.Name != "lo" && br.MTU > h.Uplink.MTU:
			found = append(found, problem(fmt.Sprintf("network %s: bridge %s has MTU %d, and %s, the way out, %d", name, bridge, br.MTU, h.Uplink.Name, h.Uplink.MTU),
				"large packets to the outside are cut up, or lost where that is forbidden", fmt.Sprintf("ip link set %s mtu %d, and \"mtu\": %d in the network's configuration", bridge, h.Uplink.MTU, h.Uplink.MTU), about{network: name}))
		}
	}
	return found
}

// checkHostOverlaps compares the networks of this host with its routes, and with each
// other.
func checkHostOverlaps(h *hostFacts, routes []link.HostRoute) []Problem {
	var found []Problem
	const why = "packets for one of the two go to the other"
	for i, n := range h.Networks {
		for _, what := range link.Overlaps(n.Subnets, routes) {
			found = append(found, problem(fmt.Sprintf("network %s: %s", n.Name, what), why, "take the route away (ip route), or give the network another subnet", about{network: n.Name}))
		}
		for _, o := range h.Networks[i+1:] {
			if o.Link != n.Link && prefixesOverlap(n.Subnets, o.Subnets) {
				found = append(found, problem(fmt.Sprintf("networks %s and %s have the same addresses: %s and %s", n.Name, o.Name, joined(n.Subnets), joined(o.Subnets)),
					why, "give one of them another subnet", about{network: n.Name}, about{network: o.Name}))
			}
		}
	}
	return found
}

func joined[T any](all []T) string {
	words := make([]string, len(all))
	for i, v := range all {
		words[i] = fmt.Sprint(v)
	}
	return strings.Join(words, ",")
}

func prefixesOverlap(a, b []netip.Prefix) bool {
	return slices.ContainsFunc(a, func(p netip.Prefix) bool { return slices.ContainsFunc(b, p.Overlaps) })
}

// checkNames tells whether names resolve.
func checkNames(f *facts) ([]Problem, error) {
	h := &f.Host
	needed := slices.ContainsFunc(h.living(), hasNames)
	const why = "containers cannot be reached by their names"
	var found []Problem
	if h.Names != nil && h.Names.HostDeaf != "" {
		found = append(found, problem(h.Names.HostDeaf, "this host's programs do not find containers as NAME.NETWORK."+names.HostDomain,
			"end who has the address, or give the agent another one of loopback (host-names)"))
	}
	switch {
	case !needed:
		return found, nil
	case errors.Is(h.NamesErr, names.ErrNoAgent):
		return []Problem{problem("no agent answers for the names of this host's containers", why+", and find no others", mendReload+" starts one")}, nil
	case h.NamesErr != nil:
		return []Problem{problem(host.Summary(h.NamesErr), why, "systemctl restart berth-agent")}, nil
	case h.NamesPort != "" && h.Names.Port != names.Port:
		return []Problem{problem(fmt.Sprintf("%s has port %d: the agent answers for names on port %d", h.NamesPort, names.Port, h.Names.Port),
			"containers get no answer where a firewall lets only the former through", "end it, or have it listen elsewhere, then: systemctl restart berth-agent")}, nil
	case h.NamesPort != "":
		return []Problem{problem(fmt.Sprintf("%s has port %d, on which the agent answers for names", h.NamesPort, names.Port), why,
			"end it, or have it listen elsewhere, then: "+mendReload)}, nil
	}
	for _, bridge := range slices.Sorted(maps.Keys(h.Names.Deaf)) {
		found = append(found, problem(fmt.Sprintf("the agent cannot listen on bridge %s: %s", bridge, h.Names.Deaf[bridge]), why, mendReload, h.behind(bridge)))
	}
	for _, q := range h.Questions {
		if _, deaf := h.Names.Deaf[q.Bridge]; q.Err != nil && !deaf {
			found = append(found, problem(fmt.Sprintf("network %s: container %s asked %s for %s: %v", q.Network, q.Container, q.Server, q.Name, q.Err),
				why, mendReload+"; if it stays, a firewall on the way drops UDP port 53 or "+fmt.Sprint(h.namesPort()), about{network: q.Network}))
		}
	}
	return found, nil
}

// namesPort is where the agent answers for names.
func (h *hostFacts) namesPort() int {
	if h.Names == nil || h.Names.Port == 0 {
		return names.Port
	}
	return h.Names.Port
}

func hasNames(a *attach.Attachment) bool {
	return slices.ContainsFunc(a.Steps, func(s attach.Step) bool {
		r, ok := s.(*names.Register)
		return ok && len(r.Names) > 0
	})
}
