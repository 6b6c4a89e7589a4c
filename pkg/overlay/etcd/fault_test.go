package etcd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/overlaytest"
)

func limited(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// retry goes on until the store, which was away, does it.
func retry(t testing.TB, fn func() error) {
	t.Helper()
	// A connection that was being made as its server went away may hang for 20 s, which
	// gRPC gives it.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		err := fn()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// host is a store with a node that is registered and has a block, and a Watch.
type host struct {
	*Store
	*overlaytest.Follower
	node overlay.Node
	lost chan error
}

func newHost(t testing.TB, all []*member, i int) *host {
	t.Helper()
	h := &host{Store: open(t, all), node: overlaytest.Node(fmt.Sprint("host", i), i), lost: make(chan error, 1)}
	h.Follower = overlaytest.Follow(t, h.Store, true)
	check(t, h.Register(t.Context(), h.node, fmt.Sprint("boot", i), false, func(err error) { h.lost <- err }))
	h.Wait(t, "its node, alive", func(s *overlay.State) bool { return s.Alive[h.node.Name].Node != "" })
	return h
}

func (h *host) State(ctx context.Context) (*overlay.State, error) { return h.Store.State(ctx) }

// kept fails when the name has been lost.
func (h *host) kept(t testing.TB) {
	t.Helper()
	select {
	case err := <-h.lost:
		t.Errorf("lost: %v", err)
	default:
	}
}

func (h *host) waitLost(t testing.TB) error {
	t.Helper()
	select {
	case err := <-h.lost:
		return err
	case <-time.After(30 * time.Second):
		t.Fatal("the loss was not noticed")
		return nil
	}
}

func blue(t testing.TB, s overlay.Admin) {
	t.Helper()
	_, err := s.CreateNetwork(limited(t), overlaytest.Net("blue", "10.42.0.0/16"))
	check(t, err)
}

func away(updates []overlay.Update) (n int) {
	for _, u := range updates {
		if u.Err != nil {
			n++
		}
	}
	return n
}

// again tells whether a node was written to be alive a second time. That it had died may
// be told together with that.
func again(node string) func([]overlay.Update) bool {
	return func(updates []overlay.Update) bool {
		n := 0
		for _, u := range updates {
			if slices.ContainsFunc(u.Alive, func(a overlay.Alive) bool { return a.Node == node }) {
				n++
			}
		}
		return n > 1
	}
}

// TestRestart: the store goes and comes back, and the watch goes on where it was.
func TestRestart(t *testing.T) {
	for name, end := range map[string]func(*member, testing.TB){"stop": (*member).stop, "kill": (*member).kill} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := cluster(t, 1)
			h := newHost(t, all, 0)
			blue(t, h)
			for round := range 2 {
				end(all[0], t)
				h.WaitUpdates(t, overlaytest.Patience, "to be told that it is away", func(u []overlay.Update) bool { return away(u) == round+1 })
				time.Sleep(testTTL / 2)
				start := time.Now()
				err := h.Claim(limited(t), overlaytest.BlockOf("blue", "10.42.9.0/24", h.node))
				if err == nil || !strings.Contains(err.Error(), "refused") || time.Since(start) > 10*time.Second {
					t.Errorf("claim from a store that is away: %v after %s", err, time.Since(start))
				}
				all[0].start(t)
				h.WaitUpdates(t, overlaytest.Patience, "to be told that it is back", func(u []overlay.Update) bool { return u[len(u)-1].Err == nil })
				b := overlaytest.BlockOf("blue", fmt.Sprintf("10.42.%d.0/24", round), h.node)
				retry(t, func() error { return h.Claim(limited(t), b) })
				h.Wait(t, "a change", func(s *overlay.State) bool { return s.Blocks[b.Key()].Node != "" })
			}
			h.WaitSame(t, h)
			if full, n := h.Count(); full != 1 || n != 2 {
				t.Errorf("%d full updates, want 1; told %d times that it is away, want 2", full, n)
			}
			h.kept(t)
		})
	}
}

// TestThree: of three members one goes, at last the leader: nobody notices but for
// some seconds.
func TestThree(t *testing.T) {
	t.Parallel()
	all := cluster(t, 3)
	h := newHost(t, all, 0)
	blue(t, h)
	claim := func(i int) {
		t.Helper()
		b := overlaytest.BlockOf("blue", fmt.Sprintf("10.42.%d.0/24", i), h.node)
		retry(t, func() error { return h.Claim(limited(t), b) })
		h.WaitFor(t, overlaytest.Patience, "the block", func(s *overlay.State) bool { return s.Blocks[b.Key()].Node != "" })
	}
	for i, m := range all {
		leader := leads(t, m)
		m.kill(t)
		claim(2 * i)
		m.start(t)
		ready(t, []*member{m})
		t.Logf("member %d (leader: %v) was away", i, leader)
	}
	leader := all[0]
	for _, m := range all {
		if leads(t, m) {
			leader = m
		}
	}
	for i := range 3 { // one that is slow
		m := all[i]
		m.signal(t, syscall.SIGSTOP)
		time.Sleep(300 * time.Millisecond)
		m.signal(t, syscall.SIGCONT)
	}
	claim(20)
	leader.signal(t, syscall.SIGSTOP) // one that hangs, with its connections open
	claim(21)
	time.Sleep(2 * testTTL)
	leader.signal(t, syscall.SIGCONT)
	claim(22)
	h.WaitSame(t, h)
	if full, _ := h.Count(); full != 1 {
		t.Errorf("%d full updates, want 1", full)
	}
	h.kept(t)
}

