package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// TestLock: one agent answers for a host's containers.
func TestLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	unlock, err := lockNames(t.Context(), dir, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, onDemand := range []bool{true, false} { // neither is given way to by a service
		if _, err := lockNames(t.Context(), dir, onDemand); !errors.Is(err, errServed) {
			t.Errorf("a second one, on demand %v: %v", onDemand, err)
		}
	}
	who := func() string {
		data, err := os.ReadFile(filepath.Join(dir, "names.lock"))
		if err != nil {
			t.Error(err)
		}
		return string(data)
	}
	if got, want := who(), strconv.Itoa(os.Getpid()); got != want {
		t.Errorf("the lock says %q, want %q", got, want)
	}
	unlock()
	if unlock, err = lockNames(t.Context(), dir, true); err != nil {
		t.Fatalf("it has ended: %v", err)
	}
	defer unlock()
	if got, want := who(), strconv.Itoa(os.Getpid())+" on-demand"; got != want {
		t.Errorf("the lock says %q, want %q", got, want)
	}
}

// TestAskToEnd asks only whom it may: an agent, and one that was started on demand.
func TestAskToEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	for said, want := range map[string]bool{"": true, "1 on-demand": false, "12": false, "x on-demand": false, strconv.Itoa(os.Getpid()) + " on-demand": true} {
		if err := os.WriteFile(path, []byte(said), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := askToEnd(f); got != want { // and this process, which is no agent, goes on
			t.Errorf("%q: %v, want %v", said, got, want)
		}
		f.Close()
	}
}
