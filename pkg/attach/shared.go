package attach

import "context"

// Shared is a step for what several attachments have in common: the bridge of a
// network, its way through the host's other firewalls, forwarding. The record of
// each of them has the step, so the records say what the host must have.
//
// Add ensures it for every attachment anew, and costs a question where it is as it
// should be. Del leaves it. Check asks one cheap question, and starts no program:
// every CHECK asks it.
type Shared interface {
	Step
	// Place says which thing of the host it is: "bridge cni0". Steps of one place,
	// of whichever attachment, are about the same thing.
	Place() string
	// Join returns the step that does for two of one place, of which this one is the
	// newer: the network is as it says, and has what either needs.
	Join(older Shared) Shared
}

// Repairer is a step that can put back some of what it made without the rest being
// deleted first.
type Repairer interface {
	Step
	// Repair puts back what it can. What it cannot is deleted and added.
	Repair(context.Context, *Adding) error
}
