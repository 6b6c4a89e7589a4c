package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"
	"text/tabwriter"
	"text/template"

	"github.com/spf13/pflag"
)

// shape is how a command writes what it shows: a word, or a template of Go for each
// thing, in a table with a head if the template begins with "table ", as Docker has it.
type shape struct {
	word string
	each *template.Template
	head string // of the table; empty: none

	thing string // what the ID of a thing is that of: NETWORK, CONTAINER
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
		text = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(text)
		columns, tabular := strings.CutPrefix(text, formatTable+" ")
		if s.head = ""; tabular {
			s.head = s.headOf(columns)
		}
		var err error
		s.each, err = template.New("--format").Funcs(functions).Parse(columns)
		return err
	}}
}

func (s *shape) table() bool { return s.each == nil && s.word == formatTable }

// functions are those of templates, Docker's.
var functions = template.FuncMap{
	"json": inline, "join": join, "split": strings.Split, "lower": strings.ToLower, "upper": strings.ToUpper,
	"println": fmt.Sprintln,
	"title": func(s string) string {
		return strings.ToUpper(s[:min(1, len(s))]) + s[min(1, len(s)):]
	},
	"pad": func(s string, before, after int) string {
		return strings.Repeat(" ", before) + s + strings.Repeat(" ", after)
	},
	"truncate": func(s string, most int) string { return s[:max(0, min(most, len(s)))] },
}

// join is strings.Join of values of any type.
func join(all any, between string) (string, error) {
	v := reflect.ValueOf(all)
	if v.Kind() != reflect.Slice {
		return "", fmt.Errorf("join: want a list, not %T", all)
	}
	words := make([]string, v.Len())
	for i := range words {
		words[i] = fmt.Sprint(v.Index(i).Interface())
	}
	return strings.Join(words, between), nil
}

// inline is a value as JSON on one line, for templates.
func inline(v any) (string, error) {
	var line bytes.Buffer
	e := json.NewEncoder(&line)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return strings.TrimSuffix(line.String(), "\n"), err
}

var (
	firstField = regexp.MustCompile(`\.([A-Z]\w*)`)
	labelField = regexp.MustCompile(`\.Label "([^"]*)"`)
	boundary   = regexp.MustCompile(`([a-z])([A-Z])`)
)

// headOf names the columns of a template after their fields: CREATED AT of .CreatedAt. A
// column of one label is named after that.
func (s *shape) headOf(columns string) string {
	var words []string
	for column := range strings.SplitSeq(columns, "\t") {
		word := ""
		if m := labelField.FindStringSubmatch(column); m != nil {
			word = m[1]
		} else if m := firstField.FindStringSubmatch(column); m != nil {
			word = strings.ToUpper(boundary.ReplaceAllString(m[1], "$1 $2"))
		}
		if word == "ID" {
			word = s.thing + " ID"
		}
		words = append(words, word)
	}
	return strings.Join(words, "\t")
}

// writeShape writes all as JSON, a line each, or each by the template, or has table write
// them for people.
func writeShape[T any](w io.Writer, s *shape, all []T, table func(io.Writer)) error {
	switch {
	case s.each != nil:
		return writeTemplate(w, s, all)
	case s.word == formatJSON:
		for _, v := range all {
			line, err := inline(v)
			if err != nil {
				return err
			}
			fmt.Fprintln(w, line)
		}
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	table(t)
	return t.Flush()
}

// writeList is writeShape of what Docker inspects: one list, on one line if JSON was asked
// for.
func writeList[T any](w io.Writer, s *shape, all []T) error {
	switch {
	case s.each != nil:
		return writeTemplate(w, s, all)
	case s.word == formatJSON:
		line, err := inline(all)
		fmt.Fprintln(w, line)
		return err
	}
	return writeJSON(w, all)
}

// writeTemplate writes each by the template.
func writeTemplate[T any](w io.Writer, s *shape, all []T) error {
	flush := func() error { return nil }
	if s.head != "" {
		const narrowest, between = 10, 3 // characters, as Docker has them
		t := tabwriter.NewWriter(w, narrowest, 1, between, ' ', 0)
		w, flush = t, t.Flush
		fmt.Fprintln(w, s.head)
	}
	for _, v := range all {
		if err := s.each.Execute(w, v); err != nil {
			return templateError(err, v)
		}
		fmt.Fprintln(w)
	}
	return flush()
}
