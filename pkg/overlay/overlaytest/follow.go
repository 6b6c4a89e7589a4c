// Package overlaytest has the tests that every overlay store has to pass, and what
// they are made of.
package overlaytest

import (
	"context"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/overlay"
)

// Patience is how long a test waits for what has to happen, on a machine that is busy.
const Patience = 30 * time.Second

// Follower is a Watch that remembers what it was told.
type Follower struct {
	Stop func() // ends the Watch, and waits for it

	mu      sync.Mutex
	state   *overlay.State
	updates []overlay.Update
	changed chan struct{} // closed at the next update
	err     error         // of the Watch, once it has ended
}

// Follow starts a Watch, which ends with the test. It waits for the first full
// update when wait says so.
func Follow(t testing.TB, c overlay.Control, wait bool) *Follower {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	f := &Follower{state: overlay.NewState(), changed: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := c.Watch(ctx, f.take)
		f.mu.Lock()
		f.err = err
		f.mu.Unlock()
	}()
	f.Stop = func() { cancel(); <-done }
	t.Cleanup(f.Stop)
	if wait {
		f.Wait(t, "a full update", func(*overlay.State) bool { return len(f.updates) > 0 && f.updates[0].Full })
	}
	return f
}

func (f *Follower) take(u overlay.Update) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.updates = append(f.updates, u)
	f.state.Apply(u)
	close(f.changed)
	f.changed = make(chan struct{})
}

// Err is what the Watch returned; nil while it runs.
func (f *Follower) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// Updates returns what there was so far.
func (f *Follower) Updates() []overlay.Update {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]overlay.Update(nil), f.updates...)
}

// State calls fn with what is known.
func (f *Follower) State(fn func(*overlay.State)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn(f.state)
}

// Count returns how many updates were full, and how many said that the store is away.
func (f *Follower) Count() (full, away int) {
	for _, u := range f.Updates() {
		if u.Full {
			full++
		}
		if u.Err != nil {
			away++
		}
	}
	return full, away
}

// Wait waits until the state is as it should be. ok must not call f.
func (f *Follower) Wait(t testing.TB, what string, ok func(*overlay.State) bool) {
	t.Helper()
	f.WaitFor(t, Patience, what, ok)
}

// WaitFor is [Follower.Wait] with a patience of its own.
func (f *Follower) WaitFor(t testing.TB, patience time.Duration, what string, ok func(*overlay.State) bool) {
	t.Helper()
	timeout := time.After(patience)
	for {
		f.mu.Lock()
		done, changed := ok(f.state), f.changed
		f.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			f.mu.Lock()
			defer f.mu.Unlock()
			t.Fatalf("waited %s for %s; the state is %s, the last of %d updates %+v", patience, what, Print(f.state), len(f.updates), f.updates[max(0, len(f.updates)-3):])
		}
	}
}

// WaitUpdates is [Follower.WaitFor] for what the updates were.
func (f *Follower) WaitUpdates(t testing.TB, patience time.Duration, what string, ok func([]overlay.Update) bool) {
	t.Helper()
	f.WaitFor(t, patience, what, func(*overlay.State) bool { return ok(f.updates) })
}

// WaitSame waits until the state is what the store's State says.
func (f *Follower) WaitSame(t testing.TB, a overlay.Admin) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	want, err := a.State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	f.Wait(t, "what State says: "+Print(want), func(s *overlay.State) bool { return Same(s, want) })
}

// Same tells whether two states hold the same.
func Same(a, b *overlay.State) bool {
	return reflect.DeepEqual(a.Networks, b.Networks) && reflect.DeepEqual(a.Nodes, b.Nodes) &&
		reflect.DeepEqual(a.Blocks, b.Blocks) && reflect.DeepEqual(a.Alive, b.Alive) && reflect.DeepEqual(badText(a), badText(b))
}

func badText(s *overlay.State) map[string]string {
	text := map[string]string{}
	for k, err := range s.Bad {
		text[k] = err.Error()
	}
	return text
}
