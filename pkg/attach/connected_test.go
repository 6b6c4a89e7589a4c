package attach

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

// add attaches a container by a key of few words: "net", or "net!" for a person.
func add(t *testing.T, s *Store, container, network string, connected bool) Key {
	t.Helper()
	k := Key{network, container, "if-" + network, Main}
	a := &Attachment{Key: k, Connected: connected, Steps: []Step{&file{s.Dir(), container + "." + network}}}
	if err := s.Add(t.Context(), &Adding{Attachment: a}); err != nil {
		t.Fatal(err)
	}
	return k
}

// left is what is attached, what steps are there, and how many are listed as manual.
func left(t *testing.T, s *Store) string {
	t.Helper()
	all, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, a := range all {
		words = append(words, a.Container+"."+a.Network)
	}
	if got := strings.Fields(made(t, s)); !slices.Equal(got, slices.Sorted(slices.Values(words))) {
		t.Errorf("records of %v, steps of %v", words, got)
	}
	listed := 0
	for row := range dump(t, s) {
		if strings.HasPrefix(row, "hands/") {
			listed++
		}
	}
	slices.Sort(words)
	return fmt.Sprintf("%s; %d", strings.Join(words, " "), listed)
}

func want(t *testing.T, s *Store, want string) {
	t.Helper()
	if got := left(t, s); got != want {
		t.Errorf("left is %q, want %q", got, want)
	}
}