func leads(t testing.TB, m *member) bool {
	t.Helper()
	status, err := raw(t, m).Status(limited(t), m.url)
	check(t, err)
	return status.Leader == status.Header.MemberId
}

// TestNoLeader: the member that the watch is on is cut off from the others.
func TestNoLeader(t *testing.T) {
	t.Parallel()
	all := cluster(t, 3)
	h := newHost(t, all[:1], 0)
	all[1].signal(t, syscall.SIGSTOP)
	all[2].signal(t, syscall.SIGSTOP)
	h.WaitUpdates(t, overlaytest.Patience, "to be told that there is no leader", func(u []overlay.Update) bool { return away(u) == 1 })
	all[1].signal(t, syscall.SIGCONT)
	all[2].signal(t, syscall.SIGCONT)
	h.WaitUpdates(t, overlaytest.Patience, "it to be back", func(u []overlay.Update) bool { return u[len(u)-1].Err == nil })
	blue(t, h)
	h.WaitSame(t, h)
	h.kept(t)
}

// TestHang: the only member hangs with its connections open, for longer than the
// lease, and goes on.
func TestHang(t *testing.T) {
	t.Parallel()
	all := cluster(t, 1)
	h := newHost(t, all, 0)
	all[0].signal(t, syscall.SIGSTOP)
	start := time.Now()
	h.WaitUpdates(t, 30*time.Second, "to be told", func(u []overlay.Update) bool { return away(u) == 1 })
	t.Logf("noticed after %s", time.Since(start).Round(100*time.Millisecond))
	all[0].signal(t, syscall.SIGCONT)
	h.WaitUpdates(t, overlaytest.Patience, "the node, which died, to live again", again(h.node.Name))
	h.WaitSame(t, h)
	h.kept(t)
}

// TestMissed: the watch cannot go on where it was.
func TestMissed(t *testing.T) {
	t.Parallel()
	all := cluster(t, 1)
	h := newHost(t, all, 0)
	blue(t, h)
	check(t, h.Claim(limited(t), overlaytest.BlockOf("blue", "10.42.0.0/24", h.node)))
	h.WaitSame(t, h)

	t.Run("compacted", func(t *testing.T) {
		all[0].stop(t)
		elsewhere := all[0].elsewhere(t) // where the host cannot reach it
		admin := open(t, []*member{elsewhere})
		check(t, admin.RemoveNetwork(limited(t), "blue", true))
		_, err := admin.CreateNetwork(limited(t), overlaytest.Net("green", "10.43.0.0/16"))
		check(t, err)
		elsewhere.compact(t)
		elsewhere.stop(t)
		all[0].start(t)
		h.Wait(t, "green instead of blue", func(s *overlay.State) bool {
			_, green := s.Networks["green"]
			return green && len(s.Networks) == 1 && len(s.Blocks) == 0
		})
		if full, _ := h.Count(); full != 2 {
			t.Errorf("%d full updates, want 2", full)
		}
		h.WaitSame(t, h)
	})

	t.Run("put back", func(t *testing.T) {
		data := all[0].args[3]
		all[0].stop(t)
		check(t, os.CopyFS(data+".backup", os.DirFS(data)))
		all[0].start(t)
		h.WaitUpdates(t, overlaytest.Patience, "it to be back", func(u []overlay.Update) bool { return u[len(u)-1].Err == nil })
		for i := range 20 {
			_, err := h.CreateNetwork(limited(t), overlaytest.Net(fmt.Sprint("late", i), fmt.Sprintf("10.%d.0.0/16", 100+i)))
			check(t, err)
		}
		h.WaitSame(t, h)
		all[0].kill(t)
		check(t, os.RemoveAll(data))
		check(t, os.Rename(data+".backup", data))
		all[0].start(t)
		h.Wait(t, "only green", func(s *overlay.State) bool { return len(s.Networks) == 1 })
		h.WaitSame(t, h)
	})

	// The store goes on from a copy, past where the host was, before the host is back.
	t.Run("put back and gone on", func(t *testing.T) {
		data := all[0].args[3]
		all[0].stop(t)
		check(t, os.CopyFS(data+".backup", os.DirFS(data)))
		all[0].start(t)
		h.WaitUpdates(t, overlaytest.Patience, "it to be back", func(u []overlay.Update) bool { return u[len(u)-1].Err == nil })
		_, err := h.CreateNetwork(limited(t), overlaytest.Net("lost", "10.99.0.0/16"))
		check(t, err)
		h.WaitSame(t, h)
		full, _ := h.Count()
		all[0].kill(t)
		check(t, os.RemoveAll(data))
		check(t, os.Rename(data+".backup", data))
		elsewhere := all[0].elsewhere(t)
		for range 20 {
			_, err := raw(t, elsewhere).Put(limited(t), DefaultPrefix+"other", "x")
			check(t, err)
		}
		elsewhere.stop(t)
		all[0].start(t)
		h.WaitUpdates(t, overlaytest.Patience, "the break to be told", func(u []overlay.Update) bool {
			return slices.ContainsFunc(u, func(u overlay.Update) bool { return u.Broken != nil && len(u.Networks) == 1 })
		})
		h.WaitSame(t, h)
		if now, _ := h.Count(); now != full+1 {
			t.Errorf("%d full updates, want 1", now-full)
		}
	})
	h.kept(t)
}

