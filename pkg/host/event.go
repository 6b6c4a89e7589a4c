package host

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
