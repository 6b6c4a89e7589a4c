package attach

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
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
	r := record{plain: (*plain)(a), Steps: make([]taggedStep, len(a.Steps))}
	for i, s := range a.Steps {
		r.Steps[i] = taggedStep{s.Kind(), s}
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

// addSteps adds in order. On an error, a panic or a cancelled context it deletes
// what was added, in reverse. rolledBack reports whether nothing is left.
func addSteps(ctx context.Context, a *Adding, save, going func() error) (rolledBack bool, err error) {
	for i, s := range a.Steps {
		err, panicked := addStep(ctx, s, a)
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
		if panicked || errors.Is(err, ErrLeft) {
			i++ // a step that panicked kept no promise
		}
		undo := a.Steps[:i:i]
		for _, s := range a.Steps[i:] {
			if r, ok := s.(Restorable); ok {
				undo = append(undo, r)
			}
		}
		left := errors.Join(going(), delSteps(context.WithoutCancel(ctx), a.Attachment, undo))
		return left == nil, errors.Join(err, left)
	}
	return false, nil
}

func addStep(ctx context.Context, s Step, a *Adding) (err error, panicked bool) {
	defer func() {
		if p := recover(); p != nil {
			err, panicked = fmt.Errorf("step %s: panic: %v\n%s", s.Kind(), p, debug.Stack()), true
		}
	}()
	if err := context.Cause(ctx); err != nil {
		return err, false
	}
	return s.Add(ctx, a), false
}

// delSteps deletes in reverse, all of them whatever fails, and joins the errors.
func delSteps(ctx context.Context, a *Attachment, steps []Step) error {
	var errs []error
	for i := len(steps) - 1; i >= 0; i-- {
		if err := steps[i].Del(ctx, a); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
