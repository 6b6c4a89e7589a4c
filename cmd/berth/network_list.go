package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func (p *program) networkListCommand() *cobra.Command {
	var filter networkFilter
	var how shape
	var quiet bool
	c := &cobra.Command{
		Use:     "ls [flags]",
		Aliases: []string{"list"},
		Short:   "List the networks",
		Long: `List the networks of this host, of all authors, and those of the store where one is
named. A store that does not answer is a warning.

Filters of one key are alternatives, those of several keys must all fit:
  name=TEXT                  with this text in its name
  driver=NAME                bridge, macvlan, vxlan-overlay, host, none, or another's
  label=KEY, label=KEY=VALUE with this label
  dangling=true|false        without containers on this host, or with some

A template of Go is written for each network, with the fields .Name .Driver .Scope
.Subnets .Labels .Created .Internal .Isolate .NoICC .GatewayModeIPv4 .GatewayModeIPv6 .MTU
.Containers.

` + exitCodes,
		Example: `  berth network ls
  berth network ls --filter driver=bridge --filter label=team=web
  berth network ls --format '{{.Name}} {{len .Containers}}'
  berth network ls --format json | jq -r '.[].name'`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			n, err := p.networks().All(c.Context())
			if err != nil {
				return err
			}
			all := slices.DeleteFunc(shown(n), func(v shownNetwork) bool { return !filter.fits(v.line()) })
			if quiet {
				for _, v := range all {
					fmt.Fprintln(p.out, v.line().name)
				}
				return nil
			}
			return writeShape(p.out, &how, all, func(w io.Writer) {
				row(w, "NAME", "DRIVER", "SUBNETS", "ON", "CONTAINERS", "OPTIONS")
				for _, v := range all {
					l := v.line()
					row(w, l.name, l.driver, list(l.subnets), l.on, l.containers, list(l.options))
				}
			})
		},
	}
	f := c.Flags()
	f.SortFlags = false
	addFlag(f, filter.value(), "filter", "only those that fit: name=, driver=, label=, dangling=")
	addFlag(f, how.value(), "format", "how to write")
	addShort(f, onOff(&quiet), "quiet", "q", "the names only")
	p.settings.storeFlags(f)
	return c
}

// networkFilter is the flag --filter of ls: for each key what is wanted.
type networkFilter struct{ name, driver, label, dangling []string }

func (n *networkFilter) value() *value {
	return &value{kind: "key=value", get: func() string { return "" }, set: func(s string) error {
		key, want, _ := strings.Cut(s, "=")
		to := map[string]*[]string{"name": &n.name, "driver": &n.driver, "label": &n.label, "dangling": &n.dangling}[key]
		if to == nil || want == "" || key == "dangling" && want != "true" && want != "false" {
			return errors.New("want name=TEXT, driver=NAME, label=KEY, label=KEY=VALUE or dangling=true|false")
		}
		*to = append(*to, want)
		return nil
	}}
}

func (n *networkFilter) fits(l *networkLine) bool {
	anyOf := func(wanted []string, fits func(string) bool) bool {
		return len(wanted) == 0 || slices.ContainsFunc(wanted, fits)
	}
	return anyOf(n.name, func(s string) bool { return strings.Contains(l.name, s) }) &&
		anyOf(n.driver, func(s string) bool { return l.driver == s }) &&
		anyOf(n.label, func(s string) bool { return labelFits(l.labels, s) }) &&
		anyOf(n.dangling, func(s string) bool { return (s == "true") == (l.containers == 0) })
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
