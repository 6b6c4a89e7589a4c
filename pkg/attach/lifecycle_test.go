package attach

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAddCheckDel(t *testing.T) {
	s := testStore(t)
	a := attachment(s.Dir(), 3)
	if err := s.Add(t.Context(), claiming(a)); err != nil {
		t.Fatal(err)
	}
	if got := made(t, s); got != "0 1 2" {
		t.Errorf("made %q", got)
	}
	a, err := s.Get(t.Context(), a.Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), a); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"0", "2"} {
		if err := os.Remove(filepath.Join(s.Dir(), "step."+name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := Check(t.Context(), a); err == nil || !strings.Contains(err.Error(), "step.0") || !strings.Contains(err.Error(), "step.2") {
		t.Errorf("Check names not all that is missing: %v", err)
	}
	if err := s.Del(t.Context(), a.Key); err != nil {
		t.Fatal(err)
	}
	if got := made(t, s); got != "" {
		t.Errorf("left: %q", got)
	}
	if order, err := os.ReadFile(filepath.Join(s.Dir(), "deleted")); string(order) != "2 1 0 " {
		t.Errorf("deleted in the order %q, %v", order, err)
	}
	same(t, dump(t, s), map[string]string{})
	if err := s.Del(t.Context(), a.Key); !errors.Is(err, ErrNotFound) {
		t.Errorf("second DEL: %v", err)
	}
}

// TestFault: whichever step fails, and however, nothing is left, and a second try
// succeeds.
func TestFault(t *testing.T) {
	const steps = 4
	for _, how := range []string{"error", "panic", "left", "unsaveable"} {
		for k := range steps {
			t.Run(fmt.Sprintf("%s at %d", how, k), func(t *testing.T) {
				s := testStore(t)
				other := attachment(s.Dir(), 0)
				other.Key, other.Leases, other.Ports = testKey("other"), nil, nil
				if err := s.Add(t.Context(), &Adding{Attachment: other}); err != nil {
					t.Fatal(err)
				}
				before := dump(t, s)
				trap(t, s, fmt.Sprint(k), how)
				err := s.Add(t.Context(), claiming(attachment(s.Dir(), steps)))
				if err == nil || !strings.Contains(err.Error(), "trapped") && !strings.Contains(err.Error(), "encode record") {
					t.Errorf("got %v", err)
				}
				if got := made(t, s); got != "" {
					t.Errorf("left: %q", got)
				}
				same(t, dump(t, s), before)
				untrap(t, s, fmt.Sprint(k))
				if err := s.Add(t.Context(), claiming(attachment(s.Dir(), steps))); err != nil {
					t.Errorf("second try: %v", err)
				}
			})
		}
	}
}

// cancel is a step that ends the context of the ADD it is part of.
type cancel struct {
	file
	end context.CancelCauseFunc
}

func (c *cancel) Add(ctx context.Context, a *Adding) error {
	c.end(errors.New("the runtime went away"))
	return c.file.Add(ctx, a)
}

// Del has the lock of the store for a while longer: to drop the record is to wait.
func (c *cancel) Del(ctx context.Context, a *Attachment) error {
	unlock, err := lock(ctx, filepath.Join(c.Dir, "lock"), unix.LOCK_EX)
	if err != nil {
		return err
	}
	time.AfterFunc(20*time.Millisecond, unlock)
	return c.file.Del(ctx, a)
}

func TestCancelled(t *testing.T) {
	const steps = 4
	for k := range steps {
		s := testStore(t)
		ctx, end := context.WithCancelCause(t.Context())
		a := attachment(s.Dir(), steps)
		a.Steps[k] = &cancel{*a.Steps[k].(*file), end}
		err := s.Add(ctx, claiming(a))
		if k == steps-1 { // nothing is left to be cancelled
			if err != nil {
				t.Errorf("in the last step: %v", err)
			}
			continue
		}
		if err == nil || err.Error() != "the runtime went away" {
			t.Errorf("got %v", err)
		}
		if got := made(t, s); got != "" {
			t.Errorf("left: %q", got)
		}
		same(t, dump(t, s), map[string]string{})
	}
}

// TestKilled: a process that dies at any step leaves a record with which DEL
// removes everything.
func TestKilled(t *testing.T) {
	for _, how := range []string{"kill before", "kill"} {
		for k := range 4 {
			s := testStore(t)
			trap(t, s, fmt.Sprint(k), how)
			if out, err := child(t, "add", s.Dir(), 0).CombinedOutput(); err == nil || !strings.Contains(err.Error(), "killed") {
				t.Fatalf("child: %v\n%s", err, out)
			}
			if n := len(strings.Fields(made(t, s))); n < k {
				t.Errorf("killed at %d: %d steps were made", k, n)
			}
			if err := s.Del(t.Context(), testKey("c")); err != nil {
				t.Errorf("%s at %d: %v", how, k, err)
			}
			if got := made(t, s); got != "" {
				t.Errorf("%s at %d left %q", how, k, got)
			}
			same(t, dump(t, s), map[string]string{})
		}
	}
}

func TestClaimFails(t *testing.T) {
	s := testStore(t)
	no := errors.New("no")
	a := claiming(attachment(s.Dir(), 2))
	a.Steps[0].(*claims).fault = no
	err := s.Add(t.Context(), a)
	if !errors.Is(err, no) {
		t.Errorf("got %v", err)
	}
	if got := made(t, s); got != "" {
		t.Errorf("made %q", got)
	}
	same(t, dump(t, s), map[string]string{})
}

// TestSecondAdd is refused and does no harm.
func TestSecondAdd(t *testing.T) {
	s := testStore(t)
	if err := s.Add(t.Context(), claiming(attachment(s.Dir(), 3))); err != nil {
		t.Fatal(err)
	}
	before := dump(t, s)
	err := s.Add(t.Context(), &Adding{Attachment: attachment(s.Dir(), 3)})
	if !errors.Is(err, ErrExists) || !strings.HasPrefix(err.Error(), "container c (network net, eth0): ") {
		t.Errorf("got %v", err)
	}
	if got := made(t, s); got != "0 1 2" {
		t.Errorf("in place: %q", got)
	}
	same(t, dump(t, s), before)
	// Another role of the same interface is another attachment.
	a := attachment(s.Dir(), 0)
	a.Role, a.Leases, a.Ports = Chained, nil, nil
	if err := s.Add(t.Context(), &Adding{Attachment: a}); err != nil {
		t.Error(err)
	}
}

// TestDelGoesOn: a step that cannot be deleted stops neither the others nor a
// later DEL.
func TestDelGoesOn(t *testing.T) {
	s := testStore(t)
	a := attachment(s.Dir(), 4)
	if err := s.Add(t.Context(), claiming(a)); err != nil {
		t.Fatal(err)
	}
	before := dump(t, s)
	trap(t, s, "1", "del")
	trap(t, s, "3", "del")
	err := s.Del(t.Context(), a.Key)
	if err == nil || !strings.Contains(err.Error(), "delete 1") || !strings.Contains(err.Error(), "delete 3") {
		t.Errorf("got %v", err)
	}
	if got := made(t, s); got != "1 3" {
		t.Errorf("left: %q", got)
	}
	after := dump(t, s)
	const mark = "going/net\x00c\x00eth0"
	if _, ok := after[mark]; !ok {
		t.Error("the record does not say that it is being deleted")
	}
	delete(after, mark)
	same(t, after, before)
	untrap(t, s, "1")
	untrap(t, s, "3")
	if err := s.Del(t.Context(), a.Key); err != nil {
		t.Fatal(err)
	}
	if got := made(t, s); got != "" {
		t.Errorf("left: %q", got)
	}
}

// TestPanics: a step that panics keeps back none of the others.
func TestPanics(t *testing.T) {
	s := testStore(t)
	a := claiming(attachment(s.Dir(), 3))
	if err := s.Add(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	trap(t, s, "0", "check panic")
	if err := os.Remove(filepath.Join(s.Dir(), "step.2")); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), a.Attachment); err == nil || !strings.Contains(err.Error(), "bug in step file: trapped") || !strings.Contains(err.Error(), "step.2") {
		t.Errorf("Check: %v", err)
	}
	trap(t, s, "1", "del panic")
	if err := s.Del(t.Context(), a.Key); err == nil || !strings.Contains(err.Error(), "bug in step file: trapped") {
		t.Errorf("Del: %v", err)
	}
	if got := made(t, s); got != "1" {
		t.Errorf("left: %q", got)
	}
	untrap(t, s, "1")
	if err := s.Del(t.Context(), a.Key); err != nil || made(t, s) != "" {
		t.Errorf("a second Del: %v, left %q", err, made(t, s))
	}
}

// TestRollbackFails: what cannot be rolled back keeps its record, and its leases.
func TestRollbackFails(t *testing.T) {
	for _, how := range []string{"error", "left"} {
		s := testStore(t)
		trap(t, s, "0", "del")
		trap(t, s, "2", how)
		err := s.Add(t.Context(), claiming(attachment(s.Dir(), 3)))
		if err == nil || !strings.Contains(err.Error(), "add 2") || !strings.Contains(err.Error(), "delete 0") {
			t.Errorf("got %v", err)
		}
		if got := made(t, s); got != "0" {
			t.Errorf("left: %q", got)
		}
		untrap(t, s, "0")
		if err := s.Del(t.Context(), testKey("c")); err != nil {
			t.Error(err)
		}
		if got := made(t, s); got != "" {
			t.Errorf("left: %q", got)
		}
		same(t, dump(t, s), map[string]string{})
	}
}

// TestChanged: what a step learns is in the record.
func TestChanged(t *testing.T) {
	s := testStore(t)
	trap(t, s, "1", "changed")
	if err := s.Add(t.Context(), claiming(attachment(s.Dir(), 3))); err != nil {
		t.Fatal(err)
	}
	if a, err := s.Get(t.Context(), testKey("c")); err != nil || a.MAC != "of 1" {
		t.Errorf("got %+v, %v", a, err)
	}
}

func TestReload(t *testing.T) {
	s := testStore(t)
	if err := s.Add(t.Context(), claiming(attachment(s.Dir(), 3))); err != nil {
		t.Fatal(err)
	}
	a, err := s.Get(t.Context(), testKey("c"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(s.Dir(), "step.1")); err != nil {
		t.Fatal(err)
	}
	if err := Reload(t.Context(), &Adding{Attachment: a}); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), a); err != nil {
		t.Error(err)
	}
}

