package firewall

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// verify returns which elements or chains are missing, without listing any set.
// A chain has as many users (rules in it and jumps to it) as we gave it.
func (s *socket) verify(elements []element) error {
	var p packet
	var users []uint32
	all := chains()
	for _, c := range all {
		p.begin(getChain, 0, inetTable, 0, 0)
		p.text(unix.NFTA_CHAIN_TABLE, TableName)
		p.text(unix.NFTA_CHAIN_NAME, c.name)
		users = append(users, uint32(len(c.rules)+c.jumps))
	}
	for _, e := range elements {
		p.begin(getElement, 0, inetTable, 0, 0)
		p.element(element{set: e.set, key: e.key})
	}
	p.ack()
	answers, err := s.exchange(&p)
	if err != nil {
		return err
	}
	found := make([]bool, p.last)
	for _, r := range answers {
		i := int(r.seq) - 1
		if r.kind == unix.NLMSG_ERROR || i < 0 || i >= len(found) {
			continue
		}
		if i < len(users) {
			found[i] = r.chainUsers() == users[i]
		} else {
			found[i] = bytes.Equal(r.elementValue(), elements[i-len(users)].value)
		}
	}
	var errs []error
	for i, c := range all {
		if !found[i] {
			errs = append(errs, fmt.Errorf("nftables chain %s of table inet %s is missing or not as it was made", c.name, TableName))
		}
	}
	for i, e := range elements {
		if !found[len(users)+i] {
			errs = append(errs, fmt.Errorf("nftables set %s of table inet %s misses its element of %s", e.set, TableName, e.owner()))
		}
	}
	return errors.Join(errs...)
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
