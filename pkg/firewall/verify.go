package firewall

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/berth-cni/berth/pkg/internal/netlink"
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
	reqs := make([]*netlink.Request, len(all))
	for i, c := range all {
		reqs[i] = ourTable(question(getChain, inetTable)).Text(unix.NFTA_CHAIN_NAME, c.name)
	}
	users := make([]uint32, len(all))
	return users, s.ask(reqs, func(i int, m netlink.Message) { users[i] = chainUsers(m) })
}

// haveElements tells which of the elements are there, with their values.
func (s *socket) haveElements(elements []element) ([]bool, error) {
	reqs := make([]*netlink.Request, len(elements))
	for i, e := range elements {
		reqs[i] = putElements(question(getElement, inetTable), e.set, []element{{key: e.key}})
	}
	found := make([]bool, len(elements))
	return found, s.ask(reqs, func(i int, m netlink.Message) { found[i] = bytes.Equal(elementValue(m), elements[i].value) })
}

func (e element) owner() string {
	if e.comment == "" {
		return "the network"
	}
	return "attachment " + e.comment
}

func chainUsers(m netlink.Message) uint32 {
	v := m.Find(headerLen, unix.NFTA_CHAIN_USE)
	if len(v) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(v)
}

// elementValue is the value of the one element in the answer; nil in a set.
func elementValue(m netlink.Message) []byte {
	return m.Find(headerLen, unix.NFTA_SET_ELEM_LIST_ELEMENTS, unix.NFTA_LIST_ELEM, unix.NFTA_SET_ELEM_DATA, unix.NFTA_DATA_VALUE)
}