func TestGC(t *testing.T) {
	s := testStore(t)
	for _, k := range []Key{
		{"net", "live", "eth0", Main}, {"net", "dead", "eth0", Main}, {"net", "live", "eth1", Main},
		{"net", "dead", "eth0", IPAM}, {"net2", "dead", "eth0", Main}, {"ne", "dead", "eth0", Main},
	} {
		a := &Attachment{Key: k, Steps: []Step{&file{s.Dir(), k.Hash()}}}
		if err := s.Add(t.Context(), &Adding{Attachment: a}); err != nil {
			t.Fatal(err)
		}
	}
	stuck := Key{"net", "dead", "eth0", Main}
	trap(t, s, stuck.Hash(), "del")
	gc := func() error {
		return s.GC(t.Context(), "net", Main, func(a *Attachment) bool { return a.Container == "live" && a.IfName == "eth0" })
	}
	if err := gc(); err == nil || !strings.Contains(err.Error(), "container dead") {
		t.Errorf("got %v", err)
	}
	names := func() (left []string) {
		all, err := s.List(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range all {
			left = append(left, fmt.Sprintf("%s/%s/%s/%s", a.Network, a.Container, a.IfName, a.Role))
		}
		return left
	}
	const rest = "ne/dead/eth0/ %snet/dead/eth0/ipam net/live/eth0/ net2/dead/eth0/"
	if got, want := strings.Join(names(), " "), fmt.Sprintf(rest, "net/dead/eth0/ "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	untrap(t, s, stuck.Hash())
	if err := gc(); err != nil {
		t.Error(err)
	}
	if got, want := strings.Join(names(), " "), fmt.Sprintf(rest, ""); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
