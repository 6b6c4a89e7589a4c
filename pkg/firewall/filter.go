package firewall

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os/exec"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"github.com/coreos/go-iptables/iptables"
	"golang.org/x/sys/unix"
)

// filter is the filter table of iptables: of one family, in the kernel's nftables
// (iptables-nft) or in its own form from before (iptables-legacy). Both can be there.
type filter struct{ legacy, v6 bool }

// otherChain is a built-in chain of such a table, as the kernel has it.
type otherChain struct {
	filter
	name  string // FORWARD, INPUT
	drops bool   // its policy
	// marked counts its rules with a comment.
	marked func(comment string) (int, error)
}

// otherFirewalls asks the kernel, and starts no program: whether firewalld runs, by
// its table, and which of these built-in chains iptables has.
func otherFirewalls(s *socket, names ...string) (hasFirewalld bool, all []otherChain, err error) {
	reqs := []*netlink.Request{nftnl.Question(nftnl.GetTable, unix.NFPROTO_INET).Text(unix.NFTA_TABLE_NAME, firewalldTable)}
	var asked []otherChain
	for _, family := range []uint8{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6} {
		for _, name := range names {
			reqs = append(reqs, nftnl.Question(nftnl.GetChain, family).Text(unix.NFTA_CHAIN_TABLE, "filter").Text(unix.NFTA_CHAIN_NAME, name))
			asked = append(asked, otherChain{filter: filter{v6: family == unix.NFPROTO_IPV6}, name: name,
				marked: func(comment string) (int, error) { return s.countRules(family, name, comment) }})
		}
	}
	err = s.Ask(reqs, func(i int, m netlink.Message) { // not for ENOENT, or a kernel without nftables
		if i == 0 {
			hasFirewalld = true
			return
		}
		asked[i-1].drops = drops(m)
		all = append(all, asked[i-1])
	})
	if err != nil {
		return false, nil, err
	}
	legacy, err := legacyChains(names)
	return hasFirewalld, append(all, legacy...), err
}

// drops tells whether the chain's policy is drop.
func drops(m netlink.Message) bool {
	const drop = 0 // NF_DROP
	policy := m.Find(nftnl.HeaderLen, unix.NFTA_CHAIN_POLICY)
	return len(policy) == 4 && binary.BigEndian.Uint32(policy) == drop
}

// countRules counts the rules with a comment in a chain of the filter table. iptables
// has it as data of a match, ending with a zero, or as the rule's user data.
func (s *socket) countRules(family uint8, name, comment string) (int, error) {
	rules := nftnl.Question(nftnl.GetRule, family).Text(unix.NFTA_RULE_TABLE, "filter").Text(unix.NFTA_RULE_CHAIN, name)
	want := append([]byte(comment), 0)
	marked, err := nftnl.List(s.Socket, rules, func(m netlink.Message) (struct{}, bool) { return struct{}{}, bytes.Contains(m.Body, want) })
	return len(marked), err
}

func (f filter) String() string {
	name := "iptables"
	if f.v6 {
		name = "ip6tables"
	}
	if f.legacy {
		name += "-legacy"
	}
	return name
}

// program is the path of the one that speaks to the table: both flavours can be in use at
// once, and the plain name is either.
func (f filter) program() (string, error) {
	plain := "iptables"
	if f.v6 {
		plain = "ip6tables"
	}
	name := plain + "-nft"
	if f.legacy {
		name = plain + "-legacy"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath(plain)
	}
	if err != nil {
		return "", fmt.Errorf("the %s policy is drop: %w (Debian's package is iptables)", plain, err)
	}
	return path, nil
}

func (f filter) tables() (*iptables.IPTables, error) {
	proto := iptables.ProtocolIPv4
	if f.v6 {
		proto = iptables.ProtocolIPv6
	}
	path, err := f.program()
	if err != nil {
		return nil, err
	}
	return iptables.New(iptables.Path(path), iptables.IPFamily(proto), iptables.Timeout(lockWait))
}

// ensure adds the rules that are not there.
func (f filter) ensure(rules []text) error {
	t, err := f.tables()
	if err != nil {
		return err
	}
	for _, x := range rules {
		if err := x.ensure(t); err != nil {
			return err
		}
	}
	return nil
}

// remove deletes the rules that are there.
func (f filter) remove(rules []text) error {
	t, err := f.tables()
	if err != nil {
		return err
	}
	return deleteTexts(t, rules)
}
