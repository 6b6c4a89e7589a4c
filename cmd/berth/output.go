package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/pflag"
)

// format is how a command writes what it shows.
type format struct{ word string }

const (
	formatTable = "table"
	formatJSON  = "json"
	formatAuto  = "auto" // a table at a terminal, else JSON
)

func (f *format) flag(flags *pflag.FlagSet) {
	addFlag(flags, oneOf(&f.word, formatTable, formatJSON), "format", "how to write")
}

// write writes v as JSON, or has table write it for people.
func (f *format) write(w io.Writer, v any, table func(io.Writer)) error {
	if f.word == formatJSON {
		return writeJSON(w, v)
	}
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	table(t)
	return t.Flush()
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// row writes a line of a table.
func row(w io.Writer, cells ...any) {
	words := make([]string, len(cells))
	for i, c := range cells {
		words[i] = fmt.Sprint(c)
	}
	fmt.Fprintln(w, strings.Join(words, "\t"))
}

// list writes values one after the other.
func list[T any](all []T) string {
	if len(all) == 0 {
		return "-"
	}
	words := make([]string, len(all))
	for i, v := range all {
		words[i] = fmt.Sprint(v)
	}
	return strings.Join(words, ",")
}
