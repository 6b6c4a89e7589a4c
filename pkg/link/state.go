package link

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link/netns"
)

// State is what has become of the namespace of a record.
type State int

// The states.
const (
	Alive    State = iota // the path leads to it
	Gone                  // it has ended
	Detached              // it goes on without its path: a process is in it
	Unknown               // there is no telling
)

func (s State) String() string {
	switch s {
	case Alive:
		return "there"
	case Gone:
		return "gone"
	case Detached:
		return "without its path"
	}
	return "unknown"
}

// young is the age of a record whose ADD may still be under way: no runtime waits for
// longer.
const young = time.Minute

// StateOf tells what has become of a record's namespace, and in words why it is not
// alive. there tells whether the host has an interface: the host's end of a veth pair
// goes when the namespace of the other end does.
func StateOf(a *attach.Attachment, there func(ifName string) bool, now time.Time) (State, string) {
	if a.Netns == "" {
		if end := hostEnd(a); end != "" && !there(end) {
			return Gone, fmt.Sprintf("its interface %s is gone", end)
		}
		return Unknown, "its record names no namespace"
	}
	why := fmt.Sprintf("its namespace %s is gone", a.Netns)
	ns, err := netns.Open(a.Netns)
	switch {
	case err == nil:
		defer ns.Close()
		cookie, err := ns.Cookie()
		switch {
		case err != nil && !errors.Is(err, netns.ErrNotNetns):
			return Unknown, err.Error()
		case err == nil && (a.Cookie == 0 || a.Cookie == cookie):
			return Alive, ""
		case err == nil:
			why = fmt.Sprintf("%s leads to another namespace by now", a.Netns)
			if rebinds(a) && now.Sub(a.Created) < young { // or not yet to the one that it is to
				return Unknown, why
			}
		}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, netns.ErrNotNetns):
	default:
		return Unknown, err.Error()
	}
	if HasVeth(a) {
		if there(a.HostIfName()) {
			return Detached, why + ", and a process is still in the one that was attached"
		}
		return Gone, why
	}
	if a.MountNS != 0 && a.MountNS != netns.MountNamespace() { // a runtime may keep its namespaces where only it sees them
		return Unknown, why + " in this mount namespace, and it was attached in another"
	}
	return Gone, why
}

func rebinds(a *attach.Attachment) bool {
	return slices.ContainsFunc(a.Steps, func(s attach.Step) bool { _, ok := s.(*netns.Rebind); return ok })
}

// hostEnd is the host's interface that leads to the attachment's container alone; empty
// when there is none.
func hostEnd(a *attach.Attachment) string {
	for _, s := range a.Steps {
		switch step := s.(type) {
		case *Veth, *Routed:
			return a.HostIfName()
		case *Localnet:
			return step.Interface
		}
	}
	return ""
}

// IsRouted tells whether the attachment's interface is on no bridge ([Routed]).
func IsRouted(a *attach.Attachment) bool {
	return slices.ContainsFunc(a.Steps, func(s attach.Step) bool { _, ok := s.(*Routed); return ok })
}

// HasVeth tells whether the attachment has an end of a veth pair on the host.
func HasVeth(a *attach.Attachment) bool {
	return slices.ContainsFunc(a.Steps, func(s attach.Step) bool {
		switch s.(type) {
		case *Veth, *Routed:
			return true
		}
		return false
	})
}
