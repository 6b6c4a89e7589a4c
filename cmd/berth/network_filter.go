package main

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/network"
)

// networkFilter is the flag --filter of ls: for each key what is wanted.
type networkFilter map[string][]string

// Words that filters take for one another: Docker's and ours.
var (
	scopes  = map[string]string{"local": network.ScopeLocal, "host": network.ScopeLocal, "global": network.ScopeGlobal, "swarm": network.ScopeGlobal, "hosts": network.ScopeGlobal}
	drivers = map[string]string{dockersOverlay: driverOverlay, dockersNull: driverNone}
)

func (n *networkFilter) value() *value {
	return &value{kind: "key=value", get: func() string { return "" }, set: func(s string) error {
		key, want, _ := strings.Cut(s, "=")
		oneOf := func(words ...string) bool { return slices.Contains(words, want) }
		ok := want != ""
		switch key {
		case "name", "driver", "label", "id":
		case "dangling":
			ok = oneOf("true", "false", "1", "0")
		case "type":
			ok = oneOf("custom", "builtin")
		case "scope":
			ok = scopes[want] != ""
		default:
			ok = false
		}
		if !ok {
			return errors.New("want name=TEXT, id=TEXT, driver=NAME, scope=local|global, type=custom|builtin, label=KEY, label=KEY=VALUE or dangling=true|false")
		}
		if *n == nil {
			*n = networkFilter{}
		}
		(*n)[key] = append((*n)[key], want)
		return nil
	}}
}

// fits tells whether a network is wanted.
func (n networkFilter) fits(l *networkLine) bool {
	fits := map[string]func(string) bool{
		"name":     func(s string) bool { return strings.Contains(l.name, s) },
		"id":       func(s string) bool { return strings.Contains(l.id, s) },
		"driver":   func(s string) bool { return l.driver == s || l.driver == drivers[s] },
		"scope":    func(s string) bool { return l.scope == scopes[s] },
		"type":     func(s string) bool { return (s == "builtin") == l.predefined },
		"label":    func(s string) bool { return labelFits(l.labels, s) },
		"dangling": func(s string) bool { return (s == "true" || s == "1") == (l.containers == 0) },
	}
	for key, wanted := range n {
		if !slices.ContainsFunc(wanted, fits[key]) {
			return false
		}
	}
	return true
}

// pruneFilter is the flag --filter of prune. All that is given must fit.
type pruneFilter struct {
	until         time.Time // made before
	label, labels []string  // wanted, and not wanted
}

func (f *pruneFilter) value(now func() time.Time) *value {
	return &value{kind: "key=value", get: func() string { return "" }, set: func(s string) error {
		key, want, _ := strings.Cut(s, "=")
		switch {
		case want == "":
		case key == "until":
			if d, err := time.ParseDuration(want); err == nil && d >= 0 {
				f.until = now().Add(-d)
				return nil
			}
			t, err := time.Parse(time.RFC3339, want)
			if err == nil {
				f.until = t
				return nil
			}
		case key == "label":
			f.label = append(f.label, want)
			return nil
		case key == "label!":
			f.labels = append(f.labels, want)
			return nil
		}
		return errors.New("want until=24h, until=2026-01-02T15:04:05Z, label=KEY, label=KEY=VALUE, label!=KEY or label!=KEY=VALUE")
	}}
}

func (f *pruneFilter) fits(created time.Time, labels map[string]string) bool {
	return (f.until.IsZero() || created.Before(f.until)) &&
		!slices.ContainsFunc(f.label, func(s string) bool { return !labelFits(labels, s) }) &&
		!slices.ContainsFunc(f.labels, func(s string) bool { return labelFits(labels, s) })
}
