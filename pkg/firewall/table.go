package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// TableName is the name of the nftables table (family inet) that holds
// everything this package makes.
const TableName = "berth"

// The table's sets and maps. Chains and rules are constant; networks and
// containers are elements of these.
const (
	bridges  = "bridges"  // bridges of all networks
	same     = "same"     // each bridge with itself: traffic that stays on it
	noICC    = "noicc"    // bridges whose containers may not talk to each other
	internal = "internal" // bridges with no way in or out
	isolated = "isolated" // bridges without traffic to others of this set

	own4, own6   = "own4", "own6"   // container addresses with their bridge
	masq4, masq6 = "masq4", "masq6" // container addresses to masquerade

	ports4, ports6     = "ports4", "ports6"       // published on all addresses
	ports4IP, ports6IP = "ports4_ip", "ports6_ip" // published on one address
)

func sets(t *nftables.Table) []*nftables.Set {
	name := nftables.TypeIFName
	ip4, ip6 := nftables.TypeIPAddr, nftables.TypeIP6Addr
	proto, port := nftables.TypeInetProto, nftables.TypeInetService
	set := func(set string, key ...nftables.SetDatatype) *nftables.Set {
		s := &nftables.Set{Table: t, Name: set, KeyType: key[0]}
		if len(key) > 1 {
			s.KeyType = nftables.MustConcatSetType(key...)
		} else if key[0].Name == name.Name {
			s.KeyByteOrder = binaryutil.NativeEndian // nft prints the name backwards otherwise
		}
		return s
	}
	ports := func(set *nftables.Set, ip nftables.SetDatatype) *nftables.Set {
		set.IsMap, set.DataType = true, nftables.MustConcatSetType(ip, port)
		return set
	}
	return []*nftables.Set{
		set(bridges, name), set(same, name, name),
		set(noICC, name), set(internal, name), set(isolated, name),
		set(own4, ip4, name), set(own6, ip6, name),
		set(masq4, ip4), set(masq6, ip6),
		ports(set(ports4, proto, port), ip4), ports(set(ports4IP, ip4, proto, port), ip4),
		ports(set(ports6, proto, port), ip6), ports(set(ports6IP, ip6, proto, port), ip6),
	}
}

// chain is a chain of the table; hook is nil for one that others jump to.
type chain struct {
	name     string
	kind     nftables.ChainType
	hook     *nftables.ChainHook
	priority *nftables.ChainPriority
	rules    [][]expr.Any
	jumps    int // rules of other chains that lead here
}

// publish is the chain that all published ports pass. The number at its end is the
// version of the table: it is raised when a set or a rule changes, and has the next
// ADD replace a table that another version made.
const (
	publish      = "publish_1"
	publishUsers = 5 + 2 // its rules, and the jumps to it
)

// chains are the table's chains, in nft's words beside each rule.
func chains() []chain { return slices.Concat(natChains(), filterChains()) }

func natChains() []chain {
	return []chain{{
		name: publish, jumps: 2,
		rules: [][]expr.Any{
			// The kernel drops what NAT sends away from ::1. Left alone, the
			// connection is refused at once, and clients go on to 127.0.0.1.
			rule(is6(), daddr6.prefix(loopback6, 16), verdict(expr.VerdictReturn)),               // ip6 daddr ::1 return
			rule(is4(), lookup(ports4IP, true, daddr4, l4proto, dport), dnat(unix.NFPROTO_IPV4)), // dnat ip to ip daddr . meta l4proto . th dport map @ports4_ip
			rule(is4(), lookup(ports4, true, l4proto, dport), dnat(unix.NFPROTO_IPV4)),           // dnat ip to meta l4proto . th dport map @ports4
			rule(is6(), lookup(ports6IP, true, daddr6, l4proto, dport), dnat(unix.NFPROTO_IPV6)),
			rule(is6(), lookup(ports6, true, l4proto, dport), dnat(unix.NFPROTO_IPV6)),
		},
	}, {
		// Only what is sent to this host: transit traffic to the same port is
		// somebody else's (CVE-2025-67499).
		name: "prerouting", kind: nftables.ChainTypeNAT,
		hook: nftables.ChainHookPrerouting, priority: nftables.ChainPriorityNATDest,
		rules: [][]expr.Any{rule(toHost(), jump(publish))}, // fib daddr type local jump publish
	}, {
		name: "output", kind: nftables.ChainTypeNAT,
		hook: nftables.ChainHookOutput, priority: nftables.ChainPriorityNATDest,
		rules: [][]expr.Any{rule(toHost(), jump(publish))},
	}, {
		name: "postrouting", kind: nftables.ChainTypeNAT,
		hook: nftables.ChainHookPostrouting, priority: nftables.ChainPriorityNATSource,
		rules: [][]expr.Any{
			// Hairpin: a container that reaches itself or a neighbour through a
			// published port must see the answer come back through the host.
			rule(published(), is4(), in(own4, saddr4, oif), masquerade()), // ct status dnat ip saddr . oifname @own4 masquerade
			rule(published(), is6(), in(own6, saddr6, oif), masquerade()),
			rule(is4(), saddr4.prefix(loopback4, 1), in(bridges, oif), masquerade()), // ip saddr 127.0.0.0/8 oifname @bridges masquerade
			// Not between our own networks, and not what is multicast.
			rule(is4(), in(masq4, saddr4), notIn(bridges, oif), daddr4.notMulticast4(), masquerade()), // ip saddr @masq4 oifname != @bridges ip daddr != 224.0.0.0/4 masquerade
			rule(is6(), in(masq6, saddr6), notIn(bridges, oif), daddr6.notPrefix(multicast6, 1), masquerade()),
		},
	}}
}

