package firewall

import (
	"net/netip"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// heldPorts are the interfaces of containers on networks without a bridge whose senders are
// checked, as [Spoof] checks them at a bridge: [spoofContainers], [spoofAlso4] and
// [spoofAlso6] are in both tables.
const heldPorts = "held"

func senderSets() []nftnl.Set {
	name, mark := nftables.TypeIFName, nftables.TypeMark
	return []nftnl.Set{
		{Name: heldPorts, Key: name, Seen: nftnl.HostOrder()},
		{Name: spoofContainers, Key: name, Data: mark, IsMap: true, Seen: nftnl.HostOrderMap()},
		{Name: spoofAlso4, Key: nftables.MustConcatSetType(mark, nftables.TypeIPAddr)},
		{Name: spoofAlso6, Key: nftables.MustConcatSetType(mark, nftables.TypeIP6Addr)},
	}
}

// heldElements are what holds the container to its addresses.
func (r *Rules) heldElements(a *attach.Attachment) []nftnl.Element {
	all := alsoElements(a)
	if r.Group == 0 {
		return all
	}
	return append(all, nftnl.Element{Set: heldPorts, Key: nftnl.Name(r.Bridge), Comment: a.Hash()},
		nftnl.Element{Set: spoofContainers, Key: nftnl.Name(r.Bridge), Value: containerNumber(a.Container), Comment: a.Hash()})
}

// senders is the chain of what held containers send.
const senders = "senders"

// linkLocal6 is the prefix of addresses that reach no further than the host's end (RFC 4291,
// section 2.5.6), and unspecified6 the sender of who has no address yet.
var linkLocal6, unspecified6 = netip.MustParseAddr("fe80::"), netip.IPv6Unspecified()

func senderChain() nftnl.Chain {
	accepted := verdict(expr.VerdictReturn)
	return nftnl.Chain{
		Name: senders, Jumps: 1,
		Rules: [][]expr.Any{
			rule(is4(), in(own4, saddr4, iif), accepted),                    // ip saddr . iifname @own4 return
			rule(is6(), in(own6, saddr6, iif), accepted),                    // ip6 saddr . iifname @own6 return
			rule(is6(), saddr6.prefix(linkLocal6, 2), accepted),             // ip6 saddr fe80::/16 return
			rule(is6(), saddr6.prefix(unspecified6, 16), accepted),          // ip6 saddr :: return
			rule(markContainer()),                                           // meta mark set iifname map @containers
			rule(is4(), in(spoofAlso4, markOf, saddr4), unmark(), accepted), // meta mark . ip saddr @also4 meta mark set 0 return
			rule(is6(), in(spoofAlso6, markOf, saddr6), unmark(), accepted),
			rule(counted(SpoofedIP), drop()), // counter name "spoofed_ip" drop
		},
	}
}
