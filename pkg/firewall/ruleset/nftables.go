package ruleset

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/sys/unix"
)

// tables is what nftables holds, as the kernel tells it (nfnetlink,
// linux/netfilter/nf_tables.h).
type tables struct{ conn *netlink.Conn }

func dial() (*tables, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	return &tables{c}, nil
}

func (t *tables) close() { _ = t.conn.Close() }

// headerLen is the length of struct nfgenmsg: family, version, resource.
const headerLen = 4

// list lists what a question is after. A kernel or a namespace without such things has
// none of them.
func list[T any](t *tables, command uint16, family uint8, ask func(*netlink.Request), parse func(netlink.Message) (T, bool)) ([]T, error) {
	q := netlink.NewQuestion(unix.NFNL_SUBSYS_NFTABLES<<8|command, []byte{family, 0, 0, 0})
	ask(q)
	all, err := netlink.List(t.conn, q, nil, parse)
	for _, mild := range []error{netlink.ErrInterrupted, unix.ENOENT, unix.EINVAL, unix.EOPNOTSUPP} {
		if errors.Is(err, mild) {
			err = nil
		}
	}
	return all, err
}

// families are how nft calls them. Bridges, devices and ARP have firewalls of their
// own, which no packet passes that is routed.
var families = map[uint8]string{unix.NFPROTO_INET: "inet", unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6"}

// hooks are those that what containers send passes.
var hooks = map[uint32]string{unix.NF_INET_FORWARD: "forward", unix.NF_INET_LOCAL_IN: "input"}

// baseChain is a chain of a table. Hook is empty for one of another hook, or of none.
type baseChain struct {
	Chain
	family uint8
	drops  bool
}

// chains lists those of all tables.
func (t *tables) chains() ([]baseChain, error) {
	all, err := list(t, unix.NFT_MSG_GETCHAIN, unix.NFPROTO_UNSPEC, func(*netlink.Request) {}, func(m netlink.Message) (c baseChain, ok bool) {
		if len(m.Body) < headerLen {
			return c, false
		}
		c.family = m.Body[0]
		c.Family, ok = families[c.family]
		c.Table, c.Name = netlink.Text(m.Find(headerLen, unix.NFTA_CHAIN_TABLE)), netlink.Text(m.Find(headerLen, unix.NFTA_CHAIN_NAME))
		if number := m.Find(headerLen, unix.NFTA_CHAIN_HOOK, unix.NFTA_HOOK_HOOKNUM); len(number) == 4 {
			c.Hook = hooks[binary.BigEndian.Uint32(number)]
		}
		const drop = 0 // NF_DROP
		policy := m.Find(headerLen, unix.NFTA_CHAIN_POLICY)
		c.drops = len(policy) == 4 && binary.BigEndian.Uint32(policy) == drop
		return c, ok
	})
	if err != nil {
		return nil, fmt.Errorf("list nftables chains: %w", err)
	}
	return all, nil
}

// accepted is what the rules of a table that accept compare packets with: values, and
// ranges of them.
type accepted struct {
	values [][]byte
	ranges [][2][]byte
}

// hasInterface tells whether an interface is among them: its name, padded with zeros, or
// how it begins (br-*), or its index; or one of several fields.
func (a *accepted) hasInterface(name string, index int) bool {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	number := binary.NativeEndian.AppendUint32(nil, uint32(index))
	return slices.ContainsFunc(a.values, func(v []byte) bool {
		const port = 2 // bytes, which are no beginning of a name
		return bytes.Contains(v, padded) || bytes.Equal(v, number) && index > 0 ||
			len(v) > port && len(v) < unix.IFNAMSIZ && v[len(v)-1] != 0 && bytes.HasPrefix(padded, v)
	})
}

// hasPort tells whether a port is among them, by itself, in a range, or as one of
// several fields, which are padded to 4 bytes.
func (a *accepted) hasPort(port uint16) bool {
	want := binary.BigEndian.AppendUint16(nil, port)
	field := append(slices.Clone(want), 0, 0)
	return slices.ContainsFunc(a.values, func(v []byte) bool {
		if len(v) <= len(field) {
			return bytes.Equal(v, want)
		}
		for f := range slices.Chunk(v, len(field)) {
			if bytes.Equal(f, field) {
				return true
			}
		}
		return false
	}) || slices.ContainsFunc(a.ranges, func(r [2][]byte) bool {
		return len(r[0]) == len(want) && bytes.Compare(r[0], want) <= 0 && bytes.Compare(want, r[1]) <= 0
	})
}

// accepting reads the rules of a table.
func (t *tables) accepting(family uint8, table string) (*accepted, error) {
	a := &accepted{}
	sets := map[string]bool{} // that rules which accept look into; true: for the verdict
	_, err := list(t, unix.NFT_MSG_GETRULE, family, func(q *netlink.Request) { q.Text(unix.NFTA_RULE_TABLE, table) }, func(m netlink.Message) (none struct{}, ok bool) {
		if netlink.Text(m.Find(headerLen, unix.NFTA_RULE_TABLE)) == table {
			a.add(m.Find(headerLen, unix.NFTA_RULE_EXPRESSIONS), sets)
		}
		return none, false
	})
	for set, verdicts := range sets {
		if err != nil {
			break
		}
		err = t.elements(family, table, set, func(e []byte) {
			if verdicts && !accepts(netlink.Find(e, unix.NFTA_SET_ELEM_DATA)) {
				return
			}
			a.values = append(a.values, slices.Clone(netlink.Find(e, unix.NFTA_SET_ELEM_KEY, unix.NFTA_DATA_VALUE)))
		})
	}
	if err != nil {
		return nil, fmt.Errorf("list the rules of nftables table %s %s: %w", families[family], table, err)
	}
	return a, nil
}

// accepts tells of data whether it is the verdict accept.
func accepts(data []byte) bool {
	const accept = 1 // NF_ACCEPT
	code := netlink.Find(data, unix.NFTA_DATA_VERDICT, unix.NFTA_VERDICT_CODE)
	return len(code) == 4 && binary.BigEndian.Uint32(code) == accept
}

// add adds what the expressions of a rule compare with, if it accepts.
func (a *accepted) add(expressions []byte, sets map[string]bool) {
	var own accepted
	looked := map[string]bool{}
	is := false
	for _, e := range netlink.Attrs(expressions) {
		data := netlink.Find(e, unix.NFTA_EXPR_DATA)
		switch netlink.Text(netlink.Find(e, unix.NFTA_EXPR_NAME)) {
		case "immediate":
			is = is || accepts(netlink.Find(data, unix.NFTA_IMMEDIATE_DATA))
		case "cmp":
			own.compare(operator(netlink.Find(data, unix.NFTA_CMP_OP)),
				slices.Clone(netlink.Find(data, unix.NFTA_CMP_DATA, unix.NFTA_DATA_VALUE)))
		case "range":
			own.ranges = append(own.ranges, [2][]byte{
				slices.Clone(netlink.Find(data, unix.NFTA_RANGE_FROM_DATA, unix.NFTA_DATA_VALUE)),
				slices.Clone(netlink.Find(data, unix.NFTA_RANGE_TO_DATA, unix.NFTA_DATA_VALUE))})
		case "lookup":
			const verdict = 0 // NFT_REG_VERDICT, where the value of a verdict map goes
			to := netlink.Find(data, unix.NFTA_LOOKUP_DREG)
			looked[netlink.Text(netlink.Find(data, unix.NFTA_LOOKUP_SET))] = len(to) == 4 && binary.BigEndian.Uint32(to) == verdict
		}
	}
	for set, verdicts := range looked {
		if is || verdicts {
			sets[set] = verdicts && !is
		}
	}
	if is {
		a.values, a.ranges = append(a.values, own.values...), append(a.ranges, own.ranges...)
	}
}

// operator reads NFTA_CMP_OP; without one it is none of the kernel's.
func operator(b []byte) uint32 {
	if len(b) != 4 {
		return ^uint32(0)
	}
	return binary.BigEndian.Uint32(b)
}

// compare adds a value, or a range. One from a value to another is two comparisons.
func (a *accepted) compare(op uint32, value []byte) {
	lowest, highest := make([]byte, len(value)), bytes.Repeat([]byte{0xff}, len(value))
	switch op {
	case unix.NFT_CMP_EQ:
		a.values = append(a.values, value)
	case unix.NFT_CMP_GTE, unix.NFT_CMP_GT:
		a.ranges = append(a.ranges, [2][]byte{value, highest})
	case unix.NFT_CMP_LTE, unix.NFT_CMP_LT:
		if last := len(a.ranges) - 1; last >= 0 && bytes.Equal(a.ranges[last][1], highest) {
			a.ranges[last][1] = value
			return
		}
		a.ranges = append(a.ranges, [2][]byte{lowest, value})
	}
}

// sets lists the names of a table's sets and maps.
func (t *tables) sets(family uint8, table string) ([]string, error) {
	all, err := list(t, unix.NFT_MSG_GETSET, family, func(q *netlink.Request) { q.Text(unix.NFTA_SET_TABLE, table) }, func(m netlink.Message) (string, bool) {
		return netlink.Text(m.Find(headerLen, unix.NFTA_SET_NAME)), netlink.Text(m.Find(headerLen, unix.NFTA_SET_TABLE)) == table
	})
	if err != nil {
		return nil, fmt.Errorf("list the sets of nftables table %s %s: %w", families[family], table, err)
	}
	return all, nil
}

// elements calls each for those of a set, which may change while they are read.
func (t *tables) elements(family uint8, table, set string, each func(e []byte)) error {
	all, err := list(t, unix.NFT_MSG_GETSETELEM, family, func(q *netlink.Request) {
		q.Text(unix.NFTA_SET_ELEM_LIST_TABLE, table).Text(unix.NFTA_SET_ELEM_LIST_SET, set)
	}, func(m netlink.Message) ([]byte, bool) {
		return slices.Clone(m.Find(headerLen, unix.NFTA_SET_ELEM_LIST_ELEMENTS)), true
	})
	if err != nil {
		return fmt.Errorf("list nftables set %s of table %s %s: %w", set, families[family], table, err)
	}
	for _, some := range all {
		for _, e := range netlink.Attrs(some) {
			each(e)
		}
	}
	return nil
}

// comment is that of an element: user data of type, length and value, of which the
// first type is a comment (libnftnl's udata.h).
func comment(e []byte) string {
	data := netlink.Find(e, unix.NFTA_SET_ELEM_USERDATA)
	for len(data) >= 2 {
		end := 2 + int(data[1])
		if end > len(data) {
			break
		}
		if data[0] == 0 {
			return netlink.Text(data[2:end])
		}
		data = data[end:]
	}
	return ""
}
