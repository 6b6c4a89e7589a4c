package ruleset

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/sys/unix"
)

// Element is what the firewall holds for an attachment, as nft or iptables-save
// writes it.
type Element struct {
	// In is the set or map of the table, or iptables' table.
	In   string `json:"in"`
	Text string `json:"element"`
}

// Elements finds the elements or rules that carry the attachment's hash. Of iptables
// it is what iptables-save says.
func Elements(ctx context.Context, a *attach.Attachment) ([]Element, error) {
	rules := firewall.RulesOf(a)
	if rules == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if rules.Backend != firewall.IPTables {
		return nftElements(a.Hash())
	}
	var all []Element
	for _, program := range []string{"iptables-save", "ip6tables-save"} {
		out, err := output(ctx, program)
		if err != nil {
			return nil, err
		}
		all = append(all, savedRules(program, out, a.Hash())...)
	}
	return all, nil
}

// nftElements finds those of our table with a comment.
func nftElements(mark string) (all []Element, err error) {
	t, err := dial()
	if err != nil {
		return nil, err
	}
	defer t.close()
	for _, family := range slices.Sorted(maps.Keys(ownTables)) {
		sets, bad := t.sets(family, firewall.TableName)
		err = errors.Join(err, bad)
		slices.Sort(sets)
		for _, set := range sets {
			layout, in := ownTables[family][set], set
			if family == unix.NFPROTO_BRIDGE {
				in = "bridge " + set
			}
			err = errors.Join(err, t.elements(family, firewall.TableName, set, func(e []byte) {
				if comment(e) != mark {
					return
				}
				text := fields(netlink.Find(e, unix.NFTA_SET_ELEM_KEY, unix.NFTA_DATA_VALUE), layout.key)
				if value := netlink.Find(e, unix.NFTA_SET_ELEM_DATA, unix.NFTA_DATA_VALUE); value != nil {
					text += " : " + fields(value, layout.value)
				}
				all = append(all, Element{in, text})
			}))
		}
	}
	return all, err
}

// layout is of the fields of a set's elements: a and A are an address of IPv4 and IPv6, n
// is an interface's name, m a MAC, l a protocol of IP, p a port.
type layout struct{ key, value string }

// ownTables are our tables, by family, with the layouts of their sets.
var ownTables = map[uint8]map[string]layout{
	unix.NFPROTO_INET: {
		"own4": {"an", ""}, "own6": {"An", ""}, "masq4": {"a", ""}, "masq6": {"A", ""}, "routed4": {"a", ""}, "routed6": {"A", ""},
		"ports4": {"lp", "ap"}, "ports4_ip": {"alp", "ap"}, "ports6": {"lp", "Ap"}, "ports6_ip": {"Alp", "Ap"},
		"open4": {"alp", ""}, "open6": {"Alp", ""},
	},
	unix.NFPROTO_BRIDGE: {
		"ports": {"n", ""}, "macs": {"nm", ""}, "own4": {"nma", ""}, "own6": {"nmA", ""}, "claims6": {"nmA", ""},
	},
}

// protocols are those that ports are published of.
var protocols = map[byte]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_SCTP: "sctp"}

// fields are the fields of a key, each padded to 4 bytes, as nft writes them. What is
// not as the layout says is written as it is.
func fields(b []byte, layout string) string {
	whole, words := b, []string{}
	for _, kind := range layout {
		n := map[rune]int{'a': 4, 'A': 16, 'n': unix.IFNAMSIZ, 'm': 8, 'l': 4, 'p': 4}[kind]
		if kind == 'p' && len(b) == 2 { // the last field is not padded
			n = 2
		}
		if len(b) < n {
			return fmt.Sprintf("%#x", whole)
		}
		f := b[:n]
		b = b[n:]
		switch kind {
		case 'a', 'A':
			words = append(words, netlink.Addr(f).String())
		case 'm':
			words = append(words, net.HardwareAddr(f[:6]).String())
		case 'n':
			words = append(words, netlink.Text(f))
		case 'l':
			words = append(words, cmp.Or(protocols[f[0]], fmt.Sprint(f[0])))
		case 'p':
			words = append(words, fmt.Sprint(binary.BigEndian.Uint16(f)))
		}
	}
	if len(b) > 0 || len(words) == 0 {
		return fmt.Sprintf("%#x", whole)
	}
	return strings.Join(words, " . ")
}

// savedRules finds the rules with a comment, as iptables-save(8) writes them.
func savedRules(program, out, comment string) []Element {
	var all []Element
	table := ""
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "*"); ok {
			table = strings.TrimSuffix(program, "-save") + " " + name
		}
		if strings.HasPrefix(line, "-A ") && strings.Contains(line, "--comment "+comment) {
			all = append(all, Element{table, line})
		}
	}
	return all
}
