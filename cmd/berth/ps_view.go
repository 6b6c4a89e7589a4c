package main

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/inspect"
)

// psLine is an attachment as templates and JSON show it: with the fields that 'docker ps' has
// for templates, as far as there is something for them here.
type psLine struct {
	*inspect.Attachment
	whole bool // the ID
}

// listOf is written as in the table, and is a list for JSON and for join, range and index.
type listOf[T any] []T

func (w listOf[T]) String() string {
	if len(w) == 0 {
		return ""
	}
	return list(w)
}

// Names are those on the network.
func (v psLine) Names() listOf[string] { return v.Attachment.Names }

// Ports are what the host publishes.
func (v psLine) Ports() listOf[inspect.Port] { return v.Attachment.Ports }

// Addresses are those in the container.
func (v psLine) Addresses() listOf[netip.Addr] { return v.Attachment.Addresses }

// ID is that of the container.
func (v psLine) ID() string { return shownID(v.Container, v.whole) }

// State is the container's.
func (v psLine) State() string { return containerState(v.Attachment) }

// Status is the state, and of one that runs since when.
func (v psLine) Status() string {
	switch v.State() {
	case stateRemoving:
		return "Removal In Progress"
	case stateExited:
		return "Exited"
	}
	return "Up " + v.Age
}

// CreatedAt is when the attachment was made.
func (v psLine) CreatedAt() string { return v.Created.UTC().String() }

// RunningFor is how long ago that was.
func (v psLine) RunningFor() string { return v.Age + " ago" }

// Networks is the one of the attachment.
func (v psLine) Networks() string { return v.Network }

func shownID(id string, whole bool) string {
	if whole {
		return id
	}
	return short12(attach.RuntimeID(id))
}

// last are the n attachments that were made last, in the order in which they were.
func last(all []inspect.Attachment, n int) []inspect.Attachment {
	if n < 0 || n >= len(all) {
		return all
	}
	latest := slices.Clone(all)
	slices.SortStableFunc(latest, func(a, b inspect.Attachment) int { return cmp.Compare(b.Created.UnixNano(), a.Created.UnixNano()) })
	latest = latest[:n]
	return slices.DeleteFunc(slices.Clone(all), func(a inspect.Attachment) bool {
		return !slices.ContainsFunc(latest, func(l inspect.Attachment) bool {
			return l.Container == a.Container && l.Network == a.Network && l.Interface == a.Interface
		})
	})
}

// cells are what a table shows of an attachment.
func cells(v *inspect.Attachment, wide bool) []any {
	since := v.Age
	if v.Removing {
		since += " (removing)"
	}
	cells := []any{host.Printable(v.Name), v.Network, v.Interface, list(v.Addresses), list(v.Ports), list(v.Names), since}
	if wide {
		cells = append(cells, orDash(v.MAC), orDash(v.HostInterface), v.Plugin, host.Printable(v.Netns)+" ("+v.Namespace+")")
	}
	return cells
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
