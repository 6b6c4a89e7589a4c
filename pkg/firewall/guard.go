package firewall

import (
	"net/netip"

	"github.com/berth-cni/berth/pkg/firewall/conntrack"
	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// What the table has against packets that somebody forges: for the overlay's UDP ports,
// which only this host and its peers send to, and inside of the overlay, where everybody
// speaks as who it is.
const (
	tunnelPorts = "tunnels" // UDP ports of VXLAN
	inside      = "inside"  // interfaces behind which the overlays' addresses are: bridges and VXLAN devices

	overlays       = "overlays"         // UDP ports with the VNIs that they are filtered for
	vteps4, vteps6 = "vteps4", "vteps6" // who may send to these: underlay addresses, each with port and VNI
	// What these may have as the source of inner packets: their blocks, of all networks,
	// since a container of one may reach another. The first number is the outer family.
	inner44, inner46, inner64, inner66 = "inner44", "inner46", "inner64", "inner66"
)

// The table's counters, of packets that were dropped.
const (
	Injected = "injected" // VXLAN that neither this host nor a peer sent
	Stranger = "stranger" // VXLAN of an address that is no peer's
	Inner    = "inner"    // in a peer's VXLAN, from what is not its block
	Foreign  = "foreign"  // from an overlay's address, and it came another way
)

// standardPort is VXLAN's (RFC 7348, section 5). Whatever ports a host's networks use,
// containers send nothing there: others may.
const standardPort = 4789

func guardSets() []nftnl.Set {
	ip4, ip6 := nftables.TypeIPAddr, nftables.TypeIP6Addr
	port, word, way, raw6 := nftables.TypeInetService, nftables.TypeInteger, nftables.TypeString, nftables.TypeInteger
	way.Bytes, raw6.Bytes = unix.IFNAMSIZ, 16
	saddr4, saddr6 := nftnl.Field(12, 11), nftnl.Field(13, 8)
	dport, vni := nftnl.Field(6, 2), nftnl.Raw(96, 32)
	set := func(name string, seen nftnl.UserData, key ...nftables.SetDatatype) nftnl.Set {
		return nftnl.Set{Name: name, Key: nftables.MustConcatSetType(key...), Seen: seen}
	}
	ranges := func(name string, seen nftnl.UserData, key ...nftables.SetDatatype) nftnl.Set {
		s := set(name, seen, key...)
		for _, k := range key {
			s.Ranges = append(s.Ranges, k.Bytes)
		}
		return s
	}
	inner4, inner6 := nftnl.Raw(innerSource4*8, 32), nftnl.Raw(innerSource6*8, 128)
	return []nftnl.Set{
		{Name: tunnelPorts, Key: port},
		{Name: inside, Key: way, Seen: nftnl.TypeOf(nftnl.WayBack())},
		set(overlays, nftnl.TypeOf(dport, vni), port, word),
		set(vteps4, nftnl.TypeOf(saddr4, dport, vni), ip4, port, word),
		set(vteps6, nftnl.TypeOf(saddr6, dport, vni), ip6, port, word),
		ranges(inner44, nftnl.TypeOf(saddr4, inner4), ip4, word),
		ranges(inner46, nftnl.TypeOf(saddr4, inner6), ip4, raw6),
		ranges(inner64, nftnl.TypeOf(saddr6, inner4), ip6, word),
		ranges(inner66, nftnl.TypeOf(saddr6, inner6), ip6, raw6),
	}
}

// Of a VXLAN packet, from the UDP header on: the VXLAN header at 8 (RFC 7348, section 5),
// the inner Ethernet header at 16, and what it carries at 30. A tag in the inner frame is
// another protocol there.
const (
	innerProtocol = 28
	innerSource4  = 30 + 12
	innerSource6  = 30 + 8
)

var (
	vni    = payload(expr.PayloadBaseTransportHeader, 12, 4) // with the reserved byte
	inner4 = payload(expr.PayloadBaseTransportHeader, innerSource4, 4)
	inner6 = payload(expr.PayloadBaseTransportHeader, innerSource6, 16)
)

// forged are the rules of prerouting, where routes can be asked for the way back to a
// sender.
//
// A VXLAN packet comes in by an interface that leads to its sender. Containers, also
// those of others (Docker, a virtual machine), cannot speak as a peer then, nor as this
// host, which IPv6 would let them. Only the interfaces that they may have are asked
// for, since the underlay can have several, and the way back be another: not those of
// hardware (which have no kind), and not what is made of these.
//
// What comes out of a tunnel has a sender that is reached through a tunnel: not this
// host, its other networks, or what no host owns. The way back is that of the sender's
// network, which need not be the one of this packet, so that the kernel's strict reverse
// path filter (rp_filter) does not fit. All else in the name of an overlay's address comes
// in by the interface that leads to it. Asking the routes costs a microsecond, so only
// what starts is asked: after connection tracking, and before NAT. Before 6.10 the routes
// are asked here alone, and not in forward and input (nft_fib_validate in
// net/netfilter/nft_fib.c).
func forged() [][]expr.Any {
	return [][]expr.Any{
		// udp dport @tunnels meta iifkind != "bond" ... fib saddr . iif oif missing counter name "injected" drop
		rule(udp(), in(tunnelPorts, dport), notKind("bond", "team", "vlan", "vrf"), noWayBack(), counted(Injected), drop()),
		// The gateway of a network in a VLAN is on such an interface of its bridge, and leads to containers.
		// udp dport @tunnels iifname @bridges fib saddr . iif oif missing counter name "injected" drop
		rule(udp(), in(tunnelPorts, dport), in(bridges, iif), noWayBack(), counted(Injected), drop()),
		// ct state != established,related iifname @overlay fib saddr oifname != @ways counter name "foreign" drop
		rule(state(expr.CmpOpEq), in(overlay, iif), notIn(ways, wayBack), counted(Foreign), drop()),
		// ct state != established,related iifname != @overlay fib saddr oifname @inside fib saddr . iif oif missing counter name "foreign" drop
		rule(state(expr.CmpOpEq), notIn(overlay, iif), in(inside, wayBack), noWayBack(), counted(Foreign), drop()),
	}
}

// injecting are the rules of forward: no network's containers send VXLAN to what is not
// a container, whoever they say to be. Among themselves they may.
func injecting() [][]expr.Any {
	out := func(from string) []expr.Any {
		return rule(udp(), in(tunnelPorts, dport), in(from, iif), notIn(bridges, oif), notIn(overlay, oif), counted(Injected), drop())
	}
	return [][]expr.Any{
		out(bridges), // udp dport @tunnels iifname @bridges oifname != @bridges oifname != @overlay counter name "injected" drop
		out(overlay), // udp dport @tunnels iifname @overlay oifname != @bridges oifname != @overlay counter name "injected" drop
	}
}

func guardChains() []nftnl.Chain {
	peer := func(is []expr.Any, protocol uint16, set string, outer, inner field) []expr.Any {
		return rule(is, compare(payload(expr.PayloadBaseTransportHeader, innerProtocol, 2).load(register32), expr.CmpOpEq, nftnl.Port(protocol)), in(set, outer, inner), accept())
	}
	return []nftnl.Chain{{
		// VXLAN packets are taken from known peers only, and what is in them from their
		// blocks. The VNI is in the 24 bits behind the UDP header's and the VXLAN header's
		// first word. The 8 behind it are zero, or the kernel's device drops the packet
		// (vxlan_rcv in drivers/net/vxlan/vxlan_core.c).
		Name: tunnelled, Jumps: 1,
		Rules: [][]expr.Any{
			rule(udp(), notIn(overlays, dport, vni), verdict(expr.VerdictReturn)),            // udp dport . @th,96,32 != @overlays return
			rule(is4(), udp(), notIn(vteps4, saddr4, dport, vni), counted(Stranger), drop()), // ip saddr . udp dport . @th,96,32 != @vteps4 counter name "stranger" drop
			rule(is6(), udp(), notIn(vteps6, saddr6, dport, vni), counted(Stranger), drop()),
			peer(is4(), unix.ETH_P_IP, inner44, saddr4, inner4),   // @th,224,16 0x800 ip saddr . @th,336,32 @inner44 accept
			peer(is4(), unix.ETH_P_IPV6, inner46, saddr4, inner6), // @th,224,16 0x86dd ip saddr . @th,304,128 @inner46 accept
			peer(is6(), unix.ETH_P_IP, inner64, saddr6, inner4),
			peer(is6(), unix.ETH_P_IPV6, inner66, saddr6, inner6),
			rule(counted(Inner), drop()), // counter name "inner" drop
		},
	}, {
		// Behind all that translates senders: what is forwarded and has this host's address
		// now would be a peer's packet to another host. This host's own packets, of VXLAN
		// devices and programs, may be translated, as by a masquerade with random ports.
		Name: "postrouting_filter", Kind: nftables.ChainTypeFilter,
		Hook: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityRef(250),
		Rules: [][]expr.Any{
			rule(notTransport(unix.IPPROTO_UDP), accept()),   // meta l4proto != udp accept
			rule(udp(), notIn(tunnelPorts, dport), accept()), // udp dport != @tunnels accept
			rule(masked(&expr.Ct{Key: expr.CtKeySTATUS, Register: register32}, nftnl.Host(conntrack.StatusSNAT), expr.CmpOpEq, nftnl.Host(0)), accept()), // ct status ! snat accept
			rule(compare(iifKind.load(register32), expr.CmpOpEq, nftnl.Name("vxlan")), accept()),                                                         // meta iifkind "vxlan" accept
			rule(compare(iifIndex.load(register32), expr.CmpOpNeq, nftnl.Host(0)), counted(Injected), drop()),                                            // iif != 0 counter name "injected" drop
		},
	}}
}

// tunnelled is the chain of what comes in to the overlay's ports.
const tunnelled = "tunnelled"

// iifKind is that of rtnetlink (IFLA_INFO_KIND). A rule that asks an interface without
// one, or a packet without an interface, does not match.
var iifKind = meta(metaIIFKind, unix.IFNAMSIZ)

// iifIndex is 0 for a program's packets. VXLAN devices are the interface of what they
// send (kernel 5.7, ip_output in net/ipv4/ip_output.c).
var iifIndex = meta(expr.MetaKeyIIF, 4)

const metaIIFKind = 26 // NFT_META_IIFKIND (linux/netfilter/nf_tables.h)

// notKind matches interfaces that have a kind, and none of these.
func notKind(kinds ...string) (all []expr.Any) {
	for _, kind := range kinds {
		all = append(all, compare(iifKind.load(register32), expr.CmpOpNeq, nftnl.Name(kind))...)
	}
	return all
}

// noWayBack matches what came in by an interface that does not lead to its sender.
func noWayBack() []expr.Any {
	return compare(&expr.Fib{Register: register32, FlagSADDR: true, FlagIIF: true, FlagPRESENT: true, ResultOIF: true}, expr.CmpOpEq, nftnl.Host(0))
}

func counted(name string) []expr.Any { return []expr.Any{nftnl.Count(name)} }

// innerElements are what a peer may speak as.
func (v *VTEP) innerElements() (all []nftnl.Element) {
	outer := v.Address.Unmap().WithZone("")
	for _, block := range outermost(v.Blocks) {
		set := map[[2]bool]string{{true, true}: inner44, {true, false}: inner46, {false, true}: inner64, {false, false}: inner66}[[2]bool{outer.Is4(), block.Addr().Is4()}]
		all = append(all, nftnl.Element{Set: set, Lasting: true,
			Key: nftnl.Join(outer.AsSlice(), block.Addr().AsSlice()), End: nftnl.Join(outer.AsSlice(), last(block).AsSlice())})
	}
	return all
}

// outermost leaves out blocks that are in another: ranges of a set may not overlap.
func outermost(blocks []netip.Prefix) (all []netip.Prefix) {
	for i, b := range blocks {
		covered := false
		for j, other := range blocks {
			covered = covered || other.Overlaps(b) && (other.Bits() < b.Bits() || other == b && j < i)
		}
		if !covered {
			all = append(all, b.Masked())
		}
	}
	return all
}

// last is the highest address of a prefix.
func last(p netip.Prefix) netip.Addr {
	a := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(a); i++ {
		a[i/8] |= 0x80 >> (i % 8)
	}
	addr, _ := netip.AddrFromSlice(a)
	return addr
}