func filterChains() []chain {
	return []chain{{
		// Bridges have route_localnet set for ports on 127.0.0.1: nobody but this
		// host may use those addresses (CVE-2020-8558).
		name: "prerouting_raw", kind: nftables.ChainTypeFilter,
		hook: nftables.ChainHookPrerouting, priority: nftables.ChainPriorityRaw,
		rules: [][]expr.Any{
			rule(in(bridges, iif), is4(), daddr4.prefix(loopback4, 1), drop()), // iifname @bridges ip daddr 127.0.0.0/8 drop
			rule(in(bridges, iif), is4(), saddr4.prefix(loopback4, 1), drop()), // iifname @bridges ip saddr 127.0.0.0/8 drop
		},
	}, {
		name: "forward", kind: nftables.ChainTypeFilter,
		hook: nftables.ChainHookForward, priority: nftables.ChainPriorityFilter,
		rules: [][]expr.Any{
			// The short way for most packets: what started is not asked again.
			rule(state(expr.CmpOpNeq), accept()),                  // ct state established,related accept
			rule(in(same, iif, oif), notIn(noICC, iif), accept()), // iifname . oifname @same iifname != @noicc accept
			rule(in(internal, iif), drop()),                       // iifname @internal drop
			rule(in(internal, oif), drop()),                       // oifname @internal drop
			rule(published(), accept()),                           // ct status dnat accept
			rule(in(same, iif, oif), drop()),                      // iifname . oifname @same drop
			rule(in(isolated, iif), in(isolated, oif), drop()),    // iifname @isolated oifname @isolated drop
		},
	}, {
		// An internal network reaches its own gateway address, none of the
		// host's others. What is not unicast (neighbour discovery) passes.
		name: "input", kind: nftables.ChainTypeFilter,
		hook: nftables.ChainHookInput, priority: nftables.ChainPriorityFilter,
		rules: [][]expr.Any{
			rule(in(internal, iif), state(expr.CmpOpEq), toOtherInterface(), drop()), // iifname @internal ct state != established,related fib daddr . iif type unicast drop
		},
	}}
}

// makeTable makes the table with its chains, rules and elements in one
// transaction. replace removes one that is there, and all in it; without it a
// table that is there is EEXIST.
func makeTable(replace bool, elements []element) error {
	c, err := nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error {
		bytes := 1<<20 + 256*len(elements) // refused messages come back whole
		return errors.Join(c.SetWriteBuffer(bytes), c.SetReadBuffer(bytes))
	}))
	if err != nil {
		return fmt.Errorf("open netfilter socket: %w", err)
	}
	t := &nftables.Table{Name: TableName, Family: nftables.TableFamilyINet}
	if replace {
		c.AddTable(t) // so that there is one to delete
		c.DelTable(t)
	}
	c.CreateTable(t) // with NLM_F_EXCL: rules cannot come twice
	byName := map[string]*nftables.Set{}
	for i, s := range sets(t) {
		s.ID = uint32(i + 1) // the library's own counter is not for concurrent use
		if err := c.AddSet(s, nil); err != nil {
			return fmt.Errorf("encode set %s: %w", s.Name, err)
		}
		byName[s.Name] = s
	}
	for _, ch := range chains() {
		where := c.AddChain(&nftables.Chain{Table: t, Name: ch.name, Type: ch.kind, Hooknum: ch.hook, Priority: ch.priority})
		for _, exprs := range ch.rules {
			c.AddRule(&nftables.Rule{Table: t, Chain: where, Exprs: exprs})
		}
	}
	const most = 256 // elements in a message, whose list has 16 bits of length
	for set, s := range byName {
		var all []nftables.SetElement
		for _, e := range elements {
			if e.set == set {
				all = append(all, nftables.SetElement{Key: e.key, Val: e.value, Comment: e.comment})
			}
		}
		for some := range slices.Chunk(all, most) {
			if err := c.SetAddElements(s, some); err != nil {
				return fmt.Errorf("encode elements of set %s: %w", set, err)
			}
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("make nftables table inet %s: %w", TableName, err)
	}
	return nil
}

func host32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
