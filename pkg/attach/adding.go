package attach

import "context"

// Adding is an ADD that is running: the attachment, and what only its steps have to
// know, from one to the next. Nothing but the attachment is stored.
type Adding struct {
	*Attachment

	// Interfaces is filled by the steps as they add: the CNI result's list.
	Interfaces []Interface
	// NetworkChanged says that no attachment before this one has made the network with
	// these settings: a step that keeps state per network has to replace it. Set by
	// [Network.Claim].
	NetworkChanged bool
	// All, if set, returns every record of the host, this one too: for a step that
	// finds that something all of them share is gone.
	All func(context.Context) ([]*Attachment, error)
	// Delegated says that the addresses are not claimed: a step gives them when it adds.
	// What is made before it is without them, and gets them behind it.
	Delegated bool
	// Warned, if set, is told what a person should know that is no error.
	Warned func(format string, args ...any)
	// Did, if set, is told what Add has done: "claim", then the kind of each step.
	Did func(what string)

	dirty bool
	atEnd []func(*Tx) error
}

// Interface is an interface of the CNI result. Sandbox is the namespace's path,
// empty for an interface of the host.
type Interface struct {
	Name    string
	MAC     string
	MTU     int
	Sandbox string
	Index   int  // in its namespace; 0 when nobody asked the kernel
	Foreign bool // a bridge that somebody else made
}

// Changed has the record written again after the step that calls it: for what is
// known only when a step has run (the addresses of a delegated IPAM).
func (a *Adding) Changed() { a.dirty = true }

// Addressless says that a step behind this one gives the addresses.
func (a *Adding) Addressless() bool { return a.Delegated && len(a.Addresses) == 0 }

// AtEnd has fn run in a transaction of its own when all steps have been added: for
// what must not be said before. If it fails, so does the ADD.
func (a *Adding) AtEnd(fn func(*Tx) error) { a.atEnd = append(a.atEnd, fn) }

func (a *Adding) finish(tx *Tx) error {
	for _, fn := range a.atEnd {
		if err := fn(tx); err != nil {
			return err
		}
	}
	return nil
}

// Warn says what a person should know that is no error.
func (a *Adding) Warn(format string, args ...any) {
	if a.Warned != nil {
		a.Warned(format, args...)
	}
}

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
