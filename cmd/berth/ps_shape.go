package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"text/template"

	"github.com/spf13/pflag"
)

// shape is how a command writes what it shows: a word, or a template of Go for each
// thing.
type shape struct {
	word string
	each *template.Template
}

// value is the flag. Without words it is a table or JSON.
func (s *shape) value(words ...string) pflag.Value {
	if len(words) == 0 {
		words = []string{formatTable, formatJSON}
	}
	one := oneOf(&s.word, words...)
	kind := strings.Join(words, "|") + "|template"
	return &value{kind: kind, get: one.String, set: func(text string) error {
		if !strings.Contains(text, "{{") {
			if err := one.Set(text); err != nil {
				return fmt.Errorf("%w, or a template such as '{{.Name}}'", err)
			}
			s.each = nil
			return nil
		}
		var err error
		s.each, err = template.New("--format").Funcs(template.FuncMap{"json": inline, "join": strings.Join}).Parse(text)
		return err
	}}
}

func (s *shape) table() bool { return s.each == nil && s.word == formatTable }

// inline is a value as JSON on one line, for templates.
func inline(v any) (string, error) {
	data, err := json.Marshal(v)
	return string(data), err
}

// writeShape writes all as JSON, or each by the template, or has table write them for
// people.
func writeShape[T any](w io.Writer, s *shape, all []T, table func(io.Writer)) error {
	switch {
	case s.each != nil:
		for _, v := range all {
			if err := s.each.Execute(w, v); err != nil {
				return usageError{err}
			}
			fmt.Fprintln(w)
		}
		return nil
	case s.word == formatJSON:
		return writeJSON(w, all)
	}
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	table(t)
	return t.Flush()
}
