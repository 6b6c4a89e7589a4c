package reference

import (
	"errors"
	"fmt"
	"strings"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"golang.org/x/sys/unix"
)

// nftChain is a chain of the reference's in which each rule is a container's.
type nftChain struct {
	family       uint8
	table, chain string
	owner        func(comment string) (Owner, bool)
}

// nftChains are those of pkg/ip/ipmasq_nftables_linux.go and of portmap.
var nftChains = []nftChain{
	{unix.NFPROTO_INET, "cni_plugins_masquerade", "masq_checks", masqOwner},
	{unix.NFPROTO_IPV4, "cni_hostport", "hostports", portOwner},
	{unix.NFPROTO_IPV4, "cni_hostport", "hostip_hostports", portOwner},
	{unix.NFPROTO_IPV4, "cni_hostport", "masquerading", portOwner},
	{unix.NFPROTO_IPV6, "cni_hostport", "hostports", portOwner},
	{unix.NFPROTO_IPV6, "cni_hostport", "hostip_hostports", portOwner},
	{unix.NFPROTO_IPV6, "cni_hostport", "masquerading", portOwner},
}

// masqOwner reads "HASH-HASH, net: NETWORK, if: IFNAME, id: CONTAINER". A long one is cut
// at 128 bytes, so that the container's ID may not be all of it.
func masqOwner(comment string) (o Owner, ok bool) {
	_, rest, ok := strings.Cut(comment, ", net: ")
	if !ok {
		return o, false
	}
	o.Network, rest, _ = strings.Cut(rest, ", if: ")
	o.IfName, o.Container, ok = strings.Cut(rest, ", id: ")
	return o, ok
}

// portOwner reads a comment that is the container's ID.
func portOwner(comment string) (Owner, bool) { return Owner{Container: comment}, comment != "" }

// nftRule is a rule of nftables.
type nftRule struct {
	nftChain
	handle []byte
	whose  Owner
}

func (r *nftRule) owner() Owner { return r.whose }

func (r *nftRule) where() string {
	family := map[uint8]string{unix.NFPROTO_INET: "inet", unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6"}[r.family]
	return fmt.Sprintf("nftables %s %s %s", family, r.table, r.chain)
}

// nftRules lists those of all containers.
func nftRules(s *nftnl.Socket) (all []rule, err error) {
	for _, c := range nftChains {
		found, bad := c.rules(s)
		all = append(all, found...)
		err = errors.Join(err, bad)
	}
	return all, err
}

func (c nftChain) rules(s *nftnl.Socket) ([]rule, error) {
	q := nftnl.Question(nftnl.GetRule, c.family).Text(unix.NFTA_RULE_TABLE, c.table).Text(unix.NFTA_RULE_CHAIN, c.chain)
	all, err := nftnl.List(s, q, func(m netlink.Message) (rule, bool) {
		if netlink.Text(m.Find(nftnl.HeaderLen, unix.NFTA_RULE_TABLE)) != c.table || netlink.Text(m.Find(nftnl.HeaderLen, unix.NFTA_RULE_CHAIN)) != c.chain {
			return nil, false // a kernel that lists more than it was asked for
		}
		owner, ok := c.owner(nftnl.CommentOf(m.Find(nftnl.HeaderLen, unix.NFTA_RULE_USERDATA)))
		return &nftRule{c, append([]byte(nil), m.Find(nftnl.HeaderLen, unix.NFTA_RULE_HANDLE)...), owner}, ok
	})
	if nftnl.Absent(err) {
		return nil, nil
	}
	return all, err
}

// removeNft removes rules, and then the tables that have none any more.
// The reference makes its table again when it needs it.
func removeNft(s *nftnl.Socket, rules []*nftRule) error {
	if len(rules) == 0 {
		return nil
	}
	type table struct {
		family uint8
		name   string
	}
	tables := map[table]bool{}
	for _, r := range rules {
		tables[table{r.family, r.table}] = true
		req := nftnl.Request(nftnl.DelRule, 0, r.family).Text(unix.NFTA_RULE_TABLE, r.table).Text(unix.NFTA_RULE_CHAIN, r.chain)
		err := s.Transact(req.Bytes(unix.NFTA_RULE_HANDLE, r.handle))
		if err != nil && !errors.Is(err, unix.ENOENT) { // somebody else was first
			return err
		}
	}
	for t := range tables {
		used := false
		for _, c := range nftChains {
			if c.family == t.family && c.table == t.name {
				left, err := c.rules(s)
				if err != nil {
					return err
				}
				used = used || len(left) > 0
			}
		}
		if used {
			continue
		}
		if err := s.Transact(nftnl.Request(nftnl.DelTable, 0, t.family).Text(unix.NFTA_TABLE_NAME, t.name)); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}
