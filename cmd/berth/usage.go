package main

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// arguments is a command's check of how many arguments it gets.
func arguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if check(c, args) == nil {
			return nil
		}
		given := "got no argument"
		if len(args) > 0 {
			given = "got " + strings.Trim(fmt.Sprintf("%q", args), "[]")
		}
		_, command, _ := strings.Cut(c.CommandPath(), " ")
		return usageError{fmt.Errorf("%s: %s\nusage: %s", command, given, c.UseLine())}
	}
}

// flagError says of a flag that is not there which one is meant, and of one without its
// value what is wanted.
func flagError(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var bare *pflag.ValueRequiredError
	switch {
	case errors.As(err, &unknown):
		why := err.Error()
		if near := nearFlags(c, unknown.GetSpecifiedName()); len(near) > 0 {
			why += fmt.Sprintf(": %s?", strings.Join(near, " or "))
		}
		err = fmt.Errorf("%s; '%s --help' shows all", why, c.CommandPath())
	case errors.As(err, &bare):
		want := bare.GetFlag().Value.Set("")
		if want == nil {
			want = fmt.Errorf("want %s", bare.GetFlag().Value.Type())
		}
		err = fmt.Errorf("%w: %w", err, want)
	}
	return usageError{err}
}

// nearFlags are the flags that a word may mean, by cobra's measure for commands.
func nearFlags(c *cobra.Command, word string) (all []string) {
	if len(word) < 2 {
		return nil
	}
	like := &cobra.Command{SuggestionsMinimumDistance: 2}
	c.Flags().VisitAll(func(f *pflag.Flag) {
		like.AddCommand(&cobra.Command{Use: f.Name, Hidden: f.Hidden, Run: func(*cobra.Command, []string) {}})
	})
	for _, name := range like.SuggestionsFor(word) {
		all = append(all, "--"+name)
	}
	return all
}

// noField is how text/template says that a value has no such field.
var noField = regexp.MustCompile(`can't evaluate field (\w+) in type (\S+)$`)

// templateError says of a field that a thing does not have which ones it has.
func templateError(err error, thing any) error {
	m := noField.FindStringSubmatch(err.Error())
	if t := reflect.TypeOf(thing); m != nil && t.String() == m[2] {
		err = fmt.Errorf("--format: .%s: there is no such field: want .%s", m[1], strings.Join(fields(t), ", ."))
	}
	return usageError{err}
}

// fields are what templates can name of a type: its fields, and its methods without
// arguments.
func fields(t reflect.Type) (all []string) {
	for m := range t.NumMethod() {
		if f := t.Method(m); f.Type.NumIn() == 1 && f.Type.NumOut() == 1 {
			all = append(all, f.Name)
		}
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() == reflect.Struct {
		for _, f := range reflect.VisibleFields(t) {
			if f.IsExported() && !f.Anonymous {
				all = append(all, f.Name)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
