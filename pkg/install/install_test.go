package install

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// put writes a program. What it holds need not run.
func put(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// folders are one with the plugins of a version, and one of a runtime with another
// suite's.
func folders(t *testing.T) (from, to string) {
	t.Helper()
	from, to = t.TempDir(), t.TempDir()
	for _, name := range []string{"bridge", "vxlan-overlay", "berth-ipam"} {
		put(t, from, name, "\x7fELF "+name+" 1")
	}
	put(t, to, "bridge", "another suite's")
	if err := os.WriteFile(filepath.Join(from, "README"), nil, 0o644); err != nil { // no program
		t.Fatal(err)
	}
	return from, to
}

func open(t *testing.T, from, to string) *Plugins {
	t.Helper()
	p, err := Open(from, to, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestSync(t *testing.T) {
	from, to := folders(t)
	p := open(t, from, to)
	done, err := p.Sync()
	if want := []string{"berth-ipam", "berth-bridge", "berth-vxlan-overlay"}; err != nil || !slices.Equal(done, want) || !p.Ready() {
		t.Fatalf("%v, %v, ready %v; want %v", done, err, p.Ready(), want)
	}
	if len(p.seen) > 0 {
		t.Errorf("taken for right before it was read: %v", p.seen)
	}
	if got := read(t, to, "bridge"); got != "another suite's" {
		t.Errorf("the other suite's bridge is now %q", got)
	}
	if done, err := p.Sync(); len(done) > 0 || err != nil {
		t.Errorf("once more: %v, %v", done, err)
	}
	if err := os.Remove(filepath.Join(to, "berth-ipam")); err != nil {
		t.Fatal(err)
	}
	put(t, to, "berth-bridge", "\x7fELF half")
	if err := os.Chmod(filepath.Join(to, "berth-vxlan-overlay"), 0o644); err != nil {
		t.Fatal(err)
	}
	if done, err := p.Sync(); len(done) != 3 || err != nil {
		t.Errorf("one gone, one damaged, one that nobody may run: %v, %v", done, err)
	}
	if info, err := os.Stat(filepath.Join(to, "berth-vxlan-overlay")); err != nil || info.Mode() != perm {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// TestUpgrade: the next version replaces the files, and one that runs goes on.
func TestUpgrade(t *testing.T) {
	from, to := folders(t)
	if _, err := open(t, from, to).Sync(); err != nil {
		t.Fatal(err)
	}
	running, err := os.Open(filepath.Join(to, "berth-bridge"))
	if err != nil {
		t.Fatal(err)
	}
	defer running.Close()
	put(t, from, "bridge", "\x7fELF bridge 2")
	put(t, to, ".berth-bridge.new", "of an agent that was killed")
	if done, err := open(t, from, to).Sync(); err != nil || !slices.Equal(done, []string{"berth-bridge"}) {
		t.Errorf("%v, %v", done, err)
	}
	old := make([]byte, 64)
	n, _ := running.Read(old)
	if now := read(t, to, "berth-bridge"); now != "\x7fELF bridge 2" || string(old[:n]) != "\x7fELF bridge 1" {
		t.Errorf("now %q, the one that runs %q", now, old[:n])
	}
	if all, err := Installed(to); err != nil || !slices.Equal(all, []string{"berth-bridge", "berth-ipam", "berth-vxlan-overlay"}) {
		t.Errorf("%v, %v", all, err)
	}
}

// TestLoopback: runtimes call loopback by that name. Ours is there where nobody else's is,
// and goes on to the next version; another's stays, and is no trouble.
func TestLoopback(t *testing.T) {
	own, err := os.Executable() // a program of this module
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(own)
	if err != nil {
		t.Fatal(err)
	}
	from, to := folders(t)
	path := put(t, from, "loopback", "\x7fELF loopback 1")
	p := open(t, from, to)
	if done, err := p.Sync(); err != nil || !slices.Contains(done, "loopback") || !p.Ready() {
		t.Fatalf("none there: %v, %v, ready %v", done, err, p.Ready())
	}
	put(t, to, "loopback", "another suite's")
	if done, err := p.Sync(); err != nil || len(done) > 0 || !p.Ready() || read(t, to, "loopback") != "another suite's" {
		t.Errorf("another's: %v, %v, ready %v, now %q", done, err, p.Ready(), read(t, to, "loopback"))
	}
	if all, err := Installed(to); err != nil || slices.Contains(all, "loopback") {
		t.Errorf("another's is said to be ours: %v, %v", all, err)
	}
	put(t, to, "loopback", string(program))
	if all, err := Installed(to); err != nil || !slices.Contains(all, "loopback") {
		t.Errorf("an earlier one of ours: %v, %v", all, err)
	}
	if err := os.WriteFile(path, []byte("\x7fELF loopback 2"), 0o755); err != nil {
		t.Fatal(err)
	}
	if done, err := open(t, from, to).Sync(); err != nil || !slices.Contains(done, "loopback") || read(t, to, "loopback") != "\x7fELF loopback 2" {
		t.Errorf("an earlier one of ours: %v, %v", done, err)
	}
}

// TestAnothers: a file of that name which is not Berth's stays, and is said; the others are
// installed.
func TestAnothers(t *testing.T) {
	tool, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(tool)
	if err != nil {
		t.Fatal(err)
	}
	for what, put := range map[string]func(path string) error{
		"a script":      func(path string) error { return os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755) },
		"built of":      func(path string) error { return os.WriteFile(path, program, 0o755) },
		"no file of":    func(path string) error { return os.Symlink("/bin/true", path) },
		"berth-bridge ": func(path string) error { return os.Mkdir(path, 0o755) },
	} {
		from, to := folders(t)
		path := filepath.Join(to, "berth-bridge")
		if err := put(path); err != nil {
			t.Fatal(err)
		}
		before, err := stampOf(path)
		if err != nil {
			t.Fatal(err)
		}
		p := open(t, from, to)
		done, err := p.Sync()
		if len(done) != 2 || err == nil || !strings.Contains(err.Error(), what) || p.Ready() {
			t.Errorf("%s: %v, %v, ready %v", what, done, err, p.Ready())
		}
		if after, err := stampOf(path); err != nil || after != before {
			t.Errorf("%s: was %v, is %v, %v", what, before, after, err)
		}
		if all, _ := Installed(to); slices.Contains(all, "berth-bridge") {
			t.Errorf("%s: is said to be ours", what)
		}
	}
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := Ours(own); err != nil {
		t.Errorf("a program of this module: %v", err)
	}
}

// TestRun: what a package upgrade takes away is put back.
func TestRun(t *testing.T) {
	from, to := folders(t)
	p := open(t, from, to)
	p.Install()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); p.Run(ctx) }()
	for _, take := range []func(string) error{nil, os.Remove, func(path string) error { return os.WriteFile(path, nil, 0o755) }} {
		path := filepath.Join(to, "berth-bridge")
		if take != nil {
			if err := take(path); err != nil {
				t.Fatal(err)
			}
		}
		for end := time.Now().Add(2 * tick); ; time.Sleep(10 * time.Millisecond) {
			if data, err := os.ReadFile(path); err == nil && string(data) == "\x7fELF bridge 1" {
				break
			} else if time.Now().After(end) {
				t.Fatalf("not put back: %q, %v", data, err)
			}
		}
	}
	cancel()
	<-ended
}
