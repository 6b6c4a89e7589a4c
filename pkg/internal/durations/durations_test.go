package durations

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

const childEnv = "BERTH_TEST_DURATIONS"

// TestMain is a process that counts, where a test starts one.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		t, err := Make(dir)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		for i := range 1000 {
			t.Add("ADD", time.Duration(i)*time.Millisecond)
			t.Add(fmt.Sprint("ADD ", i%5), time.Millisecond)
		}
		return
	}
	os.Exit(m.Run())
}

func table(t testing.TB, dir string) *Table {
	t.Helper()
	d, err := Make(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// TestProcesses: processes that count at the same time, the first time, lose nothing.
func TestProcesses(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			c := exec.Command(os.Args[0])
			c.Env = append(os.Environ(), childEnv+"="+dir)
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	all.Wait()
	got := map[string]Histogram{}
	for _, h := range table(t, dir).All() {
		if _, twice := got[h.Name]; twice {
			t.Errorf("%s is there twice", h.Name)
		}
		got[h.Name] = h
	}
	total := func(h Histogram) (n uint64) {
		for _, c := range h.Count {
			n += c
		}
		return n
	}
	if h := got["ADD"]; len(got) != 6 || total(h) != 8000 || h.Sum != 8*499500*time.Millisecond {
		t.Errorf("%d names, %d ADDs in %s", len(got), total(h), h.Sum)
	}
	if h := got["ADD 3"]; h.Count[3] != 1600 || total(h) != 1600 {
		t.Errorf("%+v, want 1600 of up to a millisecond", h)
	}
}

func TestBucket(t *testing.T) {
	for d, want := range map[time.Duration]int{
		0: 0, Least: 0, Least + 1: 1, 2 * Least: 1, 2*Least + 1: 2, time.Millisecond: 3, Bound(13): 13, Bound(13) + 1: 14, time.Hour: 14,
	} {
		if got := bucket(d); got != want {
			t.Errorf("%s: bucket %d, want %d", d, got, want)
		}
	}
}

// TestFull: names beyond the table's size, and those that are too long, are not counted,
// and harm none of the others.
func TestFull(t *testing.T) {
	d := table(t, t.TempDir())
	for i := range 2 * rows {
		d.Add(fmt.Sprint("name", i), time.Second)
	}
	d.Add("this name has more bytes than there are in a row", time.Second)
	d.Add("", time.Second)
	d.Add("name0", -time.Second)
	all := d.All()
	if len(all) != rows || all[0].Name != "name0" || all[0].Count[0] != 1 || all[0].Sum != time.Second {
		t.Errorf("%d names, the first is %+v", len(all), all[0])
	}
}

// TestForeign: what is no table of ours is not written to, and is an error.
func TestForeign(t *testing.T) {
	dir := t.TempDir()
	elsewhere := filepath.Join(dir, "elsewhere")
	if err := os.WriteFile(elsewhere, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
	if _, err := Make(dir); err == nil {
		t.Error("a symbolic link was followed")
	}
	if b, _ := os.ReadFile(elsewhere); string(b) != "mine" {
		t.Errorf("the file has %d bytes", len(b))
	}
	if _, err := Make(filepath.Join(dir, "none")); err == nil {
		t.Error("a folder that is not there: no error")
	}
	if _, err := Open(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder without one: %v", err)
	}
}

func BenchmarkPlugin(b *testing.B) { // what a plugin spends on it
	dir := b.TempDir()
	for b.Loop() {
		d, err := Make(dir)
		if err != nil {
			b.Fatal(err)
		}
		for _, name := range []string{"ADD", "ADD read", "ADD claim", "ADD veth", "ADD addresses", "ADD firewall", "ADD answer"} {
			d.Add(name, time.Millisecond)
		}
		_ = d.Close()
	}
}
