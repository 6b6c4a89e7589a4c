package main

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/berth-cni/berth/integration/sandbox"
	"github.com/berth-cni/berth/integration/screen"
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
		if err := run(&out, colour, bin); err != nil {
			t.Errorf("%v:\n%s", err, out.String())
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
	if err := run(&out, false, bin); !errors.Is(err, screen.ErrFailed) || !strings.Contains(out.String(), "✗") {
		t.Errorf("got %v:\n%s", err, out.String())
	}
	if err := run(&out, false, t.TempDir()); err == nil {
		t.Error("no plugins, no error")
	}
}
