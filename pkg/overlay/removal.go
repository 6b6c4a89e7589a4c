package overlay

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Removal is the order to remove a network or a node. That a store does not have one
// any more is none: it may be empty, or older than what hosts remember.
type Removal struct {
	// Network or Node is the name, the other is empty.
	Network string `json:"network,omitempty"`
	Node    string `json:"node,omitempty"`
	// ID is the network's ID, or the node's token: another one of the name that came
	// later is not meant.
	ID     string    `json:"id"`
	By     string    `json:"by"` // a user and a host, as they say of themselves
	At     time.Time `json:"at"`
	Forced bool      `json:"forced,omitempty"`
}

// RemovalKey names a removal: a network's by its ID, a node's by name and token.
type RemovalKey struct{ Node, ID string }

// Key returns what the removal is of.
func (r Removal) Key() RemovalKey { return RemovalKey{r.Node, r.ID} }

// Bounds of removals: after that age, or when there are more, the oldest are
// forgotten. A host that was away for longer keeps what was removed, and says so.
const (
	RemovalAge   = 180 * 24 * time.Hour
	MostRemovals = 1000
)

// Validate returns all that is wrong with the removal.
func (r *Removal) Validate() error {
	var errs []error
	name := r.Network + r.Node
	if (r.Network == "") == (r.Node == "") {
		errs = append(errs, errors.New("network, node: want one of them"))
	} else if err := ValidName(name); err != nil {
		errs = append(errs, fmt.Errorf("network, node: %q: %w", name, err))
	}
	if r.ID == "" || len(r.ID) > maxName {
		errs = append(errs, fmt.Errorf("id: want 1 to %d bytes, got %d", maxName, len(r.ID)))
	}
	if len(r.By) > 2*maxName {
		errs = append(errs, fmt.Errorf("by: want %d bytes at most, got %d", 2*maxName, len(r.By)))
	}
	return errors.Join(errs...)
}

// What is "network blue" or "node host-a".
func (r Removal) What() string {
	if r.Node != "" {
		return "node " + r.Node
	}
	return "network " + r.Network
}

// String is "removed by root@host-a at 2026-01-02T15:04:05Z".
func (r Removal) String() string {
	text := "removed"
	if r.Forced {
		text = "removed with force"
	}
	if r.By != "" {
		text += fmt.Sprintf(" by %q", r.By)
	}
	return text + " at " + r.At.UTC().Format(time.RFC3339)
}

// OldRemovals are those beyond the bounds of age and number, oldest first.
func OldRemovals(all []Removal, now time.Time) []Removal {
	all = slices.SortedFunc(slices.Values(all), func(a, b Removal) int { return a.At.Compare(b.At) })
	old := max(0, len(all)-MostRemovals)
	for old < len(all) && now.Sub(all[old].At) > RemovalAge {
		old++
	}
	return all[:old]
}

// NetworkRemoved returns the order to remove the network with the ID, if there is one.
func (s *State) NetworkRemoved(id string) (Removal, bool) {
	r, ok := s.Removed[RemovalKey{"", id}]
	return r, ok
}

// NodeRemoved returns the order to remove the node that had the token, if there is one.
func (s *State) NodeRemoved(name, token string) (Removal, bool) {
	r, ok := s.Removed[RemovalKey{name, token}]
	return r, ok
}

// History says of which history of a store a state is.
type History struct {
	// Incarnation is a random word that the store was given when it was first used.
	Incarnation string `json:"incarnation"`
	Cluster     uint64 `json:"cluster,string"` // etcd's ID of it
	Revision    int64  `json:"revision"`
}

// Continues returns nil when what was seen before, at the revision was.Revision, may be
// a part of the history; an error that says why it cannot be.
func (h History) Continues(was History) error {
	switch {
	case was == (History{}):
		return nil
	case h.Incarnation != was.Incarnation && was.Incarnation != "":
		return fmt.Errorf("the store is another one: its incarnation is %q, and was %q", h.Incarnation, was.Incarnation)
	case h.Cluster != was.Cluster:
		return fmt.Errorf("the store is another cluster, %x, and was %x: a backup was restored", h.Cluster, was.Cluster)
	case h.Revision < was.Revision:
		return fmt.Errorf("the store went backwards: it is at revision %d, and was at %d", h.Revision, was.Revision)
	}
	return nil
}

// follow brings the history up to date with an update's.
func (h *History) follow(u History) {
	if u.Incarnation != "" {
		*h = u
	} else {
		h.Revision = max(h.Revision, u.Revision)
	}
}

// Missed is what a node says while its store does not have what the node remembers, and
// not because of a [Removal].
type Missed struct {
	Node  string `json:"node"`
	Token string `json:"token"` // the node's
	// Networks are the IDs of those that are missed, in order.
	Networks []string `json:"networks"`
}

// Validate returns all that is wrong with it.
func (m *Missed) Validate() error {
	if err := ValidName(m.Node); err != nil {
		return fmt.Errorf("node: %q: %w", m.Node, err)
	}
	return nil
}
