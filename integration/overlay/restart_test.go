package overlay

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestRestart lets traffic flow between two hosts, and no datagram is lost whatever
// becomes of the agent and of the store.
func TestRestart(t *testing.T) {
	t.Parallel()
	b := newBed(t, 2, options{})
	one, two := b.container(b.Hosts[0], "one"), b.container(b.Hosts[1], "two")
	a := b.agents[b.Hosts[0]]
	for _, event := range []struct {
		name string
		do   func()
	}{
		{"agent stopped and started", func() {
			if err := a.Stop(); err != nil {
				t.Errorf("SIGTERM: %v", err)
			}
			time.Sleep(300 * time.Millisecond)
			must(t, a.Start())
		}},
		{"agent killed and started", func() {
			a.Kill()
			time.Sleep(300 * time.Millisecond)
			must(t, a.Start())
		}},
		{"both agents killed and started", func() {
			for _, a := range b.agents {
				a.Kill()
			}
			b.start(b.Hosts...)
			a = b.agents[b.Hosts[0]]
		}},
		{"store stopped and started", func() {
			b.store.Stop()
			time.Sleep(time.Second)
			must(t, b.store.Start())
		}},
		{"store killed and started", func() {
			b.store.Members[0].Kill()
			must(t, b.store.Start())
		}},
		{"store compacted", func() { must(t, b.store.Compact()) }},
		{"leases revoked", func() {
			n, err := b.store.RevokeLeases()
			must(t, err)
			if n == 0 {
				t.Error("no agent has a lease")
			}
		}},
	} {
		tr := startTraffic(t, one, two)
		time.Sleep(200 * time.Millisecond)
		event.do()
		took := b.settled()
		time.Sleep(200 * time.Millisecond)
		tr.whole(event.name)
		b.eventually(patience, func() error {
			if alive := b.keys("alive"); strings.Count(alive, "/alive/") != 2 {
				return fmt.Errorf("alive in the store: %q", alive)
			}
			return a.Probe("readyz")
		})
		t.Logf("%s: as wanted after %v", event.name, took.Round(time.Millisecond))
	}
	b.reaches(one, two)
}

// TestAway adds, checks and removes containers while the store is away, while the agent
// is, and while both are; and an agent starts without the store.
func TestAway(t *testing.T) {
	b := newBed(t, 2, options{})
	far := b.container(b.Hosts[1], "far")
	h := b.Hosts[0]
	a := b.agents[h]
	works := func(name string) {
		t.Helper()
		c := b.container(h, name)
		b.reaches(c, far)
		n := b.network(h, "blue")
		must(t, n.Status())
		must(t, n.Check(c.Container))
		must(t, n.Del(c.Container))
	}
	b.store.Stop()
	works("no-store")
	a.Kill()
	works("nothing")
	must(t, a.Start()) // ready, on what it remembers
	b.settled()
	works("agent-only")
	must(t, b.store.Start())
	b.settled()
	a.Kill()
	works("store-only")
	must(t, a.Start())
	b.settled()
	works("all")
}

// TestMembers loses one member of three, has another hang, and hosts come all the same.
func TestMembers(t *testing.T) {
	t.Parallel()
	b := newBed(t, 2, options{members: 3})
	one, two := b.container(b.Hosts[0], "one"), b.container(b.Hosts[1], "two")
	for i, m := range b.store.Members {
		tr := startTraffic(t, one, two)
		m.Kill()
		c, err := b.Host(string(rune('x'+i)), 100+i)
		must(t, err)
		b.start(c)
		b.settled()
		tr.whole("member " + m.Name + " lost")
		b.reaches(one, b.container(c, "new"))
		must(t, m.Start())
	}
	slow := b.store.Members[0]
	slow.Pause()
	defer slow.Resume()
	c, err := b.Host("last", 120)
	must(t, err)
	b.start(c)
	// Who talks to a member that hangs notices after keep-alives of 13 s.
	t.Logf("with a member that hangs: as wanted after %v", b.settledWithin(30*time.Second).Round(time.Millisecond))
	b.reaches(one, two, b.container(c, "while-slow"))
}
