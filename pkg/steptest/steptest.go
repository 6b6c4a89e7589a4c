// Package steptest is the suite that every step passes, on the real kernel.
package steptest

import (
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
)

// Conform runs a step through its life: Check fails before Add; after Add it
// passes; a second Add harms nothing, and is refused unless the step is shared or
// only sets what may be set twice; after Del Check fails, unless the step is
// shared; a second Del is nil. state describes what the step changes, for
// comparison. The first ADD is returned.
func Conform(t *testing.T, s attach.Step, a *attach.Attachment, again Again, state func() string) *attach.Adding {
	t.Helper()
	ctx := t.Context()
	before := state()
	if err := s.Check(ctx, a); err == nil {
		t.Errorf("%s: Check passes before Add", s.Kind())
	}
	if err := s.Del(ctx, a); err != nil {
		t.Errorf("%s: Del before Add: %v", s.Kind(), err)
	}
	first := &attach.Adding{Attachment: a}
	if err := s.Add(ctx, first); err != nil {
		t.Fatalf("%s: Add: %v", s.Kind(), err)
	}
	if err := s.Check(ctx, a); err != nil {
		t.Errorf("%s: Check after Add: %v", s.Kind(), err)
	}
	made := state()
	if made == before {
		t.Errorf("%s: Add changed nothing that the test can see", s.Kind())
	}
	err := s.Add(ctx, &attach.Adding{Attachment: a})
	if again == Refused && err == nil {
		t.Errorf("%s: a second Add is not refused", s.Kind())
	}
	if again != Refused && err != nil {
		t.Errorf("%s: a second Add: %v", s.Kind(), err)
	}
	if now := state(); now != made {
		t.Errorf("%s: a second Add changed\n%s\nto\n%s", s.Kind(), made, now)
	}
	if err := s.Check(ctx, a); err != nil {
		t.Errorf("%s: Check after a second Add: %v", s.Kind(), err)
	}
	for _, when := range []string{"Del", "a second Del"} {
		if err := s.Del(ctx, a); err != nil {
			t.Errorf("%s: %s: %v", s.Kind(), when, err)
		}
		err := s.Check(ctx, a)
		if again == Shared && err != nil {
			t.Errorf("%s: Check of a shared thing after %s: %v", s.Kind(), when, err)
		}
		if again != Shared && err == nil {
			t.Errorf("%s: Check passes after %s", s.Kind(), when)
		}
		if now := state(); again != Shared && now != before {
			t.Errorf("%s: %s left\n%s\nwant\n%s", s.Kind(), when, now, before)
		}
	}
	return first
}

// Again is what a second Add of a step does.
type Again int

const (
	Refused  Again = iota // the thing belongs to one attachment
	Harmless              // the thing is the attachment's, and setting it twice is the same
	Shared                // the thing is everybody's: Add ensures, Del leaves
)
