package attach

import "strings"

const (
	wholeID = 64 // digits of an ID that a runtime makes
	shortID = 12 // of them that Docker shows, and names a container by
)

// RuntimeID is the ID that a container has at its runtime: that of CNI, without the
// namespace that nerdctl puts in front ("default-0f3a...").
func RuntimeID(container string) string {
	if at := len(container) - wholeID; at > 0 && container[at-1] == '-' && strings.Trim(container[at:], "0123456789abcdef") == "" {
		return container[at:]
	}
	return container
}

// ShortID is the start of that ID, as Docker shows it.
func ShortID(container string) string {
	id := RuntimeID(container)
	return id[:min(shortID, len(id))]
}

// IDStarts tells whether the start of an ID means the container, with the namespace that
// nerdctl puts in front, or without.
func IDStarts(container, start string) bool {
	return strings.HasPrefix(container, start) || strings.HasPrefix(RuntimeID(container), start)
}
