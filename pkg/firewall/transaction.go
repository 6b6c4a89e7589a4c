package firewall

import (
	"errors"
	"fmt"
	"slices"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/sys/unix"
)

// Kinds of nftables messages.
const (
	newElement = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWSETELEM
	delElement = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_DELSETELEM
	getElement = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETSETELEM
	getChain   = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETCHAIN
	getRule    = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE
	getTable   = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETTABLE
	newTable   = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWTABLE
	newChain   = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWCHAIN
	newRule    = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWRULE
	newSet     = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWSET
	delTable   = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_DELTABLE
	delChain   = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_DELCHAIN
	delRule    = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_DELRULE
	delSet     = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_DELSET
	getGen     = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN
)

// change is one message of a transaction.
type change struct {
	kind uint16 // newElement or delElement
	element
}

func changes(kind uint16, elements []element) []change {
	all := make([]change, len(elements))
	for i, e := range elements {
		all[i] = change{kind, e}
	}
	return all
}

// refusedError says which changes the kernel refused; then it made none.
type refusedError struct {
	refused map[int]unix.Errno // by the change's place in the transaction
	first   change
	why     *netlink.Error
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("nftables set %s of table inet %s: %v", e.first.set, TableName, e.why)
}

func (e *refusedError) Unwrap() error { return e.why }

// commit makes all changes or none. A [*refusedError] when the kernel refuses any.
func (s *socket) commit(all []change) error {
	if len(all) == 0 {
		return nil
	}
	reqs := make([]*netlink.Request, len(all))
	for i, c := range all {
		var flags uint16
		if c.kind == newElement {
			flags = unix.NLM_F_CREATE
		}
		reqs[i] = putElements(request(c.kind, flags, inetTable), c.set, []element{c.element})
	}
	refused, err := s.transact(reqs)
	if err != nil {
		return fmt.Errorf("change nftables table inet %s: %w", TableName, err)
	}
	var failed *refusedError
	for _, e := range refused {
		if e.Index < 0 {
			return fmt.Errorf("change nftables table inet %s: %w", TableName, e)
		}
		if failed == nil {
			failed = &refusedError{map[int]unix.Errno{}, all[e.Index], e}
		}
		failed.refused[e.Index] = e.Errno
	}
	if failed != nil {
		return failed
	}
	return nil
}

// putElements appends the set and elements of it (NFTA_SET_ELEM_LIST_*).
func putElements(r *netlink.Request, set string, all []element) *netlink.Request {
	r.Text(unix.NFTA_SET_ELEM_LIST_TABLE, TableName).Text(unix.NFTA_SET_ELEM_LIST_SET, set)
	value := func(data []byte) func() {
		return func() { r.Bytes(unix.NFTA_DATA_VALUE, data) }
	}
	return r.Nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() {
		for _, e := range all {
			r.Nest(unix.NFTA_LIST_ELEM, func() {
				r.Nest(unix.NFTA_SET_ELEM_KEY, value(e.key))
				if e.value != nil {
					r.Nest(unix.NFTA_SET_ELEM_DATA, value(e.value))
				}
				if e.comment != "" {
					r.Bytes(unix.NFTA_SET_ELEM_USERDATA, userComment(e.comment))
				}
			})
		}
	})
}

// userComment is the comment as nft reads it from an element's user data: type 0
// (NFTNL_UDATA_SET_ELEM_COMMENT), length, text with its terminating zero.
func userComment(s string) []byte {
	return append(append([]byte{0, byte(len(s) + 1)}, s...), 0)
}

// put adds elements. Where the table is missing or not as this version makes it,
// makeTable is called: first to make one where there is none, then to replace the
// one there is.
func (s *socket) put(elements []element, makeTable func(replace bool) error) error {
	return withTable(func() error {
		err := s.whole()
		if err == nil {
			err = s.write(elements)
		}
		return err
	}, makeTable)
}

// withTable does what needs the table.
func withTable(do func() error, makeTable func(replace bool) error) error {
	for made := 0; ; made++ {
		err := do()
		if made == 2 || !errors.Is(err, errNotWhole) && !errors.Is(err, unix.ENOENT) { // gone in between
			return err
		}
		if err := makeTable(made > 0); err != nil {
			return err
		}
	}
}

// write adds elements to the table that there is. An element of a map whose key
// somebody left behind with another value is replaced.
func (s *socket) write(elements []element) error {
	all := changes(newElement, elements)
	for replaced := false; ; replaced = true {
		err := s.commit(all)
		var refused *refusedError
		if !errors.As(err, &refused) {
			return err
		}
		if replaced || !refused.clash() {
			return fmt.Errorf("add to %w", err)
		}
		var again []change
		for i, c := range all {
			if _, ok := refused.refused[i]; ok {
				again = append(again, change{delElement, element{set: c.set, key: c.key}})
			}
			again = append(again, c)
		}
		all = again
	}
}

// clash tells whether all refused changes would have given a key of a map a
// second value (EEXIST; EBUSY in older kernels).
func (e *refusedError) clash() bool {
	for _, errno := range e.refused {
		if errno != unix.EEXIST && errno != unix.EBUSY {
			return false
		}
	}
	return true
}

// remove deletes elements; those that are not there count as deleted, and so do
// all of a table that is not there. It takes several transactions for many, so that
// others come between.
func (s *socket) remove(elements []element) error {
	const most = 64
	for some := range slices.Chunk(elements, most) {
		if err := s.removeAtOnce(some); err != nil {
			return err
		}
	}
	return nil
}

// removeAtOnce is remove in one transaction. One element that is not there has the
// kernel refuse all of it: it is sent again without.
func (s *socket) removeAtOnce(elements []element) error {
	all := make([]change, 0, len(elements))
	for _, e := range elements {
		all = append(all, change{delElement, element{set: e.set, key: e.key}})
	}
	for {
		err := s.commit(all)
		var refused *refusedError
		if !errors.As(err, &refused) {
			return err
		}
		var left []change
		for i, c := range all {
			switch errno, ok := refused.refused[i]; {
			case !ok:
				left = append(left, c)
			case errno != unix.ENOENT:
				return fmt.Errorf("delete from nftables set %s of table inet %s: %w", c.set, TableName, errno)
			}
		}
		all = left
	}
}
