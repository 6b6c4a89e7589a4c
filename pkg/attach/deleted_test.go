package attach

import (
	"errors"
	"math/rand/v2"
	"os"
	"testing"
)

// A DEL deletes what it is told to, once, and notes the key, wherever in the file the damage
// is that it runs into: in the record, in another page that is read, or in one that only the
// deletion writes. It is a DEL like any other where there is none.
func TestDelDamaged(t *testing.T) {
	s, all := many(t, 40)
	good, err := os.ReadFile(s.path())
	if err != nil {
		t.Fatal(err)
	}
	k := all[7].Key
	seen, readable := 0, 0
	for name, data := range damages(rand.New(rand.NewPCG(5, 6)), good) {
		if err := errors.Join(os.RemoveAll(s.deletedPath()), os.WriteFile(s.path(), data, 0o600)); err != nil {
			t.Fatal(err)
		}
		if err := s.Del(t.Context(), k); !errors.Is(err, ErrDamaged) {
			continue
		}
		seen++
		if _, err := s.known(t.Context(), k, false); err == nil {
			readable++
		}
		ran := 0
		if err := s.DelDamaged(t.Context(), k, func() error { ran++; return nil }); err != nil || ran != 1 {
			t.Errorf("%s: %v, deleted %d times, want once", name, err, ran)
		}
		if noted, err := s.deleted(); err != nil || !noted[k.Hash()] {
			t.Errorf("%s: noted are %v, %v", name, noted, err)
		}
	}
	if seen == 0 || readable == 0 {
		t.Errorf("%d damages are seen by DEL, %d of them beside the record, want some of both", seen, readable)
	}

	if err := os.WriteFile(s.path(), good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.DelDamaged(t.Context(), k, func() error { return errors.New("deleted as if the file were damaged") }); err != nil {
		t.Error(err)
	}
	if _, err := s.Get(t.Context(), k); !errors.Is(err, ErrNotFound) {
		t.Errorf("the record is still there: %v", err)
	}
}
