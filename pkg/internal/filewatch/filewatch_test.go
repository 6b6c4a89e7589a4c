package filewatch

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

const settle = 20 * time.Millisecond

// watching watches files until the test ends; the channel has a value for each call.
func watching(t *testing.T, files ...string) <-chan struct{} {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	calls, ended := make(chan struct{}, 100), make(chan error)
	go func() { ended <- Watch(ctx, settle, func() { calls <- struct{}{} }, files...) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("watch: %v", err)
		}
	})
	return calls
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// until does something again and again until a call comes: the watcher may not have
// begun.
func until(t *testing.T, calls <-chan struct{}, what string, do func()) {
	t.Helper()
	for range 100 {
		do()
		select {
		case <-calls:
			return
		case <-time.After(10 * settle):
		}
	}
	t.Errorf("%s: not told", what)
}

// quiet waits until calls have ended.
func quiet(calls <-chan struct{}) (n int) {
	for {
		select {
		case <-calls:
			n++
		case <-time.After(10 * settle):
			return n
		}
	}
}

func TestWatch(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	calls := watching(t, file)
	until(t, calls, "made", func() { write(t, file, "1") })
	quiet(calls)
	until(t, calls, "written", func() { write(t, file, "2") })
	quiet(calls)
	until(t, calls, "replaced", func() {
		write(t, file+".new", "3")
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	})
	quiet(calls)
	write(t, filepath.Join(dir, "other"), "4")
	if err := os.Chmod(file, 0o400); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(file); err != nil {
		t.Fatal(err)
	}
	if n := quiet(calls); n != 0 {
		t.Errorf("another file, and who may read it: told %d times", n)
	}
	until(t, calls, "removed", func() { _ = os.Remove(file) })
}

// A link is watched with what it leads to, also after it was changed.
func TestLink(t *testing.T) {
	here, first, second := t.TempDir(), filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	write(t, first, "1")
	write(t, second, "1")
	file := filepath.Join(here, "file")
	if err := os.Symlink(first, file); err != nil {
		t.Fatal(err)
	}
	calls := watching(t, file)
	until(t, calls, "what the link leads to", func() { write(t, first, "2") })
	quiet(calls)
	until(t, calls, "the link", func() {
		_ = os.Remove(file)
		if err := os.Symlink(second, file); err != nil {
			t.Fatal(err)
		}
	})
	quiet(calls)
	until(t, calls, "what the link leads to now", func() { write(t, second, "3") })
}

// Many changes within a short time are few calls.
func TestManyChanges(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	calls := make(chan struct{}, 1000)
	go func() { _ = Watch(ctx, time.Hour, func() { calls <- struct{}{} }, file) }()
	for range 500 {
		write(t, file, "1")
	}
	if n := quiet(calls); n != 0 {
		t.Errorf("told %d times before it was quiet", n)
	}
}
