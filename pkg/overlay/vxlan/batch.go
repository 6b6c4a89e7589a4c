package vxlan

import (
	"errors"
	"fmt"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
)

// conn is a route netlink socket. Not for concurrent use.
type conn struct{ *rtnl.Conn }

// batch is requests that go out together, each with what it is for.
type batch struct {
	reqs   []*netlink.Request
	labels []label
}

// label says what a request is for.
type label struct {
	verb  string // "add route"
	thing any    // what to
	peer  string // whose; empty for the device's own
	gone  bool   // it deletes: what is not there counts as deleted
}

func (l label) String() string {
	s := fmt.Sprintf("%s %v", l.verb, l.thing)
	if l.peer != "" {
		s += " of " + l.peer
	}
	return s
}

func (b *batch) put(what string, thing any, peer string, req *netlink.Request) {
	b.reqs, b.labels = append(b.reqs, req), append(b.labels, label{"add " + what, thing, peer, false})
}

func (b *batch) delete(what string, thing any, peer string, req *netlink.Request) {
	b.reqs, b.labels = append(b.reqs, req), append(b.labels, label{"delete " + what, thing, peer, true})
}

// told is how many refusals are told in full; the others are counted.
const told = 10

// run sends the batch. The error has what was refused; the rest is done.
func (c *conn) run(b *batch) error {
	if len(b.reqs) == 0 {
		return nil
	}
	err := c.Send(b.reqs...)
	refused := netlink.Refusals(err)
	if err != nil && refused == nil {
		return err
	}
	var errs []error
	more := 0
	for _, e := range refused {
		l := b.labels[e.Index]
		switch {
		case l.gone && rtnl.IsGone(e):
		case len(errs) == told:
			more++
		default:
			errs = append(errs, fmt.Errorf("%s: %w", l, e))
		}
	}
	if more > 0 {
		errs = append(errs, fmt.Errorf("and %d more", more))
	}
	return errors.Join(errs...)
}

// readable is the error of a list but for one that others never leave alone: to add what
// is there already, or to remove what is gone, harms nothing.
func readable(err error) error {
	if errors.Is(err, netlink.ErrInterrupted) {
		return nil
	}
	return err
}
