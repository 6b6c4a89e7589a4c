package wireguard

import (
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLoadKey: the key is for root alone from the beginning, stays the same, and one that
// others may have read is refused.
func TestLoadKey(t *testing.T) {
	dir := t.TempDir()
	k, err := LoadKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadKey(dir)
	if err != nil || again != k || k == (Key{}) {
		t.Errorf("loaded again: another key, or %v", err)
	}
	for file, mode := range map[string]os.FileMode{"": 0o700 | os.ModeDir, keyFile: 0o600, publicFile: 0o644} {
		st, err := os.Stat(filepath.Join(dir, folder, file))
		if err != nil || st.Mode() != mode {
			t.Errorf("%q: mode %v (%v), want %v", file, st.Mode(), err, mode)
		}
	}
	public, err := os.ReadFile(filepath.Join(dir, folder, publicFile))
	if err != nil || strings.TrimSpace(string(public)) != k.Public().String() {
		t.Errorf("public key: %q (%v), want %s", public, err, k.Public())
	}
	path := filepath.Join(dir, folder, keyFile)
	for content, want := range map[string]string{
		"":                              "EOF",
		"AAAA\n":                        "want 32 bytes in base64",
		Key{}.String() + "\n":           "it is zero",
		strings.Repeat("A", 100) + "\n": "want 32 bytes in base64",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadKey(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("key file %q: %v, want %q", content, err, want)
		}
	}
	if err := os.WriteFile(path, []byte(k.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadKey(dir); err == nil || !strings.Contains(err.Error(), "others may have read it") {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
}

// TestPublic is the first example of RFC 7748, section 6.1.
func TestPublic(t *testing.T) {
	const private, public = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=", "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="
	raw, err := base64.StdEncoding.DecodeString(private)
	if err != nil {
		t.Fatal(err)
	}
	if got := Key(raw).Public().String(); got != public {
		t.Errorf("public key %s, want %s", got, public)
	}
}

// TestRotate takes a key through its rotation.
func TestRotate(t *testing.T) {
	dir := t.TempDir()
	if err := Rotate(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a host without a key: %v", err)
	}
	old, err := LoadKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	var next Key
	expect := func(what string, announced bool) {
		t.Helper()
		if k, a, err := LoadNext(dir); err != nil || k != next || a != announced {
			t.Errorf("%s: next key %v, announced %v (%v); want %v, %v", what, k, a, err, next, announced)
		}
	}
	expect("before", false)
	for range 2 {
		if err := Rotate(dir); err != nil {
			t.Fatal(err)
		}
		if next == (Key{}) {
			next, _, _ = LoadNext(dir)
		}
		expect("asked for", false)
	}
	for what, do := range map[string]func(string) error{"announced": Announce, "replaced": func(dir string) error { return Replace(dir, next) }} {
		if err := do(dir); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	expect("replaced", true)
	if k, err := LoadKey(dir); err != nil || k != next || k == old {
		t.Errorf("the key afterwards: %v (%v), want %v", k, err, next)
	}
	for range 2 {
		if err := EndRotation(dir); err != nil {
			t.Error(err)
		}
	}
	next = Key{}
	expect("ended", false)
}

func TestPreshared(t *testing.T) {
	dir := t.TempDir()
	if k, err := LoadPreshared(dir, "blue"); err != nil || k != (Key{}) {
		t.Errorf("none: %v, %v", k, err)
	}
	if err := os.MkdirAll(filepath.Join(dir, folder), 0o700); err != nil {
		t.Fatal(err)
	}
	want := newKey()
	if err := os.WriteFile(filepath.Join(dir, folder, "blue.psk"), []byte(want.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if k, err := LoadPreshared(dir, "blue"); err != nil || k != want {
		t.Errorf("one: %v, %v", k, err)
	}
}
