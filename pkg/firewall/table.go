package firewall

import (
	"slices"

	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// TableName is the name of the nftables table (family inet) that holds
// everything this package makes.
const TableName = "berth"

// inet is the table, as this version makes it.
var inet = &nftnl.Table{Family: unix.NFPROTO_INET, Name: TableName, Sets: sets, Chains: chains,
	Counters: []string{Injected, Stranger, Inner, Foreign, SpoofedIP}, Version: publish, Users: publishUsers}

// socket is one that speaks of the table, in the network namespace of the thread that
// opened it.
type socket struct{ *nftnl.Conn }

func dial() (*socket, error) {
	c, err := inet.Dial()
	return &socket{c}, err
}

// The table's sets and maps. Chains and rules are constant; networks and
// containers are elements of these.
const (
	bridges  = "bridges"  // bridges of all networks
	overlay  = "overlay"  // VXLAN devices of all networks
	ways     = "ways"     // the same: nft has another type for where a route leads
	same     = "same"     // pairs of interfaces that are one network: a bridge with itself and its VXLAN device
	groups   = "groups"   // pairs of interface groups that are one network: that of its containers' interfaces with itself
	noICC    = "noicc"    // interfaces of networks whose containers may not talk to each other
	internal = "internal" // interfaces of networks with no way in or out
	isolated = "isolated" // interfaces of networks without traffic to others of this set
	named    = "names"    // bridges of networks whose containers' questions for names are answered here

	gateways4, gateways6 = "gateways4", "gateways6" // what these ask: the networks' gateway addresses with their bridge
	lan                  = "lan"                    // bridges that somebody else made: who is no container may ask by them, too
	namesPorts           = "names_ports"            // where names are answered, by protocol, if not at [allow.NamesPort]

	protected4, protected6 = "protected4", "protected6" // bridges of networks that only what is published is let into from outside
	direct4, direct6       = "direct4", "direct6"       // those that are not translated: ICMP is let in
	open4, open6           = "open4", "open6"           // what of theirs is published: container addresses with protocol and port
	hairpin4, hairpin6     = "hairpin4", "hairpin6"     // bridges that answers to what others translated must leave for the host

	own4, own6       = "own4", "own6"       // container addresses with their bridge
	masq4, masq6     = "masq4", "masq6"     // container addresses to masquerade
	routed4, routed6 = "routed4", "routed6" // those that are not in front of other hosts' containers

	ports4, ports6     = "ports4", "ports6"       // published on all addresses
	ports4IP, ports6IP = "ports4_ip", "ports6_ip" // published on one address
)

func sets() []nftnl.Set {
	name, way := nftables.TypeIFName, nftables.TypeString
	way.Bytes = unix.IFNAMSIZ
	ip4, ip6 := nftables.TypeIPAddr, nftables.TypeIP6Addr
	proto, port := nftables.TypeInetProto, nftables.TypeInetService
	keys := func(title string, key ...nftables.SetDatatype) nftnl.Set {
		return nftnl.Set{Name: title, Key: nftables.MustConcatSetType(key...)}
	}
	names := func(title string) nftnl.Set { return nftnl.Set{Name: title, Key: name, Seen: nftnl.HostOrder()} }
	ports := func(s nftnl.Set, ip nftables.SetDatatype) nftnl.Set {
		s.IsMap, s.Data = true, nftables.MustConcatSetType(ip, port)
		return s
	}
	return append([]nftnl.Set{
		names(bridges), names(overlay), {Name: ways, Key: way, Seen: nftnl.TypeOf(nftnl.WayBack())},
		keys(same, name, name), keys(groups, nftables.TypeDevGroup, nftables.TypeDevGroup), names(noICC), names(internal), names(isolated), names(named),
		keys(gateways4, ip4, name), keys(gateways6, ip6, name), names(lan),
		names(protected4), names(protected6), names(direct4), names(direct6), names(hairpin4), names(hairpin6),
		keys(open4, ip4, proto, port), keys(open6, ip6, proto, port),
		keys(own4, ip4, name), keys(own6, ip6, name),
		{Name: masq4, Key: ip4}, {Name: masq6, Key: ip6}, {Name: routed4, Key: ip4}, {Name: routed6, Key: ip6},
		ports(keys(ports4, proto, port), ip4), ports(keys(ports4IP, ip4, proto, port), ip4),
		{Name: namesPorts, Key: proto, IsMap: true, Data: port},
		ports(keys(ports6, proto, port), ip6), ports(keys(ports6IP, ip6, proto, port), ip6),
	}, append(guardSets(), senderSets()...)...)
}

// publish is the chain that all published ports pass. The number at its end is the
// version of the table: it is raised when a set or a rule changes, and has the next
// ADD replace a table that another version made.
const (
	publish      = "publish_12"
	publishUsers = 5 + 2 // its rules, and the jumps to it
)

// chains are the table's chains, in nft's words beside each rule.
func chains() []nftnl.Chain {
	return slices.Concat([]nftnl.Chain{questionChain()}, natChains(), guardChains(), []nftnl.Chain{senderChain()}, filterChains())
}

func natChains() []nftnl.Chain {
	return []nftnl.Chain{{
		Name: publish, Jumps: 2,
		Rules: [][]expr.Any{
			// The kernel drops the answers to what NAT sends away from ::1. Left alone, the
			// connection is refused at once, and clients go on to 127.0.0.1. From another
			// address of this host to ::1 there is no such harm.
			rule(is6(), saddr6.prefix(loopback6, 16), verdict(expr.VerdictReturn)),               // ip6 saddr ::1 return
			rule(is4(), lookup(ports4IP, true, daddr4, l4proto, dport), dnat(unix.NFPROTO_IPV4)), // ct label set 127 dnat ip to ip daddr . meta l4proto . th dport map @ports4_ip
			rule(is4(), lookup(ports4, true, l4proto, dport), dnat(unix.NFPROTO_IPV4)),           // ct label set 127 dnat ip to meta l4proto . th dport map @ports4
			rule(is6(), lookup(ports6IP, true, daddr6, l4proto, dport), dnat(unix.NFPROTO_IPV6)),
			rule(is6(), lookup(ports6, true, l4proto, dport), dnat(unix.NFPROTO_IPV6)),
		},
	}, {
		// Only what is sent to this host: transit traffic to the same port is
		// somebody else's (CVE-2025-67499). What comes from elsewhere to 127.0.0.0/8, as
		// an interface with route_localnet takes it (kube-proxy sets that for all), is not
		// sent to a port that is published on 127.0.0.1: this host's own is, in output.
		Name: "prerouting", Kind: nftables.ChainTypeNAT,
		Hook: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest,
		Rules: [][]expr.Any{
			rule(udp(), dns(), in(named, iif), jump(questions)),                       // udp dport 53 iifname @names jump questions
			rule(transport(unix.IPPROTO_TCP), dns(), in(named, iif), jump(questions)), // tcp dport 53 iifname @names jump questions
			rule(udp(), in(tunnelPorts, dport), verdict(expr.VerdictReturn)),          // udp dport @tunnels return: not for a container that published the port before
			rule(is4(), daddr4.prefix(loopback4, 1), verdict(expr.VerdictReturn)),     // ip daddr 127.0.0.0/8 return
			rule(toHost(), jump(publish)),                                             // fib daddr type local jump publish
		},
	}, {
		Name: "output", Kind: nftables.ChainTypeNAT,
		Hook: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest,
		Rules: [][]expr.Any{rule(toHost(), jump(publish))},
	}, {
		Name: "postrouting", Kind: nftables.ChainTypeNAT,
		Hook: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
		Rules: [][]expr.Any{
			// Hairpin: a container that reaches itself or a neighbour through a
			// published port must see the answer come back through the host. What
			// others translated (a service of kube-proxy's) keeps its sender, where the
			// answer comes back by itself.
			rule(ours(), is4(), in(own4, saddr4, oif), masquerade()), // ct label 127 ip saddr . oifname @own4 masquerade
			rule(ours(), is6(), in(own6, saddr6, oif), masquerade()),
			rule(translated(), is4(), in(hairpin4, oif), in(own4, saddr4, oif), masquerade()), // ct status dnat oifname @hairpin4 ip saddr . oifname @own4 masquerade
			rule(translated(), is6(), in(hairpin6, oif), in(own6, saddr6, oif), masquerade()),
			rule(is4(), saddr4.prefix(loopback4, 1), in(bridges, oif), masquerade()), // ip saddr 127.0.0.0/8 oifname @bridges masquerade
			// Not between our own networks, and not what is multicast.
			rule(is4(), in(masq4, saddr4), notIn(bridges, oif), daddr4.notMulticast4(), masquerade()), // ip saddr @masq4 oifname != @bridges ip daddr != 224.0.0.0/4 masquerade
			rule(is6(), in(masq6, saddr6), notIn(bridges, oif), daddr6.notPrefix(multicast6, 1), masquerade()),
			rule(is4(), in(routed4, saddr4), notIn(bridges, oif), notIn(overlay, oif), daddr4.notMulticast4(), masquerade()), // ip saddr @routed4 oifname != @bridges oifname != @overlay ip daddr != 224.0.0.0/4 masquerade
			rule(is6(), in(routed6, saddr6), notIn(bridges, oif), notIn(overlay, oif), daddr6.notPrefix(multicast6, 1), masquerade()),
		},
	}}
}

func filterChains() []nftnl.Chain {
	return []nftnl.Chain{{
		// Bridges have route_localnet set for ports on 127.0.0.1: nobody but this
		// host may use those addresses (CVE-2020-8558). The address is compared first,
		// which costs every packet less than a look at the bridges.
		Name: "prerouting_mangle", Kind: nftables.ChainTypeFilter,
		Hook: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle,
		Rules: append([][]expr.Any{
			rule(is4(), daddr4.prefix(loopback4, 1), in(bridges, iif), drop()), // ip daddr 127.0.0.0/8 iifname @bridges drop
			rule(is4(), saddr4.prefix(loopback4, 1), in(bridges, iif), drop()), // ip saddr 127.0.0.0/8 iifname @bridges drop
			rule(in(heldPorts, iif), jump(senders)),                            // iifname @held jump senders
		}, forged()...),
	}, {
		Name: "forward", Kind: nftables.ChainTypeFilter,
		Hook: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
		Rules: append(injecting(), [][]expr.Any{
			// The short way for most packets: what started is not asked again.
			rule(state(expr.CmpOpNeq), accept()),                              // ct state established,related accept
			rule(in(same, iif, oif), notIn(noICC, iif), accept()),             // iifname . oifname @same iifname != @noicc accept
			rule(in(overlay, iif), in(overlay, oif), drop()),                  // iifname @overlay oifname @overlay drop: every host sends to the owner itself
			rule(in(groups, iifGroup, oifGroup), notIn(noICC, iif), accept()), // iifgroup . oifgroup @groups iifname != @noicc accept
			rule(in(internal, iif), drop()),                                   // iifname @internal drop
			rule(in(internal, oif), drop()),                                   // oifname @internal drop
			rule(translated(), accept()),                                      // ct status dnat accept: published, or somebody else's
			rule(in(same, iif, oif), drop()),                                  // iifname . oifname @same drop
			rule(in(groups, iifGroup, oifGroup), drop()),                      // iifgroup . oifgroup @groups drop
			rule(is4(), in(open4, daddr4, l4proto, dport), accept()),          // ip daddr . meta l4proto . th dport @open4 accept
			rule(is6(), in(open6, daddr6, l4proto, dport), accept()),
			rule(in(isolated, iif), in(isolated, oif), drop()),                    // iifname @isolated oifname @isolated drop
			rule(in(bridges, iif), accept()),                                      // iifname @bridges accept: not from outside
			rule(in(overlay, iif), accept()),                                      // iifname @overlay accept
			rule(is4(), transport(unix.IPPROTO_ICMP), in(direct4, oif), accept()), // ip protocol icmp oifname @direct4 accept
			rule(is6(), transport(unix.IPPROTO_ICMPV6), in(direct6, oif), accept()),
			rule(is4(), in(protected4, oif), drop()), // oifname @protected4 drop
			rule(is6(), in(protected6, oif), drop()),
		}...),
	}, {
		// An internal network reaches its own gateway address, none of the
		// host's others; from other hosts, the address of its VXLAN device. What is
		// not unicast (neighbour discovery) passes.
		Name: "input", Kind: nftables.ChainTypeFilter,
		Hook: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter,
		Rules: [][]expr.Any{
			rule(udp(), in(tunnelPorts, dport), jump(tunnelled)),                     // udp dport @tunnels jump tunnelled
			rule(in(internal, iif), state(expr.CmpOpEq), toOtherInterface(), drop()), // iifname @internal ct state != established,related fib daddr . iif type unicast drop
		},
	}}
}
