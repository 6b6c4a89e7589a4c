package attach

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// damages are what can become of a file.
func damages(random *rand.Rand, good []byte) map[string][]byte {
	const page = 4096
	garbage := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	all := map[string][]byte{
		"empty": nil, "a byte": good[:1], "half a page": good[:page/2], "cut": good[:5000], "one page short": good[:len(good)-page],
		"garbage": garbage(len(good)), "zeros": make([]byte, len(good)), "a little garbage": garbage(100),
	}
	for n := range len(good) / page {
		b := append([]byte(nil), good...)
		copy(b[n*page:], garbage(page))
		all["page "+string(rune('0'+n))] = b
	}
	return all
}

// Whatever a state file is, nothing panics, and what cannot be read is an error of one
// line that says what to do. A page that nothing uses may be anything.
func TestDamage(t *testing.T) {
	ctx := context.Background()
	random := rand.New(rand.NewPCG(3, 4))
	s := New(t.TempDir(), decodeFile)
	a := &Adding{Attachment: &Attachment{Key: Key{"net", "one", "eth0", Main}}}
	if err := s.Add(ctx, a); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.Dir(), "berth.db")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for name, data := range damages(random, good) {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			b := &Adding{Attachment: &Attachment{Key: Key{"net", "two", "eth0", Main}}}
			errs := []error{s.Add(ctx, b), s.Del(ctx, b.Key)}
			_, err := s.List(ctx, "")
			errs = append(errs, err, s.Del(ctx, a.Key))
			for i, err := range errs {
				switch {
				case errors.Is(err, ErrDamaged):
					refused++
					if strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "berth doctor --fix") {
						t.Errorf("%d: %q", i, err)
					}
				case err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrUnreadable):
					t.Errorf("%d: %v", i, err)
				}
			}
			if name == "empty" || name == "garbage" || name == "zeros" || name == "cut" {
				if !errors.Is(errs[0], ErrDamaged) {
					t.Errorf("ADD: %v", errs[0])
				}
			}
		})
	}
	if refused == 0 {
		t.Error("no damage was seen at all")
	}
}

// A bug of a claim is not taken for damage of the file.
func TestPanicIsNotDamage(t *testing.T) {
	s := New(t.TempDir(), decodeFile)
	defer func() {
		if p := recover(); p != "a bug" {
			t.Errorf("recovered %v", p)
		}
	}()
	err := s.Update(t.Context(), func(*Tx) error { panic("a bug") })
	t.Errorf("returned %v", err)
}

func FuzzDamage(f *testing.F) {
	s := New(f.TempDir(), decodeFile)
	if err := s.Update(f.Context(), func(*Tx) error { return nil }); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(s.Dir(), "berth.db"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint16(0), []byte("x"))
	f.Add(uint16(4096), []byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, at uint16, junk []byte) {
		s := New(t.TempDir(), decodeFile)
		b := append([]byte(nil), good...)
		copy(b[min(int(at), len(b)):], junk)
		if err := os.WriteFile(filepath.Join(s.Dir(), "berth.db"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{s.View(t.Context(), func(*Tx) error { return nil }), s.Update(t.Context(), func(*Tx) error { return nil })} {
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("%q", err)
			}
		}
	})
}
