package durations

import (
	"fmt"
	"strconv"
	"strings"
)

// The names that plugins count by: a verb's own is that of what succeeded.

// Phase names a part of a verb.
func Phase(verb, phase string) string { return verb + " " + phase }

// Failed names a verb's errors of a code.
func Failed(verb string, code uint) string { return fmt.Sprintf("%s !%d", verb, code) }

// Parse is the other way: phase and code are empty when the name has none.
func Parse(name string) (verb, phase, code string) {
	verb, rest, _ := strings.Cut(name, " ")
	if code, ok := strings.CutPrefix(rest, "!"); ok {
		if _, err := strconv.ParseUint(code, 10, 32); err == nil {
			return verb, "", code
		}
	}
	return verb, rest, ""
}
