package firewall

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// errNotWhole: there is no table, or not the one that this version makes.
var errNotWhole = errors.New("nftables table inet " + TableName + " is not as it was made")

// whole asks for the one chain whose name says of which version the table is. It
// is [errNotWhole] also after `nft flush table`, which leaves the chain without
// its rules. The kernel counts what transactions under way add, too, also those
// that it is about to refuse: more users than there should be are no damage.
func (s *socket) whole() error {
	users, err := s.chainUsers([]chain{{name: publish}})
	if err == nil && users[0] < publishUsers {
		err = errNotWhole
	}
	return err
}

// verify returns which chains and wanted elements are missing and which unwanted
// ones are there, without listing any set.
func (s *socket) verify(wanted, unwanted []element) error {
	all := chains()
	users, err := s.chainUsers(all)
	if err != nil {
		return err
	}
	var errs []error
	for i, c := range all {
		if users[i] != c.users() {
			errs = append(errs, fmt.Errorf("nftables chain %s of table inet %s is missing or not as it was made", c.name, TableName))
		}
	}
	found, err := s.haveElements(slices.Concat(wanted, unwanted))
	if err != nil {
		return err
	}
	for i, e := range wanted {
		if !found[i] {
			errs = append(errs, fmt.Errorf("nftables set %s of table inet %s misses its element of %s", e.set, TableName, e.owner()))
		}
	}
	for i, e := range unwanted {
		if found[len(wanted)+i] {
			errs = append(errs, fmt.Errorf("nftables set %s of table inet %s has the network, which is not to be in it", e.set, TableName))
		}
	}
	return errors.Join(errs...)
}

// users counts the rules in the chain and the jumps to it, as the kernel does.
func (c chain) users() uint32 { return uint32(len(c.rules) + c.jumps) }

// chainUsers returns how many users the kernel counts for each chain; 0 for one
// that is not there.
func (s *socket) chainUsers(all []chain) ([]uint32, error) {
	var p packet
	for _, c := range all {
		p.begin(getChain, 0, inetTable, 0, 0)
		p.text(unix.NFTA_CHAIN_TABLE, TableName)
		p.text(unix.NFTA_CHAIN_NAME, c.name)
	}
	users := make([]uint32, len(all))
	return users, s.ask(&p, func(i int, r reply) { users[i] = r.chainUsers() })
}

// haveElements tells which of the elements are there, with their values.
func (s *socket) haveElements(elements []element) ([]bool, error) {
	var all []bool
	for some := range slices.Chunk(elements, usual) {
		var p packet
		for _, e := range some {
			p.begin(getElement, 0, inetTable, 0, 0)
			p.element(element{set: e.set, key: e.key})
		}
		found := make([]bool, len(some))
		err := s.ask(&p, func(i int, r reply) { found[i] = bytes.Equal(r.elementValue(), some[i].value) })
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// ask sends questions after one thing each. there is called for those that are
// answered with the thing, and not with an error.
func (s *socket) ask(p *packet, there func(i int, r reply)) error {
	answers, err := s.exchange(p)
	for _, r := range answers {
		if r.kind != unix.NLMSG_ERROR && r.seq >= 1 && r.seq <= p.last {
			there(int(r.seq)-1, r)
		}
	}
	return err
}

func (e element) owner() string {
	if e.comment == "" {
		return "the network"
	}
	return "attachment " + e.comment
}

func (r reply) chainUsers() (n uint32) {
	_ = attrs(r.attrs, func(kind uint16, v []byte) {
		if kind == unix.NFTA_CHAIN_USE && len(v) == 4 {
			n = binary.BigEndian.Uint32(v)
		}
	})
	return n
}

// elementValue is the value of the one element in the reply; nil in a set.
func (r reply) elementValue() []byte {
	var v []byte
	v = r.attrs
	for _, kind := range []uint16{unix.NFTA_SET_ELEM_LIST_ELEMENTS, unix.NFTA_LIST_ELEM, unix.NFTA_SET_ELEM_DATA, unix.NFTA_DATA_VALUE} {
		v = attrOf(v, kind)
	}
	return slices.Clone(v)
}

func attrOf(data []byte, want uint16) (found []byte) {
	_ = attrs(data, func(kind uint16, v []byte) {
		if kind == want && found == nil {
			found = v
		}
	})
	return found
}
