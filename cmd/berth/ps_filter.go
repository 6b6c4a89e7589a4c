package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/inspect"
	"github.com/spf13/pflag"
)

// psFilter is the flag --filter of ps: for each key what is wanted.
type psFilter struct{ network, name []string }

// value is the flag, one pair for each time that it is given.
func (f *psFilter) value() pflag.Value {
	return &value{kind: "key=value", get: func() string { return "" }, set: f.set}
}

func (f *psFilter) set(s string) error {
	key, want, ok := strings.Cut(s, "=")
	switch {
	case ok && want != "" && key == "network":
		f.network = append(f.network, want)
	case ok && want != "" && key == "name":
		f.name = append(f.name, want)
	default:
		return errors.New("want network=NAME or name=TEXT")
	}
	return nil
}

// fits tells whether an attachment is wanted.
func (f *psFilter) fits(v *inspect.Attachment) bool {
	if len(f.network) > 0 && !slices.Contains(f.network, v.Network) {
		return false
	}
	return len(f.name) == 0 || slices.ContainsFunc(f.name, func(text string) bool {
		return strings.Contains(v.Name, text) || strings.HasPrefix(v.Container, text) ||
			slices.ContainsFunc(v.Names, func(name string) bool { return strings.Contains(name, text) })
	})
}
