package nftnl

import (
	"errors"
	"fmt"
	"slices"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/sys/unix"
)

// Conn is a socket that speaks of one table.
type Conn struct {
	*Socket
	Table *Table
}

// Dial opens a socket for the table.
func (t *Table) Dial() (*Conn, error) {
	s, err := Dial()
	return &Conn{s, t}, err
}

func (t *Table) question(kind uint16) *netlink.Request { return Question(kind, t.Family) }

// change is one message of a transaction.
type change struct {
	kind uint16 // NewElement or DelElement
	Element
}

func changes(kind uint16, elements []Element) []change {
	all := make([]change, len(elements))
	for i, e := range elements {
		all[i] = change{kind, e}
	}
	return all
}

// refusedError says which changes the kernel refused; then it made none.
type refusedError struct {
	table   *Table
	refused map[int]unix.Errno // by the change's place in the transaction
	first   change
	why     *netlink.Error
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("nftables set %s of %s: %v", e.first.Set, e.table.short(), e.why)
}

func (e *refusedError) Unwrap() error { return e.why }

// commit makes all changes or none. A [*refusedError] when the kernel refuses any.
func (c *Conn) commit(all []change) error {
	if len(all) == 0 {
		return nil
	}
	reqs := make([]*netlink.Request, len(all))
	for i, change := range all {
		var flags uint16
		if change.kind == NewElement {
			flags = unix.NLM_F_CREATE
		}
		reqs[i] = c.Table.put(c.Table.request(change.kind, flags), change.Set, []Element{change.Element})
	}
	refused, err := c.transact(reqs)
	if err != nil {
		return fmt.Errorf("change %s: %w", c.Table, err)
	}
	var failed *refusedError
	for _, e := range refused {
		if e.Index < 0 {
			return fmt.Errorf("change %s: %w", c.Table, e)
		}
		if failed == nil {
			failed = &refusedError{c.Table, map[int]unix.Errno{}, all[e.Index], e}
		}
		failed.refused[e.Index] = e.Errno
	}
	if failed != nil {
		return failed
	}
	return nil
}

// Put adds elements. Where the table is missing or not as this version makes it,
// makeTable is called: first to make one where there is none, then to replace the
// one there is.
func (c *Conn) Put(elements []Element, makeTable func(replace bool) error) error {
	return WithTable(func() error {
		err := c.Whole()
		if err == nil {
			err = c.Write(elements)
		}
		return err
	}, makeTable)
}

// WithTable does what needs the table.
func WithTable(do func() error, makeTable func(replace bool) error) error {
	for made := 0; ; made++ {
		err := do()
		if made == 2 || !errors.Is(err, ErrNotWhole) && !errors.Is(err, unix.ENOENT) { // gone in between
			return err
		}
		if err := makeTable(made > 0); err != nil {
			return err
		}
	}
}

// Write adds elements to the table that there is. An element of a map whose key
// somebody left behind with another value is replaced.
func (c *Conn) Write(elements []Element) error {
	all := changes(NewElement, elements)
	for replaced := false; ; replaced = true {
		err := c.commit(all)
		var refused *refusedError
		if !errors.As(err, &refused) {
			return err
		}
		if replaced || !refused.clash() {
			return fmt.Errorf("add to %w", err)
		}
		var again []change
		for i, one := range all {
			if _, ok := refused.refused[i]; ok {
				again = append(again, change{DelElement, one.place()})
			}
			again = append(again, one)
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

// Remove deletes elements; those that are not there count as deleted, and so do
// all of a table that is not there. It takes several transactions for many, so that
// others come between.
func (c *Conn) Remove(elements []Element) error {
	const most = 64
	for some := range slices.Chunk(elements, most) {
		if err := c.removeAtOnce(some); err != nil {
			return err
		}
	}
	return nil
}

// removeAtOnce is Remove in one transaction. One element that is not there has the
// kernel refuse all of it: it is sent again without.
func (c *Conn) removeAtOnce(elements []Element) error {
	all := make([]change, 0, len(elements))
	for _, e := range elements {
		all = append(all, change{DelElement, e.place()})
	}
	for {
		err := c.commit(all)
		var refused *refusedError
		if !errors.As(err, &refused) {
			return err
		}
		var left []change
		for i, one := range all {
			switch errno, ok := refused.refused[i]; {
			case !ok:
				left = append(left, one)
			case errno != unix.ENOENT:
				return fmt.Errorf("delete from nftables set %s of %s: %w", one.Set, c.Table.short(), errno)
			}
		}
		if len(left) == len(all) { // it is not of them that one is refused
			return err
		}
		all = left
	}
}
