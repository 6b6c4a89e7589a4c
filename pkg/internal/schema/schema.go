// Package schema has the keys of a plugin's configuration: those that Berth knows, with
// what each takes, and those that mean something to others. CNI has plugins ignore what
// they do not know, and so does Berth with what means nothing to anybody. A word that
// somebody wrote in the belief that it does something is worth a warning, and an error where
// its absence leaves something open.
package schema

import (
	"fmt"
	"strings"
)

// Kind is what a key takes.
type Kind uint8

// The kinds.
const (
	Any         Kind = iota
	Bool             // true or false
	String           // text
	Number           // a whole number
	Strings          // a list of strings
	Object           // an object
	Objects          // a list of objects
	ObjectLists      // a list of lists of objects
)

// Key is one of an object.
type Key struct {
	Name string
	Kind Kind
	Of   *Table // the keys of the object, or of those in the list; nil: any
	// Guards says that without the key something is open: what comes near it is an error.
	Guards bool
}

// Foreign is a key that means something elsewhere.
type Foreign struct {
	Name  string
	Write string // what is to be written here
	Opens bool   // left out, something stays open that it would close
}

// Table are the keys of one object.
type Table struct {
	Keys    [][]Key // in groups that several tables have
	Foreign [][]Foreign
	// Runtime says that programs write the object, not people: capitals do not count.
	Runtime bool
}

// Finding is what is to be said of one key.
type Finding struct {
	Key   string // its path
	Value string // as it is written, the first part of it
	Text  string
	Opens bool // an error
}

func (f Finding) String() string { return fmt.Sprintf("%s: %s: %s", f.Key, f.Value, f.Text) }

// Look compares an object with the table. path is the object's own, empty for the whole
// configuration. The object has been decoded.
func (t *Table) Look(path string, raw []byte) []Finding {
	var found []Finding
	seen := make([]string, 0, 32)
	members(raw, func(name string, value []byte) {
		key := join(path, name)
		k, exact := t.find(name)
		switch {
		case k == nil:
			if f, ok := t.unknown(name, value); ok {
				f.Key, f.Value = key, excerpt(value)
				found = append(found, f)
			}
			return
		case contains(seen, k.Name):
			found = append(found, Finding{Key: key, Value: excerpt(value), Text: "is there twice: the last one counts"})
		case !exact && !t.Runtime:
			found = append(found, Finding{Key: key, Value: excerpt(value), Text: fmt.Sprintf("is read as %s: write it so", k.Name)})
		}
		seen = append(seen, k.Name)
		each(k.Kind, k.Of, key, value, func(path string, object []byte) { found = append(found, k.Of.Look(path, object)...) })
	})
	return found
}

// each calls fn with the objects in the value of a key, if their keys are known.
func each(kind Kind, of *Table, path string, value []byte, fn func(path string, object []byte)) {
	switch {
	case of == nil:
	case kind == Object:
		fn(path, value)
	case kind == Objects:
		elements(value, func(n int, v []byte) { fn(fmt.Sprintf("%s[%d]", path, n), v) })
	case kind == ObjectLists:
		elements(value, func(n int, v []byte) { each(Objects, of, fmt.Sprintf("%s[%d]", path, n), v, fn) })
	}
}

// find returns the key of that name, as encoding/json finds it: also with other capitals.
func (t *Table) find(name string) (k *Key, exact bool) {
	for _, group := range t.Keys {
		for i := range group {
			if group[i].Name == name {
				return &group[i], true
			}
		}
	}
	for _, group := range t.Keys {
		for i := range group {
			if strings.EqualFold(group[i].Name, name) {
				return &group[i], false
			}
		}
	}
	return nil, false
}

// unknown says what there is to say of a key that is not in the table.
func (t *Table) unknown(name string, value []byte) (Finding, bool) {
	plain := squash(name)
	for _, group := range t.Foreign {
		for _, f := range group {
			if squash(f.Name) == plain {
				return Finding{Text: "does nothing here: " + f.Write, Opens: f.Opens}, !IsZero(value)
			}
		}
	}
	if custom(name) {
		return Finding{}, false
	}
	if k := t.near(plain); k != nil {
		return Finding{Text: fmt.Sprintf("is not known, did you mean %s?", k.Name), Opens: k.Guards && !IsZero(value)}, true
	}
	return Finding{}, false
}

// custom tells whether a name is one that people and programs make for themselves.
func custom(name string) bool {
	return name == "" || strings.ContainsAny(name, "./:$") || strings.ContainsAny(name[:1], "_#@") || strings.HasPrefix(strings.ToLower(name), "x-") ||
		strings.Contains(strings.ToLower(name), "comment")
}

// IsZero tells whether a value asks for nothing, as that of a key that is not there: null,
// false, 0, an empty string, and a list or an object of nothing else.
func IsZero(value []byte) bool {
	zero := true
	switch {
	case is(value, '{'):
		members(value, func(_ string, v []byte) { zero = zero && IsZero(v) })
		return zero
	case is(value, '['):
		elements(value, func(_ int, v []byte) { zero = zero && IsZero(v) })
		return zero
	}
	switch strings.TrimSpace(string(value)) {
	case "", "null", "false", "0", `""`:
		return true
	}
	return false
}

func contains(all []string, s string) bool {
	for _, x := range all {
		if x == s {
			return true
		}
	}
	return false
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// excerpt is a value, or the beginning of a long one.
func excerpt(value []byte) string {
	const most = 60
	s := strings.Join(strings.Fields(string(value)), " ") // in one line
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

// Key returns the key of that name; nil when there is none.
func (t *Table) Key(name string) *Key {
	if k, exact := t.find(name); exact {
		return k
	}
	return nil
}
