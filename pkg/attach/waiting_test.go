package attach

import (
	"context"
	"slices"
	"testing"
)

// onNetwork adds a container to a network, with ports that wait for another one's end.
func onNetwork(t *testing.T, s *Store, network, container string, ports, waiting []Port) Key {
	t.Helper()
	k := Key{Network: network, Container: container, IfName: network}
	a := claiming(&Attachment{Key: k})
	a.Steps = []Step{&asks{ports: ports, waiting: waiting}}
	if err := s.Add(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	return k
}

// asks is a step that claims ports, and waits for others.
type asks struct {
	Claiming
	ports, waiting []Port
}

func (*asks) Kind() string                       { return "asks" }
func (*asks) Add(context.Context, *Adding) error { return nil }
func (c *asks) Claim(tx *Tx, a *Adding) error {
	a.Ports, a.Waiting = nil, c.waiting
	for _, p := range c.ports {
		if err := tx.ClaimPort(p, a.Key); err != nil {
			return err
		}
		a.Ports = append(a.Ports, p)
	}
	return nil
}

// A port that is freed goes to the attachment of the same container that asked for it
// next, and to no other.
func TestFreedPortGoesOn(t *testing.T) {
	s := New(stateDir(t), decodeFile)
	web, dns := port("", "tcp", 80), port("", "udp", 53)
	first := onNetwork(t, s, "a", "c", []Port{web, dns}, nil)
	second := onNetwork(t, s, "b", "c", nil, []Port{web})
	third := onNetwork(t, s, "d", "c", nil, []Port{web, dns})
	other := onNetwork(t, s, "a", "cc", []Port{port("", "tcp", 81)}, nil) // whose ID begins alike
	has := func(k Key) (ports, waiting []Port) {
		t.Helper()
		a, err := s.Get(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		return a.Ports, a.Waiting
	}
	want := func(k Key, ports, waiting []Port) {
		t.Helper()
		p, w := has(k)
		if !slices.Equal(p, ports) || !slices.Equal(w, waiting) {
			t.Errorf("%s has %v and waits for %v, want %v and %v", k, p, w, ports, waiting)
		}
	}
	if err := s.Del(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	want(second, []Port{web}, nil)
	want(third, []Port{dns}, []Port{web})
	if err := s.Del(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	want(third, []Port{dns, web}, nil)
	want(other, []Port{port("", "tcp", 81)}, nil)
	for _, k := range []Key{third, other} {
		if err := s.Del(t.Context(), k); err != nil {
			t.Fatal(err)
		}
	}
	same(t, dump(t, s), map[string]string{})
}
