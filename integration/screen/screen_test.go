package screen

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// TestFailed: whatever does not hold is a cross, and decides the end.
func TestFailed(t *testing.T) {
	for name, fail := range map[string]func(s *Screen){
		"claim":   func(s *Screen) { s.Claim(false, "one is two") },
		"equal":   func(s *Screen) { s.Equal("one", "1", "2") },
		"command": func(s *Screen) { s.Command(false, "host", "true", "nothing", "something") },
		"stop":    func(s *Screen) { s.Stop(errors.New("no way")) },
	} {
		var out bytes.Buffer
		s := New(&out, false)
		s.Claim(true, "one is one")
		s.Equal("one", "1", "1")
		if err := s.Summary(); err != nil || strings.Contains(out.String(), "✗") {
			t.Fatalf("all is well: %v:\n%s", err, out.String())
		}
		fail(s)
		if err := s.Summary(); err == nil || !strings.Contains(out.String(), "✗") {
			t.Errorf("%s: %v:\n%s", name, err, out.String())
		}
	}
}

// TestSlow: what is slower than claimed is said, and decides nothing.
func TestSlow(t *testing.T) {
	var out bytes.Buffer
	s := New(&out, false)
	s.Fast(true, "one second")
	s.Fast(false, "two seconds")
	err := s.Summary()
	if got := out.String(); err != nil || !strings.Contains(got, "✓ one second\n") || !strings.Contains(got, "! two seconds: not so") ||
		!strings.Contains(got, "2 claims checked, all as expected but 1 about speed") {
		t.Errorf("%v:\n%s", err, got)
	}
}

func TestWrap(t *testing.T) {
	for _, test := range []struct {
		text string
		want []string
	}{
		{"", []string{""}},
		{"one two", []string{"one two"}},
		{"one two three", []string{"one two", "three"}},
		{"  one two three", []string{"  one", "  two", "  three"}},
		{"→→ →→→→ →→", []string{"→→ →→→→", "→→"}},
		{"averylongword at", []string{"averylongword at"}},
		{"a\nb", []string{"a", "b"}},
	} {
		got := Wrap(test.text, 7)
		if strings.Join(got, "|") != strings.Join(test.want, "|") {
			t.Errorf("%q: %q, want %q", test.text, got, test.want)
		}
	}
}
