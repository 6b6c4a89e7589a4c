package attach

import "context"

// Adding is an ADD that is running: the attachment, and what only its steps have to
// know, from one to the next. Nothing but the attachment is stored.
type Adding struct {
	*Attachment

	// Interfaces is filled by the steps as they add: the CNI result's list.
	Interfaces []Interface
	// NetworkKnown says that the network has been made, with the same settings, by an
	// attachment before this one. NetworkChanged says that it has been made with
	// others: a step that keeps state per network has to replace it. Set by the
	// claim.
	NetworkKnown   bool
	NetworkChanged bool
	// All, if set, returns every record of the host, this one too: for a step that
	// finds that something all of them share is gone.
	All func(context.Context) ([]*Attachment, error)
	// Did, if set, is told what Add has done: "claim", then the kind of each step.
	Did func(what string)

	dirty bool
}

// Interface is an interface of the CNI result. Sandbox is the namespace's path,
// empty for an interface of the host.
type Interface struct {
	Name    string
	MAC     string
	MTU     int
	Sandbox string
	Index   int // in its namespace; 0 when nobody asked the kernel
}

// Changed has the record written again after the step that calls it: for what is
// known only when a step has run (the addresses of a delegated IPAM).
func (a *Adding) Changed() { a.dirty = true }

func (a *Adding) did(what string) {
	if a.Did != nil {
		a.Did(what)
	}
}

// Interface returns the interface of that name on the host, made or found by an
// earlier step.
func (a *Adding) Interface(name string) (Interface, bool) {
	for _, i := range a.Interfaces {
		if i.Name == name && i.Sandbox == "" {
			return i, true
		}
	}
	return Interface{}, false
}
