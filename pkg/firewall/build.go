package firewall

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// makeTable makes the table with its chains, rules and elements in one
// transaction. replace removes one that is there, and all in it; without it a
// table that is there is EEXIST.
func makeTable(replace bool, elements []element) error {
	p := packet{buf: make([]byte, 0, 16<<10+128*len(elements))}
	p.begin(unix.NFNL_MSG_BATCH_BEGIN, 0, 0, 0, unix.NFNL_SUBSYS_NFTABLES)
	if replace {
		p.table(newTable, unix.NLM_F_CREATE) // so that there is one to delete
		p.table(delTable, 0)
	}
	p.table(newTable, unix.NLM_F_CREATE|unix.NLM_F_EXCL) // rules cannot come twice
	for i, s := range sets() {
		p.set(s, uint32(i+1))
	}
	for _, c := range chains() {
		if err := p.chain(c); err != nil {
			return fmt.Errorf("encode chain %s: %w", c.name, err)
		}
	}
	by := map[string][]element{}
	for _, e := range elements {
		by[e.set] = append(by[e.set], e)
	}
	const most = 256 // elements in a message, whose list has 16 bits of length
	for _, s := range sets() {
		for some := range slices.Chunk(by[s.name], most) {
			p.begin(newElement, unix.NLM_F_CREATE, inetTable, 0, 0)
			p.elements(s.name, some)
		}
	}
	s, err := dial()
	if err != nil {
		return err
	}
	s.enlarge(&p) // refused messages would come back whole
	refused, err := s.transact(&p)
	if err == nil && len(refused) > 0 {
		err = refused[0].errno
	}
	if err != nil {
		return fmt.Errorf("make nftables table inet %s: %w", TableName, err)
	}
	return nil
}

func (p *packet) table(kind, flags uint16) {
	p.begin(kind, flags, inetTable, 0, 0)
	p.text(unix.NFTA_TABLE_NAME, TableName)
}

// set appends the message that makes a set. id names it within the transaction.
func (p *packet) set(s set, id uint32) {
	p.begin(newSet, unix.NLM_F_CREATE, inetTable, 0, 0)
	p.text(unix.NFTA_SET_TABLE, TableName)
	p.text(unix.NFTA_SET_NAME, s.name)
	p.number(unix.NFTA_SET_KEY_TYPE, s.key.GetNFTMagic())
	p.number(unix.NFTA_SET_KEY_LEN, s.key.Bytes)
	p.number(unix.NFTA_SET_ID, id)
	if s.isMap {
		p.number(unix.NFTA_SET_FLAGS, unix.NFT_SET_MAP)
		p.number(unix.NFTA_SET_DATA_TYPE, s.data.GetNFTMagic())
		p.number(unix.NFTA_SET_DATA_LEN, s.data.Bytes)
	}
	if s.seen != nil {
		p.attr(unix.NFTA_SET_USERDATA, s.seen)
	}
}

// chain appends the messages that make a chain and its rules.
func (p *packet) chain(c chain) error {
	p.begin(newChain, unix.NLM_F_CREATE, inetTable, 0, 0)
	p.text(unix.NFTA_CHAIN_TABLE, TableName)
	p.text(unix.NFTA_CHAIN_NAME, c.name)
	if c.hook != nil {
		p.nest(unix.NFTA_CHAIN_HOOK|unix.NLA_F_NESTED, func() {
			p.number(unix.NFTA_HOOK_HOOKNUM, uint32(*c.hook))
			p.number(unix.NFTA_HOOK_PRIORITY, uint32(*c.priority))
		})
		p.text(unix.NFTA_CHAIN_TYPE, string(c.kind))
	}
	for _, exprs := range c.rules {
		p.begin(newRule, unix.NLM_F_CREATE|unix.NLM_F_APPEND, inetTable, 0, 0)
		p.text(unix.NFTA_RULE_TABLE, TableName)
		p.text(unix.NFTA_RULE_CHAIN, c.name)
		if err := p.expressions(exprs); err != nil {
			return err
		}
	}
	return nil
}

func (p *packet) expressions(exprs []expr.Any) (err error) {
	p.nest(unix.NFTA_RULE_EXPRESSIONS|unix.NLA_F_NESTED, func() {
		for _, e := range exprs {
			data, fault := expr.Marshal(inetTable, e)
			if fault != nil {
				err = fault
			}
			p.attr(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, data)
		}
	})
	return err
}

func (p *packet) number(kind uint16, v uint32) {
	p.attr(kind, binary.BigEndian.AppendUint32(nil, v))
}

func host32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
