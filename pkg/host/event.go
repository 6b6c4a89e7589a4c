package host

import (
	"fmt"
	"slices"
	"strings"
)

// Action is what was done, or could not be.
type Action string

// The actions.
const (
	Restored    Action = "put back"
	NotRestored Action = "NOT put back"
	Removed     Action = "removed"
	Surplus     Action = "would remove" // of a dry run
	Left        Action = "left"         // as it is, on purpose
)

// Event is one thing that was done, to what and why.
type Event struct {
	Action Action
	What   string
	Why    string // of several lines perhaps, for what could not be done
}

func (e Event) String() string {
	s := string(e.Action)
	if e.Action == Restored || e.Action == NotRestored {
		s += ":"
	}
	s += " " + e.What
	if e.Why != "" {
		s += ": " + e.Why
	}
	return s
}

// Summary is the first line of an error, which says most, and how many there are more.
func Summary(err error) string {
	first, rest, more := strings.Cut(err.Error(), "\n")
	if more {
		return fmt.Sprintf("%s, and %d more", first, strings.Count(rest, "\n")+1)
	}
	return first
}

// Some are the first five of many texts, sorted, each once.
func Some(all []string) string {
	all = slices.Compact(slices.Sorted(slices.Values(all)))
	const most = 5
	if more := len(all) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), more)
	}
	return strings.Join(all, ", ")
}
