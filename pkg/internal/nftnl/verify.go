package nftnl

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/sys/unix"
)

// ErrNotWhole: there is no table, or not the one that this version makes.
var ErrNotWhole = errors.New("the nftables table is not as it was made")

// Whole asks for the one chain whose name says of which version the table is. It
// is [ErrNotWhole] also after `nft flush table`, which leaves the chain without
// its rules. The kernel counts what transactions under way add, too, also those
// that it is about to refuse: more users than there should be are no damage.
func (c *Conn) Whole() error {
	users, err := c.chainUsers([]Chain{{Name: c.Table.Version}})
	if err == nil && users[0] < c.Table.Users {
		err = ErrNotWhole
	}
	return err
}

// Undamaged is Whole for all chains.
func (c *Conn) Undamaged() error {
	all := c.Table.Chains()
	users, err := c.chainUsers(all)
	for i, chain := range all {
		if err == nil && users[i] < chain.Users() {
			err = ErrNotWhole
		}
	}
	return err
}

// Verify returns which chains and wanted elements are missing and which unwanted
// ones are there, without listing any set.
func (c *Conn) Verify(wanted, unwanted []Element) error {
	all := c.Table.Chains()
	users, err := c.chainUsers(all)
	if err != nil {
		return err
	}
	var errs []error
	for i, chain := range all {
		if users[i] != chain.Users() {
			errs = append(errs, fmt.Errorf("nftables chain %s of %s is missing or not as it was made", chain.Name, c.Table.short()))
		}
	}
	found, err := c.Have(slices.Concat(wanted, unwanted))
	if err != nil {
		return err
	}
	for i, e := range wanted {
		if !found[i] {
			errs = append(errs, fmt.Errorf("nftables set %s of %s misses its element of %s", e.Set, c.Table.short(), e.owner()))
		}
	}
	for i, e := range unwanted {
		if found[len(wanted)+i] {
			errs = append(errs, fmt.Errorf("nftables set %s of %s has the network, which is not to be in it", e.Set, c.Table.short()))
		}
	}
	return errors.Join(errs...)
}

// chainUsers returns how many users the kernel counts for each chain; 0 for one
// that is not there.
func (c *Conn) chainUsers(all []Chain) ([]int, error) {
	reqs := make([]*netlink.Request, len(all))
	for i, chain := range all {
		reqs[i] = c.Table.own(c.Table.question(GetChain)).Text(unix.NFTA_CHAIN_NAME, chain.Name)
	}
	users := make([]int, len(all))
	return users, c.Ask(reqs, func(i int, m netlink.Message) { users[i] = int(chainUsers(m)) })
}

// Have tells which of the elements are there, with their values.
func (c *Conn) Have(elements []Element) ([]bool, error) {
	reqs := make([]*netlink.Request, len(elements))
	for i, e := range elements {
		reqs[i] = c.Table.put(c.Table.question(GetElement), e.Set, []Element{e.place()})
	}
	found := make([]bool, len(elements))
	return found, c.Ask(reqs, func(i int, m netlink.Message) { found[i] = bytes.Equal(elementValue(m), elements[i].Value) })
}

// Exists reports whether there is such a table, whole or not.
func (c *Conn) Exists() (found bool, err error) {
	err = c.Ask([]*netlink.Request{c.Table.own(c.Table.question(GetTable))}, func(int, netlink.Message) { found = true })
	return found, err
}

// List returns the elements of a set. What it misses, where others change the table all
// the time, is found by the next one.
func (c *Conn) List(set string) ([]Element, error) {
	req := c.Table.question(GetElement)
	req.Text(unix.NFTA_SET_ELEM_LIST_TABLE, c.Table.Name).Text(unix.NFTA_SET_ELEM_LIST_SET, set)
	some, err := List(c.Socket, req, func(m netlink.Message) (all []Element, ok bool) {
		for _, e := range netlink.Attrs(m.Find(HeaderLen, unix.NFTA_SET_ELEM_LIST_ELEMENTS)) {
			all = append(all, Element{Set: set, Key: slices.Clone(netlink.Find(e, unix.NFTA_SET_ELEM_KEY, unix.NFTA_DATA_VALUE)),
				End:     slices.Clone(netlink.Find(e, elementKeyEnd, unix.NFTA_DATA_VALUE)),
				Value:   slices.Clone(netlink.Find(e, unix.NFTA_SET_ELEM_DATA, unix.NFTA_DATA_VALUE)),
				Comment: CommentOf(netlink.Find(e, unix.NFTA_SET_ELEM_USERDATA))})
		}
		return all, true
	})
	if err != nil {
		return nil, fmt.Errorf("list nftables set %s of %s: %w", set, c.Table.short(), err)
	}
	return slices.Concat(some...), nil
}
