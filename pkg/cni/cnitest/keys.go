package cnitest

import (
	"reflect"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/internal/schema"
)

// Keys fails where the keys of a mode's configuration and those that [schema.Plugin] knows
// are not the same, or are of different types.
func Keys(t *testing.T, m cni.Mode) {
	t.Helper()
	table := schema.Plugin(m.Name)
	if table == nil {
		t.Fatalf("no keys of %s are known", m.Name)
	}
	same(t, m.Name, table, reflect.TypeOf(m.Config()).Elem())
}

// same compares a table with a struct, and with the structs in it.
func same(t *testing.T, path string, table *schema.Table, of reflect.Type) {
	t.Helper()
	for i := range of.NumField() {
		f := of.Field(i)
		if f.Anonymous {
			same(t, path, table, f.Type)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			continue
		}
		k := table.Key(name)
		if k == nil {
			t.Errorf("%s: key %s is not known", path, name)
			continue
		}
		typ := f.Type
		for typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		if want := kindOf(typ); want != schema.Any && want != k.Kind {
			t.Errorf("%s: key %s takes %s, and is known to take %s", path, name, want, k.Kind)
		}
		for typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() == reflect.Struct && k.Of != nil {
			same(t, path+"."+name, k.Of, typ)
		}
	}
}

// kindOf is what a Go type takes; Any of one that is decoded later.
func kindOf(t reflect.Type) schema.Kind {
	switch t.Kind() {
	case reflect.Bool:
		return schema.Bool
	case reflect.String:
		return schema.String
	case reflect.Int, reflect.Uint32:
		return schema.Number
	case reflect.Struct:
		return schema.Object
	case reflect.Slice:
		switch t.Elem().Kind() {
		case reflect.String:
			return schema.Strings
		case reflect.Struct:
			return schema.Objects
		}
	}
	return schema.Any
}
