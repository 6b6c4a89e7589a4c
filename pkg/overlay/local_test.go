package overlay

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func local(name string) *Local {
	n := blue("10.42.0.0/16")
	n.Name = name
	return &Local{Network: n, Node: "host", MTU: 1450, Blocks: []netip.Prefix{netip.MustParsePrefix("10.42.1.0/24")}}
}

func TestLocal(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "berth") // made when it is needed
	if _, err := ReadLocal(dir, "blue"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none yet: %v", err)
	}
	if all, err := ListLocal(dir); err != nil || len(all) != 0 {
		t.Errorf("none yet: %v, %v", all, err)
	}
	for _, name := range []string{"red", "blue"} {
		if err := local(name).Write(dir); err != nil {
			t.Fatal(err)
		}
	}
	got, err := ReadLocal(dir, "blue")
	if err != nil || !reflect.DeepEqual(got, local("blue")) {
		t.Errorf("read %+v, %v", got, err)
	}
	all, err := ListLocal(dir)
	if err != nil || len(all) != 2 || all[0].Network.Name != "blue" || all[1].Network.Name != "red" {
		t.Errorf("list: %v, %v", all, err)
	}
	for range 2 {
		if err := RemoveLocal(dir, "blue"); err != nil {
			t.Error(err)
		}
	}
	if _, err := ReadLocal(dir, "blue"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed: %v", err)
	}
	for _, name := range []string{"", "..", "../../etc/passwd", "a/b"} {
		if _, err := ReadLocal(dir, name); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("network %q: %v", name, err)
		}
	}
}

// TestLocalCrash: what a crash leaves is the old file or the new one, and a
// temporary file that nobody takes for a network.
func TestLocalCrash(t *testing.T) {
	dir := t.TempDir()
	if err := local("blue").Write(dir); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{".new-123": `{"network": {"na`, ".new-9.json.tmp": "", "README": "x"} {
		if err := os.WriteFile(filepath.Join(dir, "overlay", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := ListLocal(dir); err != nil || len(all) != 1 {
		t.Errorf("list: %d networks, %v; want 1", len(all), err)
	}
	// One that is broken does not keep the others back, and is named.
	broken := filepath.Join(dir, "overlay", "broken.json")
	if err := os.WriteFile(broken, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if all, err := ListLocal(dir); err == nil || !strings.Contains(err.Error(), broken) || len(all) != 1 {
		t.Errorf("list: %d networks, %v", len(all), err)
	}
	// A write that cannot be ended leaves the old file, and nothing beside it.
	before, _ := os.ReadDir(filepath.Join(dir, "overlay"))
	if err := os.Mkdir(filepath.Join(dir, "overlay", "red.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := local("red").Write(dir); err == nil {
		t.Error("wrote over a folder")
	}
	if after, _ := os.ReadDir(filepath.Join(dir, "overlay")); len(after) != len(before)+1 {
		t.Errorf("left behind: %v", after)
	}
}

// TestLocalUnchanged: a write of the same does not touch the disk.
func TestLocalUnchanged(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "overlay", "blue.json")
	if err := local("blue").Write(dir); err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, past, past); err != nil {
		t.Fatal(err)
	}
	was, _ := os.Stat(path)
	if err := local("blue").Write(dir); err != nil {
		t.Fatal(err)
	}
	if is, _ := os.Stat(path); !os.SameFile(was, is) || !is.ModTime().Equal(was.ModTime()) {
		t.Error("the file was written again")
	}
	changed := local("blue")
	changed.Refused = "why"
	if err := changed.Write(dir); err != nil {
		t.Fatal(err)
	}
	if is, _ := os.Stat(path); os.SameFile(was, is) || is.Mode().Perm() != 0o600 {
		t.Errorf("the file was not replaced, or has mode %s", is.Mode())
	}
}

func TestIdentity(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadIdentity(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none yet: %v", err)
	}
	id := Identity{Node: "host", Token: "token", Hardware: "h", Registered: true}
	if err := id.Write(dir); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadIdentity(dir); err != nil || got != id {
		t.Errorf("read %+v, %v; want %+v", got, err, id)
	}
	t.Setenv(DataDirEnv, dir)
	if DataDir() != dir {
		t.Errorf("data folder %s", DataDir())
	}
}

// FuzzReadLocal: any bytes give a network or an error.
func FuzzReadLocal(f *testing.F) {
	f.Add([]byte(`{"network": {"name": "blue", "subnets": ["10.42.0.0/16"]}, "blocks": ["10.42.1.0/24"]}`))
	f.Add([]byte(`{"network": null}`))
	dir := f.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "overlay"), 0o700); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(localPath(dir, "blue"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := ReadLocal(dir, "blue")
		if (l == nil) != (err != nil) {
			t.Fatalf("%v and %v", l, err)
		}
		if err == nil {
			_ = l.Network.Validate()
			for _, b := range l.Blocks {
				_ = l.Network.Contains(b)
			}
		}
	})
}
