package attach

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
)

// few is a step that publishes at most so many ports.
type few struct{ Most int }

func (*few) Kind() string { return "few" }
func (f *few) Add(ctx context.Context, a *Adding) error {
	return f.Check(ctx, a.Attachment)
}
func (*few) Del(context.Context, *Attachment) error { return nil }
func (*few) Restorable()                            {}
func (f *few) Check(_ context.Context, a *Attachment) error {
	if len(a.Ports) > f.Most {
		return fmt.Errorf("%d ports, want %d", len(a.Ports), f.Most)
	}
	return nil
}

// TestPublish: ports are claimed with the record, or neither is, and are free again when they
// are withdrawn or when the steps cannot publish them.
func TestPublish(t *testing.T) {
	s := New(stateDir(t), func(string) Step { return &few{} })
	one, two := Key{Network: "a", Container: "one", IfName: "eth0"}, Key{Network: "a", Container: "two", IfName: "eth0"}
	for _, k := range []Key{one, two} {
		if err := s.Add(t.Context(), &Adding{Attachment: &Attachment{Key: k, Steps: []Step{&few{2}}}}); err != nil {
			t.Fatal(err)
		}
	}
	undone := 0
	undo := func(_ context.Context, before, now *Attachment) error {
		undone += len(before.Ports) - len(now.Ports)
		return nil
	}
	publish := func(k Key, ports ...Port) error {
		return s.Publish(t.Context(), k, func(a *Attachment) error {
			a.Ports = append(a.Ports, ports...)
			return nil
		}, undo)
	}
	has := func(k Key, want ...Port) {
		t.Helper()
		if a, err := s.Get(t.Context(), k); err != nil || !slices.Equal(a.Ports, want) {
			t.Errorf("%s has %v (%v), want %v", k, a.Ports, err, want)
		}
		consistent(t, s)
	}
	web, dns, more := port("", "tcp", 80), port("", "udp", 53), port("", "tcp", 81)
	if err := publish(one, web, dns); err != nil {
		t.Fatal(err)
	}
	has(one, web, dns)
	var held *HeldError
	if err := publish(two, more, web); !errors.As(err, &held) || held.Holder != one {
		t.Errorf("a port that another one has: %v", err)
	}
	has(two)
	if err := publish(one, more); err == nil || undone != 1 {
		t.Errorf("more than the step can: %v, undone %d", err, undone)
	}
	has(one, web, dns)
	err := s.Withdraw(t.Context(), one, func(a *Attachment) error {
		a.Ports = []Port{dns}
		return nil
	}, undo)
	if err != nil || undone != 2 {
		t.Errorf("withdraw: %v, undone %d", err, undone)
	}
	has(one, dns)
	if err := publish(two, web, more); err != nil {
		t.Errorf("ports that nobody has any more: %v", err)
	}
	has(two, web, more)
}
