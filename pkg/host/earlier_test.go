package host

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/firewall"
	"github.com/berth-cni/berth/pkg/nstest"
	"go.etcd.io/bbolt"
)

// earlier makes a state file with what one of an earlier version held: buckets in
// brackets, keys and values as Go writes them.
func earlier(t *testing.T, file, dir string) {
	t.Helper()
	plugins := t.TempDir() // with a host-local that is asked to delete
	if err := os.WriteFile(filepath.Join(plugins, "host-local"), []byte("#!/bin/sh\ncat >/dev/null\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	db, err := bbolt.Open(filepath.Join(dir, "berth.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *bbolt.Tx) error {
		var in []*bbolt.Bucket // the innermost last
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			line := strings.TrimSpace(lines.Text())
			if strings.HasPrefix(line, "[") {
				b, err := tx.CreateBucket([]byte(strings.Trim(line, "[]")))
				if err != nil {
					return err
				}
				in = []*bbolt.Bucket{b}
				continue
			}
			if line == "}" {
				in = in[:len(in)-1]
				continue
			}
			quoted, err := strconv.QuotedPrefix(line)
			if err != nil {
				return fmt.Errorf("%s: %w", line, err)
			}
			key, _ := strconv.Unquote(quoted)
			rest := strings.TrimSpace(line[len(quoted):])
			if rest == "{" {
				b, err := in[len(in)-1].CreateBucket([]byte(key))
				if err != nil {
					return err
				}
				in = append(in, b)
				continue
			}
			value, err := strconv.Unquote(rest)
			if err != nil {
				return fmt.Errorf("%s: %w", line, err)
			}
			if err := in[len(in)-1].Put([]byte(key), []byte(strings.ReplaceAll(value, "/opt/cni/bin", plugins))); err != nil {
				return err
			}
		}
		return lines.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestEarlierVersions takes over the records and the firewall's table of each earlier
// version: what they ask for is in force, and DEL deletes all of it.
func TestEarlierVersions(t *testing.T) {
	files, err := filepath.Glob("testdata/records/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			nstest.Host(t)
			store := attach.New(t.TempDir(), cni.Decode)
			earlier(t, file, store.Dir())
			if err := nstest.Run("nft", "-f", strings.TrimSuffix(file, ".txt")+".nft"); err != nil {
				t.Fatal(err)
			}
			all, err := store.List(t.Context(), "")
			if err != nil || len(all) < 5 {
				t.Fatalf("%d records, %v", len(all), err)
			}
			var places []string
			for _, s := range SharedBy(all) {
				places = append(places, s.Step.Place())
			}
			for _, want := range []string{"forwarding", "forward web0", "bridge web0", "hairpin web0", "bridge leased0"} {
				if !slices.Contains(places, want) {
					t.Errorf("shared: %s: no %s", strings.Join(places, ", "), want)
				}
			}
			if err := firewall.Rebuild(t.Context(), func(ctx context.Context) ([]*attach.Attachment, error) { return store.List(ctx, "") }); err != nil {
				t.Fatal(err)
			}
			for _, a := range all {
				r := firewall.RulesOf(a)
				if r == nil {
					continue
				}
				if err := r.Check(t.Context(), a); err != nil {
					t.Errorf("the firewall of %s: %v", a.Key, err)
				}
			}
			for _, a := range all {
				if err := store.Del(t.Context(), a.Key); err != nil {
					t.Errorf("delete %s: %v", a.Key, err)
				}
			}
			left, err := nstest.Output("nft", "list", "table", "inet", "berth")
			if err != nil || strings.Contains(left, "10.90.5") {
				t.Errorf("left of the containers: %v\n%s", err, left)
			}
			if lost, err := LostLeases(t.Context(), store, nil); err != nil || len(lost) > 0 {
				t.Errorf("leases %v, %v", lost, err)
			}
		})
	}
}
