package steptest

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/berth-cni/berth/pkg/attach"
)

// ErrFault is what a [Faulty] step fails with.
var ErrFault = errors.New("fault")

// Fault is where a [Faulty] step fails.
type Fault string

// The faults.
const (
	None   Fault = ""
	Claims Fault = "claim" // after it claimed
	Before Fault = "before"
	Panics Fault = "panic" // after it added
)

// Faults are all of them.
var Faults = []Fault{Claims, Before, Panics}

// Faulty is a step that fails.
type Faulty struct {
	attach.Step
	Fault Fault
}

// Spoil has one of the steps fail.
func Spoil(steps []attach.Step, k int, f Fault) {
	if f != None {
		steps[k] = Faulty{steps[k], f}
	}
}

// MarshalJSON renders the real step, which the record keeps.
func (f Faulty) MarshalJSON() ([]byte, error) { return json.Marshal(f.Step) }

// Ephemeral implements [attach.Ephemeral].
func (f Faulty) Ephemeral() bool {
	e, ok := f.Step.(attach.Ephemeral)
	return ok && e.Ephemeral()
}

// Claim implements [attach.Claimer].
func (f Faulty) Claim(tx *attach.Tx, a *attach.Adding) error {
	if c, ok := f.Step.(attach.Claimer); ok {
		if err := c.Claim(tx, a); err != nil {
			return err
		}
	}
	if f.Fault == Claims {
		return ErrFault
	}
	return nil
}

// Add implements [attach.Step].
func (f Faulty) Add(ctx context.Context, a *attach.Adding) error {
	if f.Fault == Before {
		return ErrFault
	}
	if err := f.Step.Add(ctx, a); err != nil {
		return err
	}
	panic(ErrFault)
}
