package attach

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func allSteps(a *Attachment) []Step { return a.Steps }

// TestStoreReload: what was taken away is made again, nothing else, and the record is
// the one that is there when the lock is had.
func TestStoreReload(t *testing.T) {
	s := testStore(t)
	a := attachment(s.Dir(), 3)
	if err := s.Add(t.Context(), claiming(a)); err != nil {
		t.Fatal(err)
	}
	if missing, err := s.Reload(t.Context(), a.Key, allSteps); missing != nil || err != nil {
		t.Errorf("all is there: %v, %v", missing, err)
	}
	before := made(t, s)
	f := a.Steps[1].(*file)
	remove := func() {
		t.Helper()
		if err := os.Remove(filepath.Join(f.Dir, "step."+f.Name)); err != nil {
			t.Fatal(err)
		}
	}
	remove()
	none := func(a *Attachment) []Step { return a.Steps[:1] }
	if missing, err := s.Reload(t.Context(), a.Key, none); missing != nil || err != nil || made(t, s) == before {
		t.Errorf("not asked for: %v, %v", missing, err)
	}
	missing, err := s.Reload(t.Context(), a.Key, allSteps)
	if missing == nil || !strings.Contains(missing.Error(), f.Name) || err != nil || made(t, s) != before {
		t.Errorf("%v, %v: %s, not %s", missing, err, made(t, s), before)
	}
	remove()
	trap(t, s, f.Name, "error")
	if missing, err := s.Reload(t.Context(), a.Key, allSteps); missing == nil || err == nil {
		t.Errorf("cannot be added: %v, %v", missing, err)
	}
	untrap(t, s, f.Name)
	if _, err := s.Reload(t.Context(), a.Key, allSteps); err != nil || made(t, s) != before {
		t.Errorf("again: %v: %s", err, made(t, s))
	}
	if err := s.Del(t.Context(), a.Key); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Reload(t.Context(), a.Key, allSteps); !errors.Is(err, ErrNotFound) || made(t, s) != "" {
		t.Errorf("deleted: %v, %s", err, made(t, s))
	}
}

// during is a step that lets a test do something while it is added.
type during struct {
	*file
	do func()
}

func (d *during) Add(ctx context.Context, a *Adding) error {
	d.do()
	return d.file.Add(ctx, a)
}

// TestStoreReloadBusy: neither an ADD nor a DEL is disturbed.
func TestStoreReloadBusy(t *testing.T) {
	s := testStore(t)
	a := attachment(s.Dir(), 2)
	asked := false
	busy := func() {
		asked = true
		if _, err := s.Reload(t.Context(), a.Key, allSteps); !errors.Is(err, ErrBusy) {
			t.Errorf("Reload: %v", err)
		}
		if _, err := s.Settle(t.Context(), a.Key); !errors.Is(err, ErrBusy) {
			t.Errorf("Settle: %v", err)
		}
		if idle, err := s.Idle([]*Attachment{a}); err != nil || len(idle) > 0 {
			t.Errorf("Idle: %v, %v", idle, err)
		}
	}
	a.Steps[1] = &during{a.Steps[1].(*file), busy}
	if err := s.Add(t.Context(), claiming(a)); err != nil || !asked {
		t.Fatal(err)
	}
	if now, err := s.Settle(t.Context(), a.Key); err != nil || now.Key != a.Key {
		t.Errorf("%+v, %v", now, err)
	}
	if idle, err := s.Idle([]*Attachment{a}); err != nil || len(idle) != 1 {
		t.Errorf("Idle: %v, %v", idle, err)
	}
	trap(t, s, "0", "del")
	if err := s.Del(t.Context(), a.Key); err == nil {
		t.Fatal("the step that cannot be deleted was")
	}
	left := made(t, s)
	if _, err := s.Reload(t.Context(), a.Key, allSteps); !errors.Is(err, ErrNotFound) || made(t, s) != left {
		t.Errorf("is being deleted: %v, %q and %q", err, left, made(t, s))
	}
}
