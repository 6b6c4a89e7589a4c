package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

const width = 98 // columns

// screen lays out the demo, and counts what was claimed. A method that draws a tick
// takes the comparison it stands for.
type screen struct {
	w      io.Writer
	colour bool
	start  time.Time

	steps, claims int
	failed        []string // claims that did not hold
}

// style is what stands between ESC[ and m (ECMA-48, SGR).
type style string

const (
	plain style = ""
	bold  style = "1"
	dim   style = "2"
	red   style = "31"
	green style = "32"
	blue  style = "1;34"
)

// isTerminal tells whether colours make sense on f (no-color.org).
func isTerminal(f *os.File) bool {
	if os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

func (s *screen) paint(st style, text string) string {
	if !s.colour || st == plain || text == "" {
		return text
	}
	return "\x1b[" + string(st) + "m" + text + "\x1b[0m"
}

func (s *screen) line(text string) { _, _ = fmt.Fprintln(s.w, strings.TrimRight(text, " ")) }

// step begins a numbered step.
func (s *screen) step(title, about string) {
	s.steps++
	s.line("")
	s.line(s.paint(blue, fmt.Sprintf(" %d  %s", s.steps, title)))
	s.line("    " + about)
	s.line("")
}

// quote shows lines of JSON or of a program as they are, dimmed.
func (s *screen) quote(lines ...string) {
	for _, l := range lines {
		for _, part := range wrap(l, width-4) {
			s.line("    " + s.paint(dim, part))
		}
	}
}

// heading is a line over a group of rows.
func (s *screen) heading(text string) { s.line("    " + text) }

func (s *screen) space() { s.line("") }

// claim is a tick or a cross before what is claimed.
func (s *screen) claim(holds bool, format string, args ...any) {
	s.claims++
	text := fmt.Sprintf(format, args...)
	mark := s.paint(green, "✓")
	if !holds {
		mark = s.paint(red, "✗")
		s.failed = append(s.failed, fmt.Sprintf("step %d: %s", s.steps, text))
	}
	for i, part := range wrap(text, width-6) {
		if i > 0 {
			mark = " "
		}
		s.line("    " + mark + " " + part)
	}
}

// equal is a claim that has a value; a cross says which one was wanted.
func (s *screen) equal(what, got, want string) {
	s.claims++
	s.row(got == want, what, pad(what, 47)+" ", got, want)
}

// command is a claim about what a program on a machine printed. shown is for people;
// want is what a cross names.
func (s *screen) command(holds bool, where, line, shown, want string) {
	s.claims++
	text := s.paint(bold, pad(where, 8)) + s.paint(dim, pad("$ "+line, 38)) + "  "
	s.row(holds, where+" "+line, text, shown, want)
}

func (s *screen) row(holds bool, name, left, got, want string) {
	if holds {
		s.line("    " + s.paint(green, "✓") + " " + left + got)
		return
	}
	s.failed = append(s.failed, fmt.Sprintf("step %d: %s: %s, want %s", s.steps, strings.Join(strings.Fields(name), " "), got, want))
	s.line("    " + s.paint(red, "✗") + " " + left)
	s.wrapped("      got  ", got)
	s.wrapped("      want ", want)
}

func (s *screen) wrapped(first, text string) {
	for _, part := range wrap(text, width-len(first)) {
		s.line(s.paint(red, first+part))
		first = strings.Repeat(" ", len(first))
	}
}

// stop says why a step could not go on.
func (s *screen) stop(err error) {
	s.failed = append(s.failed, fmt.Sprintf("step %d stopped: %s", s.steps, firstLine(err.Error())))
	s.line("")
	s.wrapped("    ✗ ", err.Error())
}

// summary is the last line. An error when something did not hold.
func (s *screen) summary() error {
	took := time.Since(s.start).Seconds()
	s.line("")
	if len(s.failed) == 0 {
		s.line(s.paint(green, " ✓") + s.paint(bold, fmt.Sprintf("  %d steps, %d claims checked, all as expected, in %.1f s", s.steps, s.claims, took)))
		return nil
	}
	for _, f := range s.failed {
		s.wrapped(" ✗  ", f)
	}
	s.line(s.paint(red, " ✗") + s.paint(bold, fmt.Sprintf("  %d steps, %d claims checked, %d not as expected, in %.1f s", s.steps, s.claims, len(s.failed), took)))
	return errFailed
}

// pad fills up with blanks to n columns.
func pad(text string, n int) string {
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

// wrap breaks lines at blanks so that none but an overlong word is wider than n. A
// line keeps its indentation, and so do the parts that it is broken into.
func wrap(text string, n int) []string {
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

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndex(text, "\n")+1:]
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
