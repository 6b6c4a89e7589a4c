package nftnl

import (
	"fmt"
	"slices"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Table is a table of nftables. Chains and rules are constant; what changes are the
// elements of its sets and maps.
type Table struct {
	Family uint8 // NFPROTO_INET, ...
	Name   string
	Sets   func() []Set
	Chains func() []Chain
	// Counters are named: rules count with [Count], and [Conn.Counted] reads them.
	Counters []string
	// Version is a chain whose name tells the version of the table, and Users how many
	// users the kernel counts for it: its rules, and the jumps to it.
	Version string
	Users   int
}

// Set is a set of a table, or a map. Seen is how nft shows its keys where their
// types do not say it.
type Set struct {
	Name      string
	Key, Data nftables.SetDatatype
	IsMap     bool
	Seen      UserData
	// Ranges, for a set whose keys are ranges, has the length of each field in bytes
	// (kernel 5.6, net/netfilter/nft_set_pipapo.c). Its elements have an End.
	Ranges []uint32
}

// Chain is a chain of a table; Hook is nil for one that others jump to.
type Chain struct {
	Name     string
	Kind     nftables.ChainType
	Hook     *nftables.ChainHook
	Priority *nftables.ChainPriority
	Rules    [][]expr.Any
	Jumps    int // rules of other chains that lead here
}

// Users counts the rules in the chain and the jumps to it, as the kernel does.
func (c Chain) Users() int { return len(c.Rules) + c.Jumps }

// String names the table as nft does.
func (t *Table) String() string { return "nftables " + t.short() }

func (t *Table) short() string {
	family := map[uint8]string{unix.NFPROTO_INET: "inet", unix.NFPROTO_BRIDGE: "bridge", unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6"}[t.Family]
	return "table " + family + " " + t.Name
}

// Make makes the table with its chains, rules and elements in one transaction. replace
// removes one that is there, and all in it; without it a table that is there is EEXIST.
func (t *Table) Make(replace bool, elements []Element) error {
	var all []*netlink.Request
	if replace {
		// The first so that there is one to delete.
		all = append(all, t.own(t.request(NewTable, unix.NLM_F_CREATE)), t.own(t.request(DelTable, 0)))
	}
	all = append(all, t.own(t.request(NewTable, unix.NLM_F_CREATE|unix.NLM_F_EXCL))) // rules cannot come twice
	for _, name := range t.Counters {
		all = append(all, t.counter(name))
	}
	for i, s := range t.Sets() {
		all = append(all, t.set(s, uint32(i+1)))
	}
	for _, c := range t.Chains() {
		reqs, err := t.chain(c)
		if err != nil {
			return fmt.Errorf("encode chain %s: %w", c.Name, err)
		}
		all = append(all, reqs...)
	}
	by := map[string][]Element{}
	for _, e := range elements {
		by[e.Set] = append(by[e.Set], e)
	}
	const most = 256 // elements in a message, whose list has 16 bits of length
	for _, s := range t.Sets() {
		for some := range slices.Chunk(by[s.Name], most) {
			all = append(all, t.put(t.request(NewElement, unix.NLM_F_CREATE), s.Name, some))
		}
	}
	return t.make(all)
}

// make runs what makes the table, in one transaction.
func (t *Table) make(all []*netlink.Request) error {
	s, err := Dial()
	if err != nil {
		return err
	}
	refused, err := s.transact(all)
	if len(refused) > 0 {
		err = refused[0]
	}
	if err != nil {
		return fmt.Errorf("make %s: %w", t, err)
	}
	return nil
}

// Try makes the chains and rules, and takes them away, in one transaction: for what the
// kernel does when it is given one.
func (t *Table) Try() error {
	all := []*netlink.Request{t.own(t.request(NewTable, unix.NLM_F_CREATE))}
	for _, c := range t.Chains() {
		reqs, err := t.chain(c)
		if err != nil {
			return fmt.Errorf("encode chain %s: %w", c.Name, err)
		}
		all = append(all, reqs...)
	}
	return t.make(append(all, t.own(t.request(DelTable, 0))))
}

func (t *Table) request(kind, flags uint16) *netlink.Request { return Request(kind, flags, t.Family) }

// own names the table: the attribute has the same number for chains and rules.
func (t *Table) own(r *netlink.Request) *netlink.Request {
	return r.Text(unix.NFTA_TABLE_NAME, t.Name)
}

// set makes a set. id names it within the transaction.
func (t *Table) set(s Set, id uint32) *netlink.Request {
	r := t.own(t.request(NewSet, unix.NLM_F_CREATE)).Text(unix.NFTA_SET_NAME, s.Name)
	r.Bytes(unix.NFTA_SET_KEY_TYPE, Number(s.Key.GetNFTMagic())).Bytes(unix.NFTA_SET_KEY_LEN, Number(s.Key.Bytes))
	r.Bytes(unix.NFTA_SET_ID, Number(id))
	if s.IsMap {
		r.Bytes(unix.NFTA_SET_FLAGS, Number(unix.NFT_SET_MAP))
		r.Bytes(unix.NFTA_SET_DATA_TYPE, Number(s.Data.GetNFTMagic())).Bytes(unix.NFTA_SET_DATA_LEN, Number(s.Data.Bytes))
	}
	if s.Ranges != nil {
		r.Bytes(unix.NFTA_SET_FLAGS, Number(unix.NFT_SET_INTERVAL|setConcat))
		r.Nest(unix.NFTA_SET_DESC, func() {
			r.Nest(setDescConcat, func() {
				for _, length := range s.Ranges {
					r.Nest(unix.NFTA_LIST_ELEM, func() { r.Bytes(setFieldLength, Number(length)) })
				}
			})
		})
	}
	if s.Seen != nil {
		r.Bytes(unix.NFTA_SET_USERDATA, s.Seen)
	}
	return r
}

// Of sets of ranges in several fields (linux/netfilter/nf_tables.h).
const (
	setConcat      = 0x80 // NFT_SET_CONCAT
	setDescConcat  = 2    // NFTA_SET_DESC_CONCAT
	setFieldLength = 1    // NFTA_SET_FIELD_LEN
	elementKeyEnd  = 10   // NFTA_SET_ELEM_KEY_END
)

// chain makes a chain and its rules.
func (t *Table) chain(c Chain) ([]*netlink.Request, error) {
	r := t.own(t.request(NewChain, unix.NLM_F_CREATE)).Text(unix.NFTA_CHAIN_NAME, c.Name)
	if c.Hook != nil {
		r.Nest(unix.NFTA_CHAIN_HOOK, func() {
			r.Bytes(unix.NFTA_HOOK_HOOKNUM, Number(uint32(*c.Hook))).Bytes(unix.NFTA_HOOK_PRIORITY, Number(uint32(*c.Priority)))
		})
		r.Text(unix.NFTA_CHAIN_TYPE, string(c.Kind))
	}
	all := []*netlink.Request{r}
	for _, exprs := range c.Rules {
		r := t.own(t.request(NewRule, unix.NLM_F_CREATE|unix.NLM_F_APPEND)).Text(unix.NFTA_RULE_CHAIN, c.Name)
		if err := putExpressions(r, t.Family, exprs); err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

func putExpressions(r *netlink.Request, family uint8, exprs []expr.Any) (err error) {
	r.Nest(unix.NFTA_RULE_EXPRESSIONS, func() {
		for _, e := range exprs {
			data, fault := expr.Marshal(family, e)
			if fault != nil {
				err = fault
			}
			r.Bytes(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, data)
		}
	})
	return err
}
