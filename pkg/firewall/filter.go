package firewall

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os/exec"

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
	var p packet
	p.begin(getTable, 0, unix.NFPROTO_INET, 0, 0)
	p.text(unix.NFTA_TABLE_NAME, firewalldTable)
	var asked []otherChain
	for _, family := range []uint8{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6} {
		for _, name := range names {
			p.begin(getChain, 0, family, 0, 0)
			p.text(unix.NFTA_CHAIN_TABLE, "filter")
			p.text(unix.NFTA_CHAIN_NAME, name)
			asked = append(asked, otherChain{filter: filter{v6: family == unix.NFPROTO_IPV6}, name: name,
				marked: func(comment string) (int, error) { return s.countRules(family, name, comment) }})
		}
	}
	p.ack()
	answers, err := s.exchange(&p)
	if err != nil {
		return false, nil, err
	}
	for _, r := range answers {
		switch i := int(r.seq) - 1; {
		case r.kind == unix.NLMSG_ERROR: // ENOENT, or a kernel without nftables
		case i == 0:
			hasFirewalld = true
		case i > 0 && i <= len(asked):
			asked[i-1].drops = r.drops()
			all = append(all, asked[i-1])
		}
	}
	legacy, err := legacyChains(names)
	return hasFirewalld, append(all, legacy...), err
}

// drops tells whether the chain's policy is drop.
func (r reply) drops() bool {
	const drop = 0 // NF_DROP
	policy := attrOf(r.attrs, unix.NFTA_CHAIN_POLICY)
	return len(policy) == 4 && binary.BigEndian.Uint32(policy) == drop
}

// countRules counts the rules with a comment in a chain of the filter table. iptables
// has it as data of a match, ending with a zero, or as the rule's user data.
func (s *socket) countRules(family uint8, name, comment string) (n int, err error) {
	var p packet
	p.begin(getRule, unix.NLM_F_DUMP, family, 0, 0)
	p.text(unix.NFTA_RULE_TABLE, "filter")
	p.text(unix.NFTA_RULE_CHAIN, name)
	want := append([]byte(comment), 0)
	err = s.dump(&p, func(r reply) {
		if bytes.Contains(r.attrs, want) {
			n++
		}
	})
	return n, err
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

// tables returns the program that speaks to the table: both flavours can be in
// use at once, and the plain name is either.
func (f filter) tables() (*iptables.IPTables, error) {
	plain, proto := "iptables", iptables.ProtocolIPv4
	if f.v6 {
		plain, proto = "ip6tables", iptables.ProtocolIPv6
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
		return nil, fmt.Errorf("the %s policy is drop: %w (Debian's package is iptables)", plain, err)
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
