package firewall

import (
	"fmt"
	"slices"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// makeTable makes the table with its chains, rules and elements in one
// transaction. replace removes one that is there, and all in it; without it a
// table that is there is EEXIST.
func makeTable(replace bool, elements []element) error {
	var all []*netlink.Request
	if replace {
		// The first so that there is one to delete.
		all = append(all, ourTable(request(newTable, unix.NLM_F_CREATE, inetTable)), ourTable(request(delTable, 0, inetTable)))
	}
	all = append(all, ourTable(request(newTable, unix.NLM_F_CREATE|unix.NLM_F_EXCL, inetTable))) // rules cannot come twice
	for i, s := range sets() {
		all = append(all, s.request(uint32(i+1)))
	}
	for _, c := range chains() {
		reqs, err := c.requests()
		if err != nil {
			return fmt.Errorf("encode chain %s: %w", c.name, err)
		}
		all = append(all, reqs...)
	}
	by := map[string][]element{}
	for _, e := range elements {
		by[e.set] = append(by[e.set], e)
	}
	const most = 256 // elements in a message, whose list has 16 bits of length
	for _, s := range sets() {
		for some := range slices.Chunk(by[s.name], most) {
			all = append(all, putElements(request(newElement, unix.NLM_F_CREATE, inetTable), s.name, some))
		}
	}
	s, err := dial()
	if err != nil {
		return err
	}
	refused, err := s.transact(all)
	if len(refused) > 0 {
		err = refused[0]
	}
	if err != nil {
		return fmt.Errorf("make nftables table inet %s: %w", TableName, err)
	}
	return nil
}

func ourTable(r *netlink.Request) *netlink.Request {
	return r.Text(unix.NFTA_TABLE_NAME, TableName) // the same number for chains and rules
}

// request makes the set. id names it within the transaction.
func (s set) request(id uint32) *netlink.Request {
	r := ourTable(request(newSet, unix.NLM_F_CREATE, inetTable)).Text(unix.NFTA_SET_NAME, s.name)
	r.Bytes(unix.NFTA_SET_KEY_TYPE, number32(s.key.GetNFTMagic())).Bytes(unix.NFTA_SET_KEY_LEN, number32(s.key.Bytes))
	r.Bytes(unix.NFTA_SET_ID, number32(id))
	if s.isMap {
		r.Bytes(unix.NFTA_SET_FLAGS, number32(unix.NFT_SET_MAP))
		r.Bytes(unix.NFTA_SET_DATA_TYPE, number32(s.data.GetNFTMagic())).Bytes(unix.NFTA_SET_DATA_LEN, number32(s.data.Bytes))
	}
	if s.seen != nil {
		r.Bytes(unix.NFTA_SET_USERDATA, s.seen)
	}
	return r
}

// requests make the chain and its rules.
func (c chain) requests() ([]*netlink.Request, error) {
	r := ourTable(request(newChain, unix.NLM_F_CREATE, inetTable)).Text(unix.NFTA_CHAIN_NAME, c.name)
	if c.hook != nil {
		r.Nest(unix.NFTA_CHAIN_HOOK, func() {
			r.Bytes(unix.NFTA_HOOK_HOOKNUM, number32(uint32(*c.hook))).Bytes(unix.NFTA_HOOK_PRIORITY, number32(uint32(*c.priority)))
		})
		r.Text(unix.NFTA_CHAIN_TYPE, string(c.kind))
	}
	all := []*netlink.Request{r}
	for _, exprs := range c.rules {
		r := ourTable(request(newRule, unix.NLM_F_CREATE|unix.NLM_F_APPEND, inetTable)).Text(unix.NFTA_RULE_CHAIN, c.name)
		if err := putExpressions(r, exprs); err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

func putExpressions(r *netlink.Request, exprs []expr.Any) (err error) {
	r.Nest(unix.NFTA_RULE_EXPRESSIONS, func() {
		for _, e := range exprs {
			data, fault := expr.Marshal(inetTable, e)
			if fault != nil {
				err = fault
			}
			r.Bytes(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, data)
		}
	})
	return err
}
