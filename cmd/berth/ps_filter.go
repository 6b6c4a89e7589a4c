package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/inspect"
	"github.com/spf13/pflag"
)

// psFilter is the flag --filter of ps: for each key what is wanted.
type psFilter map[string][]string

// psKeys tell of each key whether an attachment has what is wanted.
func psKeys() map[string]func(*inspect.Attachment, string) bool {
	return map[string]func(*inspect.Attachment, string) bool{
		"network": func(v *inspect.Attachment, want string) bool { return v.Network == want },
		"id":      func(v *inspect.Attachment, want string) bool { return attach.IDStarts(v.Container, want) },
		"status":  func(v *inspect.Attachment, want string) bool { return containerState(v) == want },
		"name": func(v *inspect.Attachment, want string) bool {
			return strings.Contains(v.Name, want) || attach.IDStarts(v.Container, want) ||
				slices.ContainsFunc(v.Names, func(name string) bool { return strings.Contains(name, want) })
		},
	}
}

// Docker's states; those that no attachment can be in are taken, too.
const (
	stateRunning  = "running"
	stateExited   = "exited"
	stateRemoving = "removing"
)

// containerState is the state of an attachment's container in Docker's words, as far as it is to be seen
// here: whether its namespace is.
func containerState(v *inspect.Attachment) string {
	switch {
	case v.Removing:
		return stateRemoving
	case v.Namespace == inspect.NamespaceGone:
		return stateExited
	}
	return stateRunning
}

// value is the flag, one pair for each time that it is given.
func (f *psFilter) value() pflag.Value {
	states := []string{stateRunning, stateExited, stateRemoving, "created", "restarting", "paused", "dead"}
	return &value{kind: "key=value", get: func() string { return "" }, set: func(s string) error {
		key, want, _ := strings.Cut(s, "=")
		if want == "" || psKeys()[key] == nil || key == "status" && !slices.Contains(states, want) {
			return errors.New("want network=NAME, name=TEXT, id=START or status=running|exited|removing")
		}
		if *f == nil {
			*f = psFilter{}
		}
		(*f)[key] = append((*f)[key], want)
		return nil
	}}
}

// fits tells whether an attachment is wanted.
func (f psFilter) fits(v *inspect.Attachment) bool {
	for key, wanted := range f {
		has := psKeys()[key]
		if !slices.ContainsFunc(wanted, func(want string) bool { return has(v, want) }) {
			return false
		}
	}
	return true
}
