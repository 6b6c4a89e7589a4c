package firewall

import (
	"context"
	"errors"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"golang.org/x/sys/unix"
)

// elementsOf returns what the table holds for these attachments: nothing for one
// that is being deleted.
func elementsOf(all []*attach.Attachment) []element {
	var elements []element
	for _, a := range all {
		r := RulesOf(a)
		if a.Deleting || r == nil || r.Backend != NFTables {
			continue
		}
		if own, err := r.containerElements(a); err == nil { // else Add refused it
			elements = append(elements, own...)
		}
	}
	for _, n := range Networks(all, NFTables) {
		wanted, _ := n.Rules.networkElements()
		elements = append(elements, wanted...)
		for _, v6 := range []bool{false, true} {
			if passes, err := filtered(v6); err == nil && !passes {
				elements = append(elements, (&Hairpin{Bridge: n.Rules.Bridge}).element(v6)...)
			}
		}
	}
	return elements
}

// restore makes the table, with what it held for everybody: somebody flushed it,
// or (replace) another version of Berth made it.
//
// Others go on meanwhile: what they deleted since the records were listed came
// back with the table, and what they added is gone with one that was replaced. So
// the records are listed again after each change made here, until what it touched
// is as they say. An attachment has a record, and is not being deleted, from before it
// adds until before it deletes: what happens later than that list is its own work.
// keep comes into the table as well.
func (s *socket) restore(ctx context.Context, records records, replace bool, keep ...element) error {
	list := func() ([]element, error) {
		if records == nil {
			return nil, nil
		}
		all, err := records(ctx)
		return elementsOf(all), err
	}
	made, err := list()
	if err != nil {
		return err
	}
	err = makeTable(replace, slices.Concat(made, keep))
	if errors.Is(err, unix.EEXIST) && !replace {
		return nil // another one made it first
	}
	if err != nil {
		return err
	}
	now, err := list()
	if err != nil {
		return err
	}
	gone, missing := containers(pick(made, now, element.place, false)), []element(nil)
	if replace {
		missing = pick(now, made, element.content, false)
	}
	for len(gone)+len(missing) > 0 {
		if err := s.remove(gone); err != nil {
			return err
		}
		if err := s.write(missing); err != nil {
			return err
		}
		if now, err = list(); err != nil {
			return err
		}
		// Somebody may have added what was removed, and deleted what was added.
		gone, missing = containers(pick(missing, now, element.place, false)), pick(now, gone, element.place, true)
	}
	return nil
}

// containers leaves out what is of tunnels: that the last container of a network
// has gone does not say that the network has left the host.
func containers(all []element) []element {
	return slices.DeleteFunc(all, func(e element) bool { return e.tunnel })
}

// pick returns those of all that are, or are not, among the others by name.
func pick(all, others []element, name func(element) string, among bool) (picked []element) {
	names := make(map[string]bool, len(others))
	for _, e := range others {
		names[name(e)] = true
	}
	for _, e := range all {
		if names[name(e)] == among {
			picked = append(picked, e)
		}
	}
	return picked
}

// place is where the element is: two of one place are the same or clash.
func (e element) place() string { return e.set + "\x00" + string(e.key) }

func (e element) content() string { return e.place() + string(e.value) }
