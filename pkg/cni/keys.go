package cni

import (
	"encoding/json"
	"errors"

	"github.com/berth-cni/berth/pkg/internal/schema"
)

// keys is the table of the mode's configuration.
func (r *Request) keys() *schema.Table {
	if t := schema.Plugin(r.mode.Name); t != nil {
		return t
	}
	return schema.Common
}

// Decode decodes the value of a key that the configuration keeps as it is written. One of
// another type is noted.
func (r *Request) Decode(key string, raw json.RawMessage, v any) (ok bool) {
	if len(raw) == 0 {
		return true
	}
	k := r.keys().Key(key)
	if k == nil {
		k = &schema.Key{Name: key}
	}
	err := k.Decode(key, raw, v)
	if err != nil {
		r.problems = append(r.problems, err)
	}
	return err == nil
}

// RefusePolicy refuses what is to keep containers from others, for a mode whose containers
// are where nothing can.
func (r *Request) RefusePolicy(why string) {
	for _, k := range []struct {
		key   string
		value bool
		on    bool
	}{{"internal", true, r.Conf.Internal}, {"isolate", true, r.Conf.Isolate}, {"icc", false, r.Conf.NoICC()}} {
		if k.on {
			r.Refuse(k.key, k.value, "%s", why)
		}
	}
}

// look compares the configuration with the keys that there are. A plugin that works beside
// others has their keys, too, and one that only gives addresses the main plugin's: of those
// it is for that one to speak. What only deserves a warning is said with an ADD.
func (r *Request) look() {
	if r.mode.Unrecorded {
		return
	}
	var found []schema.Finding
	if !r.mode.Leases {
		found = r.keys().Look("", r.StdinData)
	}
	if !r.IPAM.Delegated() {
		found = append(found, schema.IPAM.Look("ipam", r.Conf.IPAM)...)
	}
	for _, f := range found {
		switch {
		case f.Opens:
			r.problems = append(r.problems, errors.New(f.String()))
		case r.ContainerID != "":
			r.warnings = append(r.warnings, f.String())
		}
	}
}
