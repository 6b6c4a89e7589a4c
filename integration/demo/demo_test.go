package main

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/berth-cni/berth/integration/sandbox"
)

var colours = regexp.MustCompile("\x1b\\[[0-9;]*m")

// TestDemo runs the demo as it is shown, and looks at it as a terminal would.
func TestDemo(t *testing.T) {
	bin, err := sandbox.Binaries()
	if err != nil {
		t.Fatal(err)
	}
	for _, colour := range []bool{false, true} {
		var out bytes.Buffer
		start := time.Now()
		if err := run(&out, colour, bin); err != nil {
			t.Errorf("%v:\n%s", err, out.String())
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("took %s", took)
		}
		if got := colours.MatchString(out.String()); got != colour {
			t.Errorf("colours: %v, want %v", got, colour)
		}
		for line := range strings.Lines(colours.ReplaceAllString(out.String(), "")) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 100 {
				t.Errorf("%d columns: %s", n, line)
			}
		}
	}
}

// TestOthers runs the demo on plugins that do not do what it claims.
func TestOthers(t *testing.T) {
	bin, err := sandbox.References()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run(&out, false, bin); !errors.Is(err, errFailed) || !strings.Contains(out.String(), "✗") {
		t.Errorf("got %v:\n%s", err, out.String())
	}
	if err := run(&out, false, t.TempDir()); err == nil {
		t.Error("no plugins, no error")
	}
}

// TestFailed: whatever does not hold is a cross, and decides the end.
func TestFailed(t *testing.T) {
	for name, fail := range map[string]func(s *screen){
		"claim":   func(s *screen) { s.claim(false, "one is two") },
		"equal":   func(s *screen) { s.equal("one", "1", "2") },
		"command": func(s *screen) { s.command(false, "host", "true", "nothing", "something") },
		"stop":    func(s *screen) { s.stop(errors.New("no way")) },
	} {
		var out bytes.Buffer
		s := &screen{w: &out, start: time.Now()}
		s.claim(true, "one is one")
		s.equal("one", "1", "1")
		if err := s.summary(); err != nil || strings.Contains(out.String(), "✗") {
			t.Fatalf("all is well: %v:\n%s", err, out.String())
		}
		fail(s)
		if err := s.summary(); err == nil || !strings.Contains(out.String(), "✗") {
			t.Errorf("%s: %v:\n%s", name, err, out.String())
		}
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
		got := wrap(test.text, 7)
		if strings.Join(got, "|") != strings.Join(test.want, "|") {
			t.Errorf("%q: %q, want %q", test.text, got, test.want)
		}
	}
}