// TestLost: somebody else takes the name, one way or another.
func TestLost(t *testing.T) {
	t.Parallel()
	all := cluster(t, 3)
	c, admin := raw(t, all...), open(t, all)
	key := func(h *host, family string) string { return DefaultPrefix + family + h.node.Name }

	t.Run("removed while away", func(t *testing.T) { // the others wait for it: it may take the leader away
		alone := newHost(t, all[:1], 0)
		all[0].kill(t)
		retry(t, func() error { return admin.RemoveNode(limited(t), alone.node.Name, true) })
		all[0].start(t)
		if err := alone.waitLost(t); !errors.Is(err, overlay.ErrRemoved) {
			t.Errorf("got %v, want %v", err, overlay.ErrRemoved)
		}
	})
	ready(t, all)
	t.Run("deleted by hand", func(t *testing.T) {
		t.Parallel()
		h := newHost(t, all[1:], 1)
		_, err := c.Delete(limited(t), key(h, nodes))
		check(t, err)
		// That is no order: it comes again as it was.
		retry(t, func() error {
			s, err := admin.State(limited(t))
			if err == nil && s.Nodes[h.node.Name].Token != h.node.Token {
				err = errors.New("the node is not back")
			}
			return err
		})
		h.kept(t)
	})
	t.Run("another token", func(t *testing.T) {
		t.Parallel()
		h := newHost(t, all[1:], 2)
		other := overlaytest.Node(h.node.Name, 7)
		_, err := c.Do(limited(t), put(key(h, nodes), other))
		check(t, err)
		var conflict *overlay.ConflictError
		if err := h.waitLost(t); !errors.As(err, &conflict) || conflict.Cloned || conflict.Address != other.Address {
			t.Errorf("got %v, want a conflict with %s", err, other.Address)
		}
	})
	t.Run("another instance", func(t *testing.T) {
		t.Parallel()
		h := newHost(t, all[1:], 3)
		lease, err := c.Grant(limited(t), 60)
		check(t, err)
		_, err = c.Do(limited(t), put(key(h, alive), overlay.Alive{Node: h.node.Name, Instance: "copy", Address: overlaytest.Node("x", 8).Address}, clientv3.WithLease(lease.ID)))
		check(t, err)
		time.Sleep(testTTL)
		h.kept(t) // it may be about to go
		_, err = c.Revoke(limited(t), lease.ID)
		check(t, err)
		h.Wait(t, "it alive again", func(s *overlay.State) bool { return s.Alive[h.node.Name].Instance == "boot3" })
		h.kept(t)
		short, err := c.Grant(limited(t), 2)
		check(t, err)
		kept, stop := context.WithCancel(context.Background())
		defer stop()
		beats, err := c.KeepAlive(kept, short.ID)
		check(t, err)
		go func() {
			for range beats {
			}
		}()
		_, err = c.Do(limited(t), put(key(h, alive), overlay.Alive{Node: h.node.Name, Instance: "copy", Address: overlaytest.Node("x", 8).Address}, clientv3.WithLease(short.ID)))
		check(t, err)
		var conflict *overlay.ConflictError
		if err := h.waitLost(t); !errors.As(err, &conflict) || !conflict.Cloned {
			t.Errorf("got %v, want a clone", err)
		}
	})
	t.Run("alive deleted by hand", func(t *testing.T) {
		t.Parallel()
		h := newHost(t, all[1:], 4)
		_, err := c.Delete(limited(t), key(h, alive))
		check(t, err)
		h.WaitUpdates(t, overlaytest.Patience, "it back", again(h.node.Name))
		h.kept(t)
	})
}
