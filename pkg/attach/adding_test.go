package attach

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// ending is a step that says something at the end.
type ending struct {
	file
	fn func(*Tx) error
}

func (e *ending) Claim(_ *Tx, a *Adding) error {
	a.AtEnd(e.fn)
	return nil
}

// TestAtEnd: what is to be said when all steps are there is said then, and only then;
// what fails takes the steps back.
func TestAtEnd(t *testing.T) {
	s := testStore(t)
	said, no := "", errors.New("no")
	var fault error
	add := func() error {
		a := claiming(attachment(s.Dir(), 2))
		a.Steps = append(a.Steps, &ending{file{s.Dir(), "end"}, func(tx *Tx) error {
			said += made(t, s)
			return errors.Join(tx.PutNetwork(Network{Name: "n"}), fault)
		}})
		return s.Add(t.Context(), a)
	}
	trap(t, s, "1", "error")
	if err := add(); err == nil || said != "" {
		t.Errorf("a step failed: %v, said %q", err, said)
	}
	untrap(t, s, "1")
	fault = no
	if err := add(); !errors.Is(err, no) || made(t, s) != "" {
		t.Errorf("the end failed: %v, left %q", err, made(t, s))
	}
	same(t, dump(t, s), map[string]string{})
	said, fault = "", nil
	if err := add(); err != nil || said != "0 1 end" {
		t.Errorf("%v, said with %q in place", err, said)
	}
}

// passing is a step that only claims.
type passing struct{ Claiming }

func (*passing) Kind() string { return "passing" }
func (p *passing) Claim(tx *Tx, a *Adding) error {
	a.MAC = "claimed"
	return nil
}

// TestEphemeral: the record has what was claimed, and no step of it.
func TestEphemeral(t *testing.T) {
	s := testStore(t)
	a := attachment(s.Dir(), 1)
	a.Leases, a.Ports = nil, nil
	a.Steps = append(a.Steps, &passing{})
	if err := s.Add(t.Context(), &Adding{Attachment: a}); err != nil {
		t.Fatal(err)
	}
	got, err := s.Get(t.Context(), a.Key)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Steps) != 1 || got.Steps[0].Kind() != "file" || got.MAC != "claimed" {
		t.Errorf("%+v", got)
	}
}

// TestAddUnrecorded adds, or takes back, and writes nothing down.
func TestAddUnrecorded(t *testing.T) {
	s := testStore(t)
	update(t, s, func(*Tx) error { return nil })
	for _, how := range []string{"error", "panic", ""} {
		trap(t, s, "1", how)
		err := AddUnrecorded(t.Context(), &Adding{Attachment: attachment(s.Dir(), 2)})
		if want := map[bool]string{true: "0 1"}[how == ""]; made(t, s) != want || (err == nil) != (how == "") {
			t.Errorf("%q: %v, %q in place", how, err, made(t, s))
		}
	}
	same(t, dump(t, s), map[string]string{})
}

// TestRecover: a panic is an error of one line, which says where.
func TestRecover(t *testing.T) {
	var none *Attachment
	for what, fn := range map[string]func(){
		"nil":   func() { _ = none.MAC },
		"index": func() { _ = []int{}[len(what(none))] },
		"error": func() { panic(fmt.Errorf("of %w", context.Canceled)) },
	} {
		err := func() (err error) {
			defer Recover(&err, "step veth")
			fn()
			return nil
		}()
		var bug *PanicError
		if !errors.As(err, &bug) || !strings.HasPrefix(err.Error(), "bug in step veth: ") ||
			!strings.Contains(err.Error(), "adding_test.go:") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", what, err)
		}
	}
	err := errors.New("as it was")
	func() { defer Recover(&err, "x") }()
	if err.Error() != "as it was" {
		t.Errorf("without a panic: %v", err)
	}
}

func what(*Attachment) string { return "" }

func TestNetworkClaim(t *testing.T) {
	s := testStore(t)
	add := func(container string, role Role, fail bool, settings ...string) bool {
		t.Helper()
		a := &Adding{Attachment: attachment(s.Dir(), 0)}
		a.Container, a.Role, a.Leases, a.Ports = container, role, nil, nil
		a.Steps = []Step{&Network{Name: "net", Link: "br0", Settings: settings}, &file{s.Dir(), container + string(role)}}
		if fail {
			trap(t, s, container, "error")
		}
		if err := s.Add(t.Context(), a); (err != nil) != fail {
			t.Fatal(err)
		}
		return a.NetworkChanged
	}
	for i, c := range []struct {
		role     Role
		fail     bool
		settings []string
		changed  bool
	}{
		{Main, true, nil, true},
		{Chained, false, nil, true}, // does not say that it is made
		{Main, false, nil, true},
		{Main, false, nil, false},
		{Main, true, []string{"internal"}, true},
		{Main, false, []string{"internal"}, true},
		{Main, false, []string{"internal"}, false},
		{Main, false, nil, true},
	} {
		if got := add(fmt.Sprint("c", i), c.role, c.fail, c.settings...); got != c.changed {
			t.Errorf("ADD %d: changed %v, want %v", i, got, c.changed)
		}
	}
	other := &Adding{Attachment: &Attachment{Key: testKey("o"), Steps: []Step{&Network{Name: "other", Link: "br1", Subnets: subnets("10.1.0.0/16")}}}}
	again := &Adding{Attachment: &Attachment{Key: testKey("p"), Steps: []Step{&Network{Name: "third", Link: "br2", Subnets: subnets("10.1.2.0/24")}}}}
	if err := s.Add(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	var overlap *OverlapError
	if err := s.Add(t.Context(), again); !errors.As(err, &overlap) {
		t.Errorf("overlapping: %v", err)
	}
}
