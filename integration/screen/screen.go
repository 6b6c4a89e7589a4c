// Package screen lays out a demo on a terminal, counts what it claims, and ends it when
// it is interrupted or hangs.
package screen

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Width is that of a line, in columns.
const Width = 98

// ErrFailed is what the screen has shown already.
var ErrFailed = errors.New("not everything is as expected")

// Screen lays out a demo, and counts what was claimed. A method that draws a tick
// takes the comparison it stands for. It is for one goroutine at a time.
type Screen struct {
	w      io.Writer
	colour bool
	start  time.Time

	steps, claims int
	failed        []string // claims that did not hold
	slow          int      // of those about time, which a busy machine may spoil
}

// New makes a screen, with colours or not. The time that the demo takes counts from now.
func New(w io.Writer, colour bool) *Screen { return &Screen{w: w, colour: colour, start: time.Now()} }

// Style is what stands between ESC[ and m (ECMA-48, SGR).
type Style string

// Styles. Ticks are green and crosses red.
const (
	Bold Style = "1"
	Dim  Style = "2"

	plain Style = ""
	red   Style = "31"
	green Style = "32"
	blue  Style = "1;34"
	amber Style = "33"
)

// IsTerminal tells whether colours make sense on f (no-color.org).
func IsTerminal(f *os.File) bool {
	if os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// Paint gives a text a style, where there are colours.
func (s *Screen) Paint(st Style, text string) string {
	if !s.colour || st == plain || text == "" {
		return text
	}
	return "\x1b[" + string(st) + "m" + text + "\x1b[0m"
}

// Line shows a line as it is.
func (s *Screen) Line(text string) { _, _ = fmt.Fprintln(s.w, strings.TrimRight(text, " ")) }

// Step begins a numbered step.
func (s *Screen) Step(title, about string) {
	s.steps++
	s.Line("")
	s.Line(s.Paint(blue, fmt.Sprintf(" %d  %s", s.steps, title)))
	s.Line("    " + about)
	s.Line("")
}

// Quote shows lines of JSON or of a program as they are, dimmed.
func (s *Screen) Quote(lines ...string) {
	for _, l := range lines {
		for _, part := range Wrap(l, Width-4) {
			s.Line("    " + s.Paint(Dim, part))
		}
	}
}

// Heading is a line over a group of rows.
func (s *Screen) Heading(text string) { s.Line("    " + text) }

// Space shows an empty line.
func (s *Screen) Space() { s.Line("") }

// Claim is a tick or a cross before what is claimed.
func (s *Screen) Claim(holds bool, format string, args ...any) {
	s.claims++
	text := fmt.Sprintf(format, args...)
	mark := s.Paint(green, "✓")
	if !holds {
		mark = s.Paint(red, "✗")
		s.failed = append(s.failed, fmt.Sprintf("step %d: %s", s.steps, text))
	}
	s.marked(mark, text)
}

// Fast is a claim about speed or time. One that does not hold is a warning: the machine
// may have had other work, and the demo has not failed.
func (s *Screen) Fast(holds bool, format string, args ...any) {
	s.claims++
	mark, text := s.Paint(green, "✓"), fmt.Sprintf(format, args...)
	if !holds {
		s.slow++
		mark, text = s.Paint(amber, "!"), text+": not so here. Is the machine busy?"
	}
	s.marked(mark, text)
}

func (s *Screen) marked(mark, text string) {
	for i, part := range Wrap(text, Width-6) {
		if i > 0 {
			mark = " "
		}
		s.Line("    " + mark + " " + part)
	}
}

// Equal is a claim that has a value; a cross says which one was wanted.
func (s *Screen) Equal(what, got, want string) {
	s.claims++
	s.row(got == want, what, Pad(what, 47)+" ", got, want)
}

// Command is a claim about what a program on a machine printed. shown is for people;
// want is what a cross names.
func (s *Screen) Command(holds bool, where, line, shown, want string) {
	s.claims++
	text := s.Paint(Bold, Pad(where, 8)) + s.Paint(Dim, Pad("$ "+line, 38)) + "  "
	s.row(holds, where+" "+line, text, shown, want)
}

func (s *Screen) row(holds bool, name, left, got, want string) {
	if holds {
		s.Line("    " + s.Paint(green, "✓") + " " + left + got)
		return
	}
	s.failed = append(s.failed, fmt.Sprintf("step %d: %s: %s, want %s", s.steps, strings.Join(strings.Fields(name), " "), got, want))
	s.Line("    " + s.Paint(red, "✗") + " " + left)
	s.wrapped("      got  ", got)
	s.wrapped("      want ", want)
}

func (s *Screen) wrapped(first, text string) {
	for _, part := range Wrap(text, Width-len(first)) {
		s.Line(s.Paint(red, first+part))
		first = strings.Repeat(" ", len(first))
	}
}

// Stop says why a step could not go on.
func (s *Screen) Stop(err error) {
	s.failed = append(s.failed, fmt.Sprintf("step %d stopped: %s", s.steps, FirstLine(err.Error())))
	s.Line("")
	s.wrapped("    ✗ ", err.Error())
}

// Summary is the last line. An error when something did not hold.
func (s *Screen) Summary() error {
	took := time.Since(s.start).Seconds()
	s.Line("")
	if len(s.failed) == 0 {
		outcome := "all as expected"
		if s.slow > 0 {
			outcome = fmt.Sprintf("all as expected but %d about speed", s.slow)
		}
		s.Line(s.Paint(green, " ✓") + s.Paint(Bold, fmt.Sprintf("  %d steps, %d claims checked, %s, in %.1f s", s.steps, s.claims, outcome, took)))
		return nil
	}
	for _, f := range s.failed {
		s.wrapped(" ✗  ", f)
	}
	s.Line(s.Paint(red, " ✗") + s.Paint(Bold, fmt.Sprintf("  %d steps, %d claims checked, %d not as expected, in %.1f s", s.steps, s.claims, len(s.failed), took)))
	return ErrFailed
}

// Pad fills up with blanks to n columns.
func Pad(text string, n int) string {
	return text + strings.Repeat(" ", max(0, n-columns(text)))
}

// columns counts what a terminal shows: not the colours.
func columns(text string) int {
	n := utf8.RuneCountInString(text)
	for part := range strings.SplitSeq(text, "\x1b") {
		if end := strings.IndexByte(part, 'm'); end >= 0 && strings.HasPrefix(part, "[") {
			n -= end + 2
		}
	}
	return n
}

// Wrap breaks lines at blanks so that none but an overlong word is wider than n. A
// Line keeps its indentation, and so do the parts that it is broken into.
func Wrap(text string, n int) []string {
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		indent := line[:len(line)-len(strings.TrimLeft(line, " "))]
		for columns(line) > n {
			cut := strings.LastIndex(string([]rune(line)[:n+1]), " ")
			if cut <= len(indent) {
				break
			}
			out = append(out, line[:cut])
			line = indent + line[cut+1:]
		}
		out = append(out, line)
	}
	return out
}

// LastLine is a text's last line that is not empty.
func LastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndex(text, "\n")+1:]
}

// FirstLine is a text up to the first line break.
func FirstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