// What a person connected goes with the last that the runtime made, not before.
func TestConnectedGoesWithTheLast(t *testing.T) {
	s := testStore(t)
	one, two := add(t, s, "c", "one", false), add(t, s, "c", "two", false)
	add(t, s, "other", "one", false)
	want(t, s, "c.one c.two other.one; 0")
	by := add(t, s, "c", "three", true)
	three := add(t, s, "c", "four", false) // of a runtime, while the container is listed
	if a, err := s.Get(t.Context(), by); err != nil || !a.Connected {
		t.Fatalf("%+v, %v", a, err)
	}
	want(t, s, "c.four c.one c.three c.two other.one; 4")
	for _, k := range []Key{two, three} {
		if err := s.Del(t.Context(), k); err != nil {
			t.Fatal(err)
		}
	}
	want(t, s, "c.one c.three other.one; 2")
	if err := s.Del(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	want(t, s, "other.one; 0")
}

// A DEL that cannot delete what was connected fails, and can be repeated.
func TestConnectedStuck(t *testing.T) {
	s := testStore(t)
	one := add(t, s, "c", "one", false)
	add(t, s, "c", "stuck", true)
	add(t, s, "c", "three", true)
	trap(t, s, "c.stuck", "del")
	if err := s.Del(t.Context(), one); err == nil || !strings.Contains(err.Error(), "delete c.stuck: trapped") {
		t.Errorf("got %v", err)
	}
	untrap(t, s, "c.stuck")
	if err := s.Del(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	want(t, s, "; 0")
}

func TestDisconnect(t *testing.T) {
	s := testStore(t)
	one, two := add(t, s, "c", "one", false), add(t, s, "c", "two", true)
	if err := s.Disconnect(t.Context(), two); err != nil {
		t.Fatal(err)
	}
	want(t, s, "c.one; 1")
	two = add(t, s, "c", "two", true)
	if err := s.Disconnect(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	want(t, s, "c.two; 2")
	if err := s.Disconnect(t.Context(), one); !errors.Is(err, ErrNotFound) {
		t.Errorf("again: %v", err)
	}
	if err := s.Del(t.Context(), one); err != nil { // the runtime does not know
		t.Errorf("DEL of what was disconnected: %v", err)
	}
	want(t, s, "; 0")
	for _, k := range []Key{one, two} {
		if err := s.Del(t.Context(), k); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", k, err)
		}
	}
}

// A person disconnects what the runtime made, and connects another network, and that
// one again: the runtime's DEL of what it made ends all of it.
func TestDisconnectFirst(t *testing.T) {
	s := testStore(t)
	one := add(t, s, "c", "one", false)
	if err := s.Disconnect(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	want(t, s, "; 1")
	add(t, s, "c", "two", true)
	again := add(t, s, "c", "one", true)
	if again != one {
		t.Fatal("want the same key")
	}
	want(t, s, "c.one c.two; 2")
	if err := s.Disconnect(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	want(t, s, "c.two; 2")
	add(t, s, "c", "one", true)
	if err := s.Del(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	want(t, s, "; 0")
}

// An ADD that fails leaves nothing of the container in the list that was not there.
func TestConnectFails(t *testing.T) {
	s := testStore(t)
	one := add(t, s, "c", "one", false)
	trap(t, s, "x", "error")
	a := &Attachment{Key: Key{"two", "c", "eth1", Main}, Connected: true, Steps: []Step{&file{s.Dir(), "x"}}}
	if err := s.Add(t.Context(), &Adding{Attachment: a}); err == nil {
		t.Fatal("was added")
	}
	want(t, s, "c.one; 1")
	if err := s.Del(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	want(t, s, "; 0")
}

// A runtime's list does not name what a person connected.
func TestGCConnected(t *testing.T) {
	s := testStore(t)
	one := add(t, s, "c", "one", false)
	add(t, s, "c", "two", true)
	add(t, s, "path", "two", true) // of no runtime
	gone := add(t, s, "d", "two", false)
	add(t, s, "d", "three", true)
	if err := s.Disconnect(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	gc := func(network string, valid func(a *Attachment) bool) {
		t.Helper()
		if err := s.GC(t.Context(), network, Main, valid); err != nil {
			t.Fatal(err)
		}
	}
	none := func(*Attachment) bool { return false }
	gc("two", func(a *Attachment) bool { return a.Container == "path" || a.Container == "d" })
	want(t, s, "c.one c.two d.three path.two; 5")
	gc("two", none) // d's is stale, and ends with what it had beside it
	want(t, s, "c.one c.two; 2")
	gc("one", func(a *Attachment) bool { return a.Key == one })
	want(t, s, "c.one c.two; 2")
	gc("one", none)
	want(t, s, "; 0")
}

// Of two DELs of the last two at the same time, one ends what was connected.
func TestLastTwo(t *testing.T) {
	for range 20 {
		s := testStore(t)
		keys := []Key{add(t, s, "c", "one", false), add(t, s, "c", "two", false)}
		add(t, s, "c", "three", true)
		if err := s.Disconnect(t.Context(), keys[1]); err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		for _, k := range keys {
			go func() { done <- s.Del(t.Context(), k) }()
		}
		for range keys {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		want(t, s, "; 0")
	}
}

// A process that dies as it connects leaves what the container's DEL removes.
func TestConnectKilled(t *testing.T) {
	s := testStore(t)
	one := add(t, s, "c", "one", false)
	trap(t, s, "1", "kill")
	if err := child(t, "connect", s.Dir(), 3).Run(); err == nil {
		t.Fatal("it lives")
	}
	if got := made(t, s); got != "0 1 c.one" {
		t.Fatalf("made %q", got)
	}
	untrap(t, s, "1")
	if err := s.Del(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	want(t, s, "; 0")
	if rest := dump(t, s); len(rest) != 0 {
		t.Errorf("left: %q", rest)
	}
}

// A database of a version that had no list of manual connections.
func TestOldStore(t *testing.T) {
	s := testStore(t)
	one := add(t, s, "c", "one", false)
	db, err := s.open(s.path(), false, new(*os.File))
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket(manualBucket) })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), one); err != nil {
		t.Error(err)
	}
	add(t, s, "c", "two", true)
	if err := s.Del(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	want(t, s, "; 0")
}

// BenchmarkDel shows that a DEL costs the same whatever is connected elsewhere.
func BenchmarkDel(b *testing.B) {
	for _, connected := range []int{0, 1000} {
		b.Run(fmt.Sprintf("%d connected", connected), func(b *testing.B) {
			s := New(stateDir(b), decodeFile)
			add := func(a *Attachment) {
				if err := s.Add(b.Context(), &Adding{Attachment: a}); err != nil {
					b.Fatal(err)
				}
			}
			for i := range connected {
				add(&Attachment{Key: Key{"net", fmt.Sprint("x", i), "eth1", Main}, Connected: true})
			}
			for i := range 1000 {
				add(&Attachment{Key: Key{"net", fmt.Sprint("c", i), "eth0", Main}})
			}
			for b.Loop() {
				add(&Attachment{Key: testKey("c")})
				if err := s.Del(b.Context(), testKey("c")); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
