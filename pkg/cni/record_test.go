package cni

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"go.etcd.io/bbolt"
)

// stored are the records of an earlier version, one a line: a container of every
// plugin, with every kind of step.
func stored(t *testing.T) [][]byte {
	t.Helper()
	data, err := os.ReadFile("testdata/records.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Split(bytes.TrimSpace(data), []byte("\n"))
}

// keep puts a record into the store as it is, and returns its key.
func keep(t *testing.T, s *attach.Store, record []byte) attach.Key {
	t.Helper()
	var k attach.Key
	if err := json.Unmarshal(record, &k); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(filepath.Join(s.Dir(), "berth.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	key := k.Network + "\x00" + k.Container + "\x00" + k.IfName
	if k.Role != attach.Main {
		key += "\x00" + string(k.Role)
	}
	err = db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("attachments")).Put([]byte(key), record) })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return k
}

// withoutGateway leaves out the step that earlier versions kept, and that only
// completed what is in the record.
func withoutGateway(record map[string]any) map[string]any {
	steps, _ := record["steps"].([]any)
	record["steps"] = slices.DeleteFunc(steps, func(s any) bool { return s.(map[string]any)["kind"] == "gateway" })
	return record
}

// TestStoredRecords: this version reads the records of an earlier one, and writes all
// that was in them.
func TestStoredRecords(t *testing.T) {
	s := attach.New(t.TempDir(), Decode)
	if err := s.Update(t.Context(), func(*attach.Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]bool{}
	for _, record := range stored(t) {
		a, err := s.Get(t.Context(), keep(t, s, record))
		if err != nil {
			t.Errorf("%s: %v", record, err)
			continue
		}
		for _, step := range a.Steps {
			kinds[step.Kind()] = true
		}
		now, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		var was, is map[string]any
		if err := errors.Join(json.Unmarshal(record, &was), json.Unmarshal(now, &is)); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(withoutGateway(was), is) {
			t.Errorf("the record\n%s\nis now\n%s", record, now)
		}
	}
	for _, kind := range []string{"bridge", "veth", "macvlan", "ipvlan", "host-shim", "subinterface", "loopback", "rebind", "localnet",
		"ipam", "gateway", "forward", "firewall", "names"} {
		if !kinds[kind] {
			t.Errorf("no record has a step %q", kind)
		}
	}
}
