package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// TypeError: a key has a value of another type than it takes.
type TypeError struct{ Key, Value, Want string }

func (e *TypeError) Error() string {
	return fmt.Sprintf("%s: %s: want %s", e.Key, e.Value, e.Want)
}

// ErrSyntax: the text is no JSON.
var ErrSyntax = errors.New("is no JSON")

// SyntaxError is an [ErrSyntax], with the path of the text and where it stops being JSON.
type SyntaxError struct{ Path, Where string }

func (e *SyntaxError) Error() string { return fmt.Sprintf("%s: %v: %s", e.Path, ErrSyntax, e.Where) }

// Unwrap has errors.Is find [ErrSyntax].
func (e *SyntaxError) Unwrap() error { return ErrSyntax }

// Decode is [Key.Decode] of an object.
func (t *Table) Decode(path string, raw []byte, v any) error {
	k := Key{Kind: Object, Of: t}
	return k.Decode(path, raw, v)
}

// Decode is json.Unmarshal with errors in the words of the configuration: all keys whose
// values are of another type, each with its path, the value and what it takes
// ([TypeError]); or where the text stops being JSON ([ErrSyntax]).
func (k *Key) Decode(path string, raw []byte, v any) error {
	err := json.Unmarshal(raw, v)
	if err == nil {
		return nil
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		before := string(raw[:min(int(syntax.Offset), len(raw))])
		line := 1 + strings.Count(before, "\n")
		return &SyntaxError{named(path), fmt.Sprintf("%v (line %d, character %d)", syntax, line, len(before)-strings.LastIndexByte(before, '\n')-1)}
	}
	var mistyped *json.UnmarshalTypeError
	if !errors.As(err, &mistyped) {
		return fmt.Errorf("%s: %w", named(path), err)
	}
	if all := k.mistyped(path, raw); len(all) > 0 {
		return errors.Join(all...)
	}
	return explain(path, mistyped)
}

// Explain puts an error of encoding/json, of text that a library decodes, into the words of
// the configuration.
func Explain(path string, err error) error {
	var mistyped *json.UnmarshalTypeError
	if errors.As(err, &mistyped) {
		return explain(path, mistyped)
	}
	return fmt.Errorf("%s: %w", named(path), err)
}

func explain(path string, mistyped *json.UnmarshalTypeError) error {
	key := path // a number that the key's type does not hold
	for _, name := range strings.Split(mistyped.Field, ".") {
		if name != "" && name[0] >= 'a' { // not of an embedded struct
			key = join(key, name)
		}
	}
	value := strings.TrimPrefix(mistyped.Value, "number ")
	switch value { // or the number itself
	case "array":
		value = "a list"
	case "object":
		value = "an object"
	case "bool":
		value = "true or false"
	case "string", "number":
		value = "a " + value
	}
	return &TypeError{named(key), value, wanted(mistyped.Type)}
}

// Section is the table of a key's object, or of one of its keys'; nil when it has none.
func (t *Table) Section(path string) *Table {
	for _, name := range strings.Split(path, ".") {
		if t == nil {
			return nil
		}
		k, _ := t.find(name)
		if k == nil {
			return nil
		}
		t = k.Of
	}
	return t
}

func named(path string) string {
	if path == "" {
		return "configuration"
	}
	return path
}

// mistyped are all values that are of another type than their keys take.
func (k *Key) mistyped(path string, raw []byte) []error {
	if strings.TrimSpace(string(raw)) == "null" {
		return nil
	}
	if !k.Kind.takes(raw) {
		return []error{&TypeError{named(path), excerpt(raw), k.Kind.String()}}
	}
	var errs []error
	each(k.Kind, k.Of, path, raw, func(path string, object []byte) {
		if !Object.takes(object) {
			errs = append(errs, &TypeError{named(path), excerpt(object), Object.String()})
		}
		members(object, func(name string, value []byte) {
			if key, _ := k.Of.find(name); key != nil {
				errs = append(errs, key.mistyped(join(path, name), value)...)
			}
		})
	})
	return errs
}

// takes tells whether a value is of the kind. What is in a list of objects is looked at
// with their keys.
func (k Kind) takes(value []byte) bool {
	switch k {
	case Bool:
		return string(value) == "true" || string(value) == "false"
	case String:
		return is(value, '"')
	case Number:
		var n int64
		return json.Unmarshal(value, &n) == nil
	case Object:
		return is(value, '{')
	case Strings, Objects, ObjectLists:
		good := is(value, '[')
		elements(value, func(_ int, v []byte) {
			good = good && (k != Strings || is(v, '"') || string(v) == "null") && (k != ObjectLists || is(v, '['))
		})
		return good
	}
	return true
}

func (k Kind) String() string {
	return [...]string{"anything", "true or false, without quotes", "a string in quotes", "a whole number, without quotes", "a list of strings",
		"an object", "a list of objects", "a list of lists of objects"}[k]
}

func is(value []byte, first byte) bool {
	i := space(value, 0)
	return i < len(value) && value[i] == first
}

// wanted says what a Go type takes.
func wanted(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Bool:
		return Bool.String()
	case reflect.String:
		return String.String()
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Struct, reflect.Map:
		return Object.String()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return fmt.Sprintf("a whole number, 0 to %d", ^uint64(0)>>(64-t.Bits()))
	}
	return Number.String()
}
