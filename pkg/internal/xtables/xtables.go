// Package xtables is iptables as the kernel has it, in both of its forms: what can be asked
// of it without a program, and the program to change it with.
package xtables

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

// Form is iptables of one family, in the kernel's nftables (iptables-nft) or in its own
// form from before (iptables-legacy). Both can be there.
type Form struct{ Legacy, V6 bool }

// Forms are all of them.
var Forms = []Form{{false, false}, {false, true}, {true, false}, {true, true}}

// Chain is a built-in chain of the filter table, as the kernel has it.
type Chain struct {
	Form
	Name  string // FORWARD, INPUT
	Drops bool   // its policy
	// Count counts its rules with a comment.
	Count func(comment string) (int, error)
}

// Chains asks which of these chains there are, and starts no program.
func Chains(s *nftnl.Socket, names ...string) (all []Chain, err error) {
	var reqs []*netlink.Request
	var asked []Chain
	for _, v6 := range []bool{false, true} {
		for _, name := range names {
			form := Form{V6: v6}
			reqs = append(reqs, nftnl.Question(nftnl.GetChain, form.family()).Text(unix.NFTA_CHAIN_TABLE, "filter").Text(unix.NFTA_CHAIN_NAME, name))
			asked = append(asked, Chain{Form: form, Name: name,
				Count: func(comment string) (int, error) { return form.count(s, "filter", name, terminated(comment)) }})
		}
	}
	err = s.Ask(reqs, func(i int, m netlink.Message) { // not for ENOENT, or a kernel without nftables
		asked[i].Drops = drops(m)
		all = append(all, asked[i])
	})
	if err != nil {
		return nil, err
	}
	legacy, err := legacyChains(names)
	return append(all, legacy...), err
}

// drops tells whether the chain's policy is drop.
func drops(m netlink.Message) bool {
	const drop = 0 // NF_DROP
	policy := m.Find(nftnl.HeaderLen, unix.NFTA_CHAIN_POLICY)
	return len(policy) == 4 && binary.BigEndian.Uint32(policy) == drop
}

// Mentions counts the rules of a chain that have a text in their comment; of the older
// form, those of all chains of the table. It starts no program.
func (f Form) Mentions(s *nftnl.Socket, table, chain, text string) (int, error) {
	if !f.Legacy {
		return f.count(s, table, chain, []byte(text))
	}
	if !InUse(table, f.V6) {
		return 0, nil
	}
	t, err := readXtable(table, xtLayouts[f.V6])
	if err != nil {
		return 0, fmt.Errorf("read the %s table of %s: %w", table, f, err)
	}
	return bytes.Count(t.entries, []byte(text)), nil
}

// count counts the rules with some bytes in them. iptables has a comment as data of a
// match, ending with a zero, or as the rule's user data.
func (f Form) count(s *nftnl.Socket, table, chain string, want []byte) (int, error) {
	rules := nftnl.Question(nftnl.GetRule, f.family()).Text(unix.NFTA_RULE_TABLE, table).Text(unix.NFTA_RULE_CHAIN, chain)
	there, err := nftnl.List(s, rules, func(m netlink.Message) (struct{}, bool) { return struct{}{}, bytes.Contains(m.Body, want) })
	if nftnl.Absent(err) {
		return 0, nil
	}
	return len(there), err
}

func terminated(comment string) []byte { return append([]byte(comment), 0) }

func (f Form) family() uint8 {
	if f.V6 {
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_IPV4
}

func (f Form) String() string {
	name := "iptables"
	if f.V6 {
		name = "ip6tables"
	}
	if f.Legacy {
		name += "-legacy"
	}
	return name
}

// Program is the path of the one that speaks to the tables: both forms can be in use at
// once, and the plain name is either.
func (f Form) Program() (string, error) {
	plain := "iptables"
	if f.V6 {
		plain = "ip6tables"
	}
	name := plain + "-nft"
	if f.Legacy {
		name = plain + "-legacy"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath(plain)
	}
	if err != nil {
		return "", fmt.Errorf("%w (Debian's package is iptables)", err)
	}
	return path, nil
}

// lockWait is how long one iptables waits for another, in seconds.
const lockWait = 10

// Open returns the program.
func (f Form) Open() (*iptables.IPTables, error) {
	proto := iptables.ProtocolIPv4
	if f.V6 {
		proto = iptables.ProtocolIPv6
	}
	path, err := f.Program()
	if err != nil {
		return nil, err
	}
	return iptables.New(iptables.Path(path), iptables.IPFamily(proto), iptables.Timeout(lockWait))
}
