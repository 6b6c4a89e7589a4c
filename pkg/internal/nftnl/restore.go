package nftnl

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Restore makes the table, with what it held for everybody: somebody flushed it,
// or (replace) another version made it.
//
// Others go on meanwhile: what they deleted since wanted was asked came
// back with the table, and what they added is gone with one that was replaced. So
// wanted is asked again after each change made here, until what it touched
// is as it says. An attachment has a record, and is not being deleted, from before it
// adds until before it deletes: what happens later than that is its own work.
// keep comes into the table as well.
func (c *Conn) Restore(wanted func() ([]Element, error), replace bool, keep ...Element) error {
	made, err := wanted()
	if err != nil {
		return err
	}
	err = c.Table.Make(replace, slices.Concat(made, keep))
	if errors.Is(err, unix.EEXIST) && !replace {
		return nil // another one made it first
	}
	if err != nil {
		return err
	}
	now, err := wanted()
	if err != nil {
		return err
	}
	gone, missing := passing(Pick(made, now, Element.Place, false)), []Element(nil)
	if replace {
		missing = Pick(now, made, Element.Content, false)
	}
	for range rounds {
		if len(gone)+len(missing) == 0 {
			return nil
		}
		if err := c.Remove(gone); err != nil {
			return err
		}
		if err := c.Write(missing); err != nil {
			return err
		}
		if now, err = wanted(); err != nil {
			return err
		}
		// Somebody may have added what was removed, and deleted what was added.
		gone, missing = passing(Pick(missing, now, Element.Place, false)), Pick(now, gone, Element.Place, true)
	}
	return fmt.Errorf("restore %s: others change it all the time", c.Table)
}

// rounds bounds how often is looked again where others never leave it alone: each was
// about what changed during one transaction.
const rounds = 100

// passing leaves out what is lasting: that the last container of a network
// has gone does not say that the network has left the host.
func passing(all []Element) []Element {
	return slices.DeleteFunc(all, func(e Element) bool { return e.Lasting })
}
