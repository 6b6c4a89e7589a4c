// Package host is what has to hold on a host, by the records of its attachments: which
// of them are alive ([StateOf]), what of theirs is missing ([Faults]) and how it is put
// back ([Reload]), and what is left of those that are gone ([Collect]).
//
// It runs beside the runtimes' ADD and DEL. What it changes of an attachment it changes
// under the lock of that attachment's key; what is of many is made from records that
// are read again after each change.
package host

import (
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link"
)

// StateOf is [link.StateOf] with the links of the host, all asked for at once.
func StateOf(a *attach.Attachment, links Links, now time.Time) (link.State, string) {
	return link.StateOf(a, func(name string) bool {
		_, there := links[name]
		return there
	}, now)
}

// IsAlive tells whether an attachment's path still is the namespace that was attached.
func IsAlive(a *attach.Attachment) bool {
	state, _ := StateOf(a, nil, time.Time{})
	return state == Alive
}

// State is what has become of the namespace of a record.
type State = link.State

// The states.
const (
	Alive    = link.Alive
	Gone     = link.Gone
	Detached = link.Detached
	Unknown  = link.Unknown
)

// HasVeth is [link.HasVeth].
func HasVeth(a *attach.Attachment) bool { return link.HasVeth(a) }
