package attach

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// Step adds, deletes and checks one thing of an attachment. It is a plain struct
// that JSON can carry, since the record keeps it.
//
// Add leaves nothing behind on an error. Del works from the step and the record
// alone, and what is absent counts as deleted. Both may be called twice: a
// second Add of something that belongs to one attachment is refused and harms
// nothing; something shared (a bridge) is ensured by Add and left by Del. Check
// returns an error that says what is missing.
type Step interface {
	// Kind names the step in the record: "veth".
	Kind() string
	Add(context.Context, *Adding) error
	Del(context.Context, *Attachment) error
	Check(context.Context, *Attachment) error
}

// Restorable is a step that others may add for the attachment, when they restore
// something that all share ([Adding.All]). Every rollback runs its Del, whether
// or not its own Add had its turn.
type Restorable interface {
	Step
	Restorable()
}

// Claimer is a step that takes something of the store for the attachment: an address,
// a port, a network's place. Claim runs in the one transaction that also writes the
// record, before any step adds, so it asks nobody but the store. What one Claim takes
// goes with the transaction when another one fails. It may run again with the same
// Adding: what it sets, it sets anew. What the attachment holds is given back with
// its record.
type Claimer interface {
	Step
	Claim(*Tx, *Adding) error
}

// Ephemeral is a step that has nothing to delete or to check later: what it claimed is
// in the record, and the record does not keep the step.
type Ephemeral interface {
	Step
	Ephemeral() bool
}

// Claiming is embedded by a step that is [Ephemeral], for what it has nothing to do in.
type Claiming struct{}

// Ephemeral implements [Ephemeral].
func (Claiming) Ephemeral() bool { return true }

// Add implements [Step].
func (Claiming) Add(context.Context, *Adding) error { return nil }

// Del implements [Step]: what was claimed goes with the record.
func (Claiming) Del(context.Context, *Attachment) error { return nil }

// Check implements [Step].
func (Claiming) Check(context.Context, *Attachment) error { return nil }

// Statuser is a step that can tell before any ADD whether its own would work now
// (CNI's STATUS) on a network.
type Statuser interface {
	Step
	Status(ctx context.Context, s *Store, network string) error
}

// ErrLeft is joined to the error of an Add that could not take back what it had
// made. The rollback deletes that step too, and keeps the record if it cannot.
var ErrLeft = errors.New("something may be left of it")

// Decoder returns an empty step of a kind, for the record's JSON to be decoded
// into; nil for a kind it does not know.
type Decoder func(kind string) Step

// record is the stored form of an attachment; each step has its kind beside it.
type record struct {
	*plain
	Steps []taggedStep `json:"steps"`
}

type plain Attachment // without its methods

type taggedStep struct {
	Kind string `json:"kind"`
	Spec any    `json:"spec"`
}

func (a *Attachment) record() record {
	r := record{plain: (*plain)(a), Steps: make([]taggedStep, 0, len(a.Steps))}
	for _, s := range a.Steps {
		if e, ok := s.(Ephemeral); !ok || !e.Ephemeral() {
			r.Steps = append(r.Steps, taggedStep{s.Kind(), s})
		}
	}
	return r
}

// MarshalJSON renders the whole record, steps included.
func (a *Attachment) MarshalJSON() ([]byte, error) { return json.Marshal(a.record()) }

func decodeAttachment(data []byte, decode Decoder) (*Attachment, error) {
	a := &Attachment{}
	r := struct {
		*plain
		Steps []struct {
			Kind string
			Spec json.RawMessage
		}
	}{plain: (*plain)(a)}
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("decode record: %w", err)
	}
	for _, t := range r.Steps {
		s := decode(t.Kind)
		if s == nil {
			return nil, fmt.Errorf("record of %s has a step %q that this version does not know", a.Key, t.Kind)
		}
		if err := json.Unmarshal(t.Spec, s); err != nil {
			return nil, fmt.Errorf("decode step %s of %s: %w", t.Kind, a.Key, err)
		}
		a.Steps = append(a.Steps, s)
	}
	return a, nil
}

// addSteps adds in order. With an error, also that of a panic or of a cancelled
// context, it returns the steps that have to be deleted.
func addSteps(ctx context.Context, a *Adding, save func() error) (undo []Step, err error) {
	for i, s := range a.Steps {
		err := addStep(ctx, s, a)
		a.did(s.Kind())
		if err == nil && a.dirty {
			a.dirty = false
			if err = save(); err != nil {
				i++ // this step is in place
			}
		}
		if err == nil {
			continue
		}
		if bug := (*PanicError)(nil); errors.As(err, &bug) || errors.Is(err, ErrLeft) {
			i++ // a step that panicked kept no promise
		}
		undo := a.Steps[:i:i]
		for _, s := range a.Steps[i:] {
			if r, ok := s.(Restorable); ok {
				undo = append(undo, r)
			}
		}
		return undo, err
	}
	return nil, nil
}

func addStep(ctx context.Context, s Step, a *Adding) (err error) {
	defer Recover(&err, "step "+s.Kind())
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return s.Add(ctx, a)
}

// delSteps deletes in reverse, all of them whatever fails, and joins the errors.
func delSteps(ctx context.Context, a *Attachment, steps []Step) error {
	var errs []error
	for i := len(steps) - 1; i >= 0; i-- {
		if err := delStep(ctx, steps[i], a); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// delStep makes an error of a panic, which keeps back none of the other steps.
func delStep(ctx context.Context, s Step, a *Attachment) (err error) {
	defer Recover(&err, "step "+s.Kind())
	return s.Del(ctx, a)
}

// checkStep makes an error of a panic, as [delStep].
func checkStep(ctx context.Context, s Step, a *Attachment) (err error) {
	defer Recover(&err, "step "+s.Kind())
	return s.Check(ctx, a)
}
