package firewall

import (
	"net/netip"

	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// bridgeTable is what [Spoof] keeps.
var bridgeTable = &nftnl.Table{Family: unix.NFPROTO_BRIDGE, Name: TableName, Sets: spoofSets, Chains: spoofChains,
	Counters: []string{SpoofedMAC, SpoofedARP, SpoofedND, SpoofedIP, SpoofedTag}, Version: checked, Users: checkedUsers}

// Its counters, of frames of containers that were dropped.
const (
	SpoofedMAC = "spoofed_mac" // another's MAC
	SpoofedARP = "spoofed_arp" // an address that is not its own, in ARP
	SpoofedND  = "spoofed_nd"  // in neighbor discovery, or it would be a router
	SpoofedIP  = "spoofed_ip"  // another source address
	SpoofedTag = "spoofed_tag" // VLAN tags in which nobody looks
)

// Its sets.
const (
	spoofPorts           = "ports" // ports of bridges whose senders are checked
	spoofMACs            = "macs"  // each with its MAC
	spoofOwn4, spoofOwn6 = "own4", "own6"
	spoofClaims6         = "claims6" // as own6: nft of 2023 has no name for the target of neighbor discovery
	// A container that is on several networks answers on one of them what it was asked by
	// its address on another, whose default route it does not have: each port leads to its
	// container, by a number, and that to all of its addresses.
	spoofContainers        = "containers"
	spoofAlso4, spoofAlso6 = "also4", "also6"
	spoofEcho              = "echo" // ports that send frames back, each with itself
)

// checked is the chain of what may be spoofed. The number at its end is the version of
// the table, as that of publish is.
const (
	checked      = "checked_4"
	checkedUsers = 13 + 1 // its rules, and the jump to it
	checkedIPv6  = "checked_ipv6"
)

func spoofSets() []nftnl.Set {
	name, mac, ip4, ip6 := nftables.TypeIFName, nftables.TypeEtherAddr, nftables.TypeIPAddr, nftables.TypeIP6Addr
	mark := nftables.TypeMark
	target := nftables.TypeInteger
	target.Bytes = 16
	return []nftnl.Set{
		{Name: spoofPorts, Key: name, Seen: nftnl.HostOrder()},
		{Name: spoofMACs, Key: nftables.MustConcatSetType(name, mac)},
		{Name: spoofOwn4, Key: nftables.MustConcatSetType(name, mac, ip4)},
		{Name: spoofOwn6, Key: nftables.MustConcatSetType(name, mac, ip6)},
		{Name: spoofClaims6, Key: nftables.MustConcatSetType(name, mac, target), Seen: nftnl.TypeOf(nftnl.IifName(), nftnl.Field(17, 2), nftnl.Raw(64, 128))},
		{Name: spoofContainers, Key: name, Data: mark, IsMap: true, Seen: nftnl.HostOrderMap()},
		{Name: spoofAlso4, Key: nftables.MustConcatSetType(mark, ip4)},
		{Name: spoofAlso6, Key: nftables.MustConcatSetType(mark, ip6)},
		{Name: spoofEcho, Key: nftables.MustConcatSetType(name, name)},
	}
}

var (
	etherSource = payload(expr.PayloadBaseLLHeader, 6, 6)
	// Of an ARP message for Ethernet and IPv4 (RFC 826).
	arpMAC    = payload(expr.PayloadBaseNetworkHeader, 8, 6)
	arpSource = payload(expr.PayloadBaseNetworkHeader, 14, 4)
	arpTarget = payload(expr.PayloadBaseNetworkHeader, 24, 4)
	// Of a message of neighbor discovery (RFC 4861, section 4).
	icmpType = payload(expr.PayloadBaseTransportHeader, 0, 1)
	ndTarget = payload(expr.PayloadBaseTransportHeader, 8, 16)
	// DHCP's ports, source and destination (RFC 2131, section 4.1).
	udpPorts = payload(expr.PayloadBaseTransportHeader, 0, 4)
)

// Types of ICMPv6 (RFC 4861, RFC 2710, RFC 3810).
const (
	mldReport            = 131
	mldDone              = 132
	routerSolicitation   = 133
	routerAdvertisement  = 134
	neighborSolicitation = 135
	neighborAdvert       = 136
	redirectMessage      = 137
	mld2Report           = 143
)

// spoofChains are the chains, in nft's words beside each rule. Most packets leave by the
// first or the second.
func spoofChains() []nftnl.Chain {
	icmp := func(kind byte) []expr.Any {
		return rule(transport(unix.IPPROTO_ICMPV6), compare(icmpType.load(register32), expr.CmpOpEq, []byte{kind}))
	}
	none := func() []expr.Any {
		return rule(etherType(unix.ETH_P_IPV6), saddr6.prefix(netip.IPv6Unspecified(), 16))
	}
	return []nftnl.Chain{{
		Name: checkedIPv6, Jumps: 1,
		Rules: [][]expr.Any{
			rule(icmp(routerAdvertisement), counted(SpoofedND), drop()),                                             // icmpv6 type nd-router-advert counter name "spoofed_nd" drop
			rule(icmp(redirectMessage), counted(SpoofedND), drop()),                                                 // icmpv6 type nd-redirect counter name "spoofed_nd" drop
			rule(icmp(neighborAdvert), notIn(spoofClaims6, iif, etherSource, ndTarget), counted(SpoofedND), drop()), // icmpv6 type nd-neighbor-advert iifname . ether saddr . @th,64,128 != @claims6 counter name "spoofed_nd" drop
			rule(etherType(unix.ETH_P_IPV6), in(spoofOwn6, iif, etherSource, saddr6), accept()),                     // iifname . ether saddr . ip6 saddr @own6 accept
			rule(none(), icmp(neighborSolicitation), in(spoofClaims6, iif, etherSource, ndTarget), accept()),        // ip6 saddr :: icmpv6 type nd-neighbor-solicit iifname . ether saddr . @th,64,128 @claims6 accept
			rule(none(), icmp(routerSolicitation), accept()),                                                        // ip6 saddr :: icmpv6 type nd-router-solicit accept
			rule(none(), icmp(mldReport), accept()),                                                                 // ip6 saddr :: icmpv6 type mld-listener-report accept
			rule(none(), icmp(mldDone), accept()),                                                                   // ip6 saddr :: icmpv6 type mld-listener-done accept
			rule(none(), icmp(mld2Report), accept()),                                                                // ip6 saddr :: icmpv6 type mld2-listener-report accept
			rule(markContainer()),                                                                                   // meta mark set iifname map @containers
			rule(etherType(unix.ETH_P_IPV6), in(spoofAlso6, markOf, saddr6), unmark(), accept()),                    // meta mark . ip6 saddr @also6 meta mark set 0 accept
			rule(counted(SpoofedIP), drop()),                                                                        // counter name "spoofed_ip" drop
		},
	}, {
		Name: checked, Jumps: 1,
		Rules: [][]expr.Any{
			rule(notIn(spoofMACs, iif, etherSource), counted(SpoofedMAC), drop()),                                                                                              // iifname . ether saddr != @macs counter name "spoofed_mac" drop
			rule(etherType(unix.ETH_P_ARP), in(spoofOwn4, iif, arpMAC, arpSource), accept()),                                                                                   // meta protocol arp iifname . arp saddr ether . arp saddr ip @own4 accept
			rule(etherType(unix.ETH_P_ARP), arpSource.prefix(netip.IPv4Unspecified(), 4), in(spoofOwn4, iif, arpMAC, arpTarget), accept()),                                     // meta protocol arp arp saddr ip 0.0.0.0 iifname . arp saddr ether . arp daddr ip @own4 accept
			rule(etherType(unix.ETH_P_ARP), markContainer()),                                                                                                                   // meta protocol arp meta mark set iifname map @containers
			rule(etherType(unix.ETH_P_ARP), in(spoofMACs, iif, arpMAC), in(spoofAlso4, markOf, arpSource), unmark(), accept()),                                                 // meta protocol arp iifname . arp saddr ether @macs meta mark . arp saddr ip @also4 meta mark set 0 accept
			rule(etherType(unix.ETH_P_ARP), counted(SpoofedARP), drop()),                                                                                                       // meta protocol arp counter name "spoofed_arp" drop
			rule(etherType(unix.ETH_P_IP), saddr4.prefix(netip.IPv4Unspecified(), 4), udp(), compare(udpPorts.load(register32), expr.CmpOpEq, []byte{0, 68, 0, 67}), accept()), // ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept
			rule(etherType(unix.ETH_P_IP), markContainer()),                                                                                                                    // meta protocol ip meta mark set iifname map @containers
			rule(etherType(unix.ETH_P_IP), in(spoofAlso4, markOf, saddr4), unmark(), accept()),                                                                                 // meta protocol ip meta mark . ip saddr @also4 meta mark set 0 accept
			rule(etherType(unix.ETH_P_IP), counted(SpoofedIP), drop()),                                                                                                         // meta protocol ip counter name "spoofed_ip" drop
			rule(etherType(unix.ETH_P_IPV6), jump(checkedIPv6)),                                                                                                                // meta protocol ip6 jump checked_ipv6
			// A tag in a tag: what is in it cannot be seen.
			rule(etherType(unix.ETH_P_8021Q), counted(SpoofedTag), drop()),  // meta protocol 8021q counter name "spoofed_tag" drop
			rule(etherType(unix.ETH_P_8021AD), counted(SpoofedTag), drop()), // meta protocol 8021ad counter name "spoofed_tag" drop
		},
	}, {
		Name: "prerouting", Kind: nftables.ChainTypeFilter,
		Hook: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRef(-200),
		Rules: [][]expr.Any{
			rule(etherType(unix.ETH_P_IP), in(spoofOwn4, iif, etherSource, saddr4), accept()),                                      // meta protocol ip iifname . ether saddr . ip saddr @own4 accept
			rule(etherType(unix.ETH_P_IPV6), notTransport(unix.IPPROTO_ICMPV6), in(spoofOwn6, iif, etherSource, saddr6), accept()), // meta protocol ip6 meta l4proto != ipv6-icmp iifname . ether saddr . ip6 saddr @own6 accept
			rule(notIn(spoofPorts, iif), accept()), // iifname != @ports accept
			rule(jump(checked)),                    // jump checked_4
		},
	}, {
		Name: "forward", Kind: nftables.ChainTypeFilter,
		Hook: nftables.ChainHookForward, Priority: nftables.ChainPriorityRef(-200),
		Rules: [][]expr.Any{
			rule(sentTo(unix.PACKET_BROADCAST), in(spoofEcho, iif, oif), drop()), // meta pkttype broadcast iifname . oifname @echo drop
			rule(sentTo(unix.PACKET_MULTICAST), in(spoofEcho, iif, oif), drop()), // meta pkttype multicast iifname . oifname @echo drop
		},
	}}
}

// sentTo matches frames to all, or to a group (PACKET_*, linux/if_packet.h).
func sentTo(many byte) []expr.Any {
	return compare(&expr.Meta{Key: expr.MetaKeyPKTTYPE, Register: register32}, expr.CmpOpEq, []byte{many})
}

// etherType matches the protocol of a frame, behind a tag that the kernel took off
// (ETH_P_*, linux/if_ether.h).
func etherType(proto uint16) []expr.Any {
	return compare(&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: register32}, expr.CmpOpEq, nftnl.Port(proto))
}

// markOf is the packet's mark. What comes from another namespace has none (skb_scrub_packet
// in net/core/skbuff.c), so that a rule can keep a number in it for the next one.
var markOf = meta(expr.MetaKeyMARK, 4)

func markContainer() []expr.Any {
	return append(lookup(spoofContainers, true, iif), &expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: register32})
}

func unmark() []expr.Any {
	return []expr.Any{&expr.Immediate{Register: register32, Data: nftnl.Host(0)}, &expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: register32}}
}

func notTransport(protocol byte) []expr.Any {
	return compare(l4proto.load(register32), expr.CmpOpNeq, []byte{protocol})
}
