package etcd

import (
	"errors"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/overlaytest"
)

// TestForeign: nonsense in every family of keys is named, used by nobody, and told to
// be gone when it is.
func TestForeign(t *testing.T) {
	t.Parallel()
	all := cluster(t, 1)
	c, s := raw(t, all...), open(t, all)
	blue(t, s)
	good := overlaytest.Node("a", 0)
	check(t, s.Register(limited(t), good, "boot", false, func(error) {}))
	early := overlaytest.Follow(t, open(t, all), true)
	for key, v := range nonsense {
		if key == "networks/blue" {
			continue // what is good turns bad below
		}
		_, err := c.Put(limited(t), DefaultPrefix+key, v[0])
		check(t, err)
	}
	late := overlaytest.Follow(t, open(t, all), true)
	for _, f := range []*overlaytest.Follower{early, late} {
		f.Wait(t, "all keys that are bad", func(s *overlay.State) bool { return len(s.Bad) == len(nonsense)-1 })
		f.WaitSame(t, s)
		f.State(func(st *overlay.State) {
			if len(st.Networks) != 1 || len(st.Nodes) != 0 || len(st.Blocks) != 0 || len(st.Alive) != 0 {
				t.Errorf("used: %s", overlaytest.Print(st))
			}
			for key, err := range st.Bad {
				if strings.ContainsAny(key+err.Error(), "\x1b\n") {
					t.Errorf("not for a terminal: %q: %q", key, err)
				}
			}
		})
	}
	// What was good turns bad, and is mended.
	got, err := c.Get(limited(t), DefaultPrefix+"networks/blue")
	check(t, err)
	_, err = c.Put(limited(t), DefaultPrefix+"networks/blue", nonsense["networks/blue"][0])
	check(t, err)
	_, err = c.Do(limited(t), put(DefaultPrefix+"nodes/a", good))
	check(t, err)
	early.Wait(t, "blue bad", func(s *overlay.State) bool { return len(s.Networks) == 0 && len(s.Nodes) == 1 })
	early.WaitSame(t, s)
	if _, err := s.CreateNetwork(limited(t), overlaytest.Net("blue", "10.99.0.0/16")); err == nil || !strings.Contains(err.Error(), "networks/blue") {
		t.Errorf("create over a key that is bad: %v", err)
	}
	_, err = c.Put(limited(t), DefaultPrefix+"networks/blue", string(got.Kvs[0].Value))
	check(t, err)
	early.Wait(t, "blue good", func(s *overlay.State) bool { return len(s.Networks) == 1 })
	// A block whose key holds nonsense is taken, and is named.
	bad := overlaytest.BlockOf("blue", "10.42.3.0/24", good)
	err = s.Claim(limited(t), bad)
	var named overlay.BadKey
	if !errors.Is(err, overlay.ErrTaken) || !errors.As(err, &named) || named.Key != DefaultPrefix+"blocks/blue/10.42.3.0-24" {
		t.Errorf("claim of a block whose key is bad: %v", err)
	}
	_, err = c.Put(limited(t), DefaultPrefix+"nodes/z", "{")
	check(t, err)
	z := overlaytest.Node("z", 1)
	if err := s.Register(limited(t), z, "boot", false, func(error) {}); !errors.As(err, &named) || !strings.HasSuffix(named.Key, "nodes/z") {
		t.Errorf("register under a key that is bad: %v", err)
	}
	check(t, s.RemoveNode(limited(t), "z", false)) // which mends it
	check(t, s.Register(limited(t), z, "boot", false, func(error) {}))
	check(t, s.RemoveNetwork(limited(t), "green", true))
	for key := range nonsense {
		if key != "networks/blue" && key != "nodes/a" {
			_, err := c.Delete(limited(t), DefaultPrefix+key)
			check(t, err)
		}
	}
	for _, f := range []*overlaytest.Follower{early, late} {
		f.Wait(t, "nothing bad", func(s *overlay.State) bool { return len(s.Bad) == 0 })
		f.WaitSame(t, s)
	}
	// An alive key without a lease is no life.
	_, err = c.Do(limited(t), put(DefaultPrefix+"alive/q", overlay.Alive{Node: "q", Instance: "other", Address: good.Address}))
	check(t, err)
	check(t, s.Register(limited(t), overlaytest.Node("q", 2), "boot", false, func(error) {}))
	if full, _ := early.Count(); full != 1 {
		t.Errorf("%d full updates, want 1", full)
	}
	_, err = c.Delete(limited(t), DefaultPrefix, clientv3.WithPrefix())
	check(t, err)
	early.WaitSame(t, s)
}

// TestCollision: of two networks in each other's way the one that the store got first wins,
// for every host alike, whatever the other one says of its age; also for one that comes new.
func TestCollision(t *testing.T) {
	t.Parallel()
	all := cluster(t, 1)
	c, s := raw(t, all...), open(t, all)
	early := overlaytest.Follow(t, open(t, all), true)
	blue(t, s)
	state, err := s.State(limited(t))
	check(t, err)
	evil := state.Networks["blue"]
	evil.Name, evil.ID, evil.Created = "aaa", "evil", evil.Created.AddDate(-50, 0, 0)
	_, err = c.Do(limited(t), put(DefaultPrefix+"networks/aaa", evil))
	check(t, err)
	late := overlaytest.Follow(t, open(t, all), true)
	for what, f := range map[string]*overlaytest.Follower{"was there": early, "came new": late} {
		f.Wait(t, "both", func(s *overlay.State) bool { return len(s.Networks) == 2 })
		f.State(func(s *overlay.State) {
			if bad := s.Conflicts(); len(bad) != 1 || bad["aaa"] == nil {
				t.Errorf("for a host that %s %v lose", what, bad)
			}
		})
	}
	// What removes the loser leaves the other one, and its VNI.
	check(t, s.RemoveNetwork(limited(t), "aaa", false))
	got, err := c.Get(limited(t), DefaultPrefix+"vnis/4097")
	check(t, err)
	if len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "blue" {
		t.Errorf("the VNI is %v's", got.Kvs)
	}
	early.Wait(t, "blue alone", func(s *overlay.State) bool { return len(s.Networks) == 1 && len(s.Conflicts()) == 0 })
}
