package kubernetes

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/integration/cluster"
	"github.com/berth-cni/berth/pkg/overlay"
	store "github.com/berth-cni/berth/pkg/overlay/kubernetes"
	"github.com/berth-cni/berth/pkg/overlay/kubernetes/client"
	"github.com/berth-cni/berth/pkg/overlay/overlaytest"
)

// TestHistory: what hosts are told when the API server goes, comes back, and has lost
// something meanwhile; and what is an order of what they see to go.
func TestHistory(t *testing.T) {
	s, err := StartAPIServer(cluster.Here{}, Options{Port: 6843})
	must(t, err)
	t.Cleanup(s.Close)
	must(t, s.Define(Group))
	must(t, s.Apply("/api/v1/namespaces/"+store.DefaultNamespace, "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+store.DefaultNamespace+"}\n"))
	h := &historian{t: t, s: s, kubectl: connect(t, s, "kubectl", s.Token), stores: map[string]*store.Store{}}
	h.blue, err = openAs(t, s, "admin", s.Token).CreateNetwork(t.Context(), overlaytest.Net("blue", "10.42.0.0/16"))
	must(t, err)
	for i, node := range []string{"a", "b"} {
		h.stores[node] = openAs(t, s, node, s.Token)
		must(t, h.stores[node].Register(t.Context(), overlaytest.Node(node, i), "boot", false, overlaytest.NotLost(t)))
	}
	h.follow = overlaytest.Follow(t, h.stores["b"], true)
	h.own = overlaytest.Follow(t, h.stores["a"], true)
	t.Run("restart", h.restart)
	t.Run("compacted", h.compacted)
	t.Run("a node that lives", h.lives)
	t.Run("a network", h.network)
	t.Run("put back", h.putBack)
	t.Run("the definitions", h.definitions)
}

type historian struct {
	t       *testing.T
	s       *APIServer
	kubectl *client.Client
	stores  map[string]*store.Store
	blue    overlay.Network
	follow  *overlaytest.Follower // by b
	own     *overlaytest.Follower // by a
}

// claim has a host claim a block, of which the other one is told.
func (h *historian) claim(t *testing.T, prefix string) {
	t.Helper()
	b := overlaytest.BlockOf("blue", prefix, overlaytest.Node("a", 0))
	must(t, h.stores["a"].Claim(t.Context(), b))
	h.follow.Wait(t, "block "+prefix, func(st *overlay.State) bool { _, ok := st.Blocks[b.Key()]; return ok })
}

// restart: an API server that was away has everybody go on from where they were.
func (h *historian) restart(t *testing.T) {
	h.claim(t, "10.42.1.0/24")
	h.s.Kill()
	h.follow.WaitUpdates(t, overlaytest.Patience, "that it is away", func(all []overlay.Update) bool { return all[len(all)-1].Err != nil })
	time.Sleep(testTTL)
	must(t, h.s.Start())
	h.claim(t, "10.42.2.0/24")
	time.Sleep(2 * testTTL)
	full, away := h.follow.Count()
	if full != 1 || away != 1 {
		t.Errorf("%d full updates, away %d times, want one of each", full, away)
	}
	for _, u := range h.follow.Updates() {
		if len(u.GoneAlive)+len(u.GoneNodes)+len(u.GoneBlocks) > 0 {
			t.Errorf("somebody was gone: %+v", u)
		}
	}
}

// compacted: the changes that were missed cannot be had any more. Everything is read anew
// and compared, and nobody is told what is as it was.
func (h *historian) compacted(t *testing.T) {
	before := len(h.follow.Updates())
	h.s.Kill()
	h.etcdctl(t, "put", "/other", "x")
	revision := strings.Split(h.etcdctl(t, "get", "/other", "--write-out=fields"), "\"Revision\" : ")[1]
	h.etcdctl(t, "compact", strings.Fields(revision)[0])
	must(t, h.s.Start())
	h.claim(t, "10.42.3.0/24")
	for _, u := range h.follow.Updates()[before:] {
		if u.Full || len(u.GoneNodes)+len(u.GoneBlocks)+len(u.GoneNetworks) > 0 || len(u.Blocks) > 1 {
			t.Errorf("told what is as it was: %+v", u)
		}
	}
}

// lives: who deletes the object of a node whose agent runs gives no order.
func (h *historian) lives(t *testing.T) {
	var was, is client.Object
	must(t, h.kubectl.Get(t.Context(), nodeObjects.Path("a"), &was))
	must(t, h.kubectl.Delete(t.Context(), nodeObjects.Path("a"), "", ""))
	must(t, cluster.Until(overlaytest.Patience, func() error {
		err := h.kubectl.Get(t.Context(), nodeObjects.Path("a"), &is)
		if err == nil && is.Metadata.UID == was.Metadata.UID {
			err = errors.New("the object is still there")
		}
		return err
	}))
	h.follow.Wait(t, "the node again", func(st *overlay.State) bool {
		return st.Nodes["a"].Token == overlaytest.Node("a", 0).Token && st.Alive["a"].Instance != ""
	})
	time.Sleep(4 * time.Second)
	h.follow.State(func(st *overlay.State) {
		if len(st.Removed) > 0 {
			t.Errorf("an order: %v", st.Removed)
		}
	})
}

// network: who deletes a network gives one.
func (h *historian) network(t *testing.T) {
	red, err := h.stores["a"].CreateNetwork(t.Context(), overlaytest.Net("red", "10.43.0.0/16"))
	must(t, err)
	h.follow.Wait(t, "red", func(st *overlay.State) bool { return len(st.Networks) == 2 })
	must(t, h.kubectl.Delete(t.Context(), networkObjects.Path("red"), "", ""))
	h.follow.Wait(t, "the order", func(st *overlay.State) bool {
		r, ok := st.NetworkRemoved(red.ID)
		return ok && !r.Forced && r.Network == "red" && len(st.Networks) == 1
	})
}

// putBack: an etcd from a snapshot, which has gone on to a higher revision since. Only the
// nodes' own leases tell of it.
func (h *historian) putBack(t *testing.T) {
	copied := t.TempDir()
	h.stop(t)
	must(t, os.CopyFS(copied, os.DirFS(h.dir())))
	h.start(t)
	h.claim(t, "10.42.4.0/24")
	time.Sleep(testTTL) // a renewal of every lease
	full, _ := h.follow.Count()
	h.stop(t)
	must(t, os.RemoveAll(h.dir()))
	must(t, os.CopyFS(h.dir(), os.DirFS(copied)))
	h.startEtcd(t)
	for range 200 {
		h.etcdctl(t, "put", "/bump", "x")
	}
	must(t, h.s.Start())
	h.follow.WaitUpdates(t, overlaytest.Patience, "that it is another history", func(all []overlay.Update) bool {
		n := 0
		for _, u := range all {
			if u.Full {
				n++
			}
		}
		return n == full+1 && all[len(all)-1].Err == nil
	})
	for _, u := range h.follow.Updates() {
		if u.Full {
			full--
		}
		if u.Full && full < 0 && u.Broken == nil {
			t.Errorf("a full update that does not say why: %+v", u)
		}
	}
	h.claim(t, "10.42.4.0/24") // which it has lost
	h.follow.State(func(st *overlay.State) {
		for _, r := range st.Removed {
			if r.Node != "" {
				t.Errorf("an order: %v", r)
			}
		}
	})
}

// definitions: who deletes the definition of networks takes all of them away, and orders
// nothing. With the next one the store is another one.
func (h *historian) definitions(t *testing.T) {
	var orders int
	h.follow.State(func(st *overlay.State) { orders = len(st.Removed) })
	full, _ := h.follow.Count()
	must(t, h.kubectl.Delete(t.Context(), client.Definitions.Path("berthnetworks.berth.dev"), "", ""))
	h.follow.Wait(t, "no network", func(st *overlay.State) bool { return len(st.Networks) == 0 })
	time.Sleep(4 * time.Second)
	h.follow.State(func(st *overlay.State) {
		if len(st.Removed) != orders || len(st.Nodes) != 2 {
			t.Errorf("orders %v, nodes %v", st.Removed, st.Nodes)
		}
	})
	must(t, h.s.Define(Group))
	h.follow.WaitUpdates(t, 2*overlaytest.Patience, "that it is another store", func(all []overlay.Update) bool {
		n, broken := 0, false
		for _, u := range all {
			if u.Full {
				n, broken = n+1, u.Broken != nil
			}
		}
		return n == full+1 && broken
	})
}

func (h *historian) dir() string {
	for i, flag := range h.s.etcd {
		if flag == "--data-dir" {
			return h.s.etcd[i+1]
		}
	}
	h.t.Fatal("etcd has no data-dir")
	return ""
}

func (h *historian) stop(t *testing.T) {
	h.s.Kill()
	h.s.Etcd.Kill()
}

func (h *historian) startEtcd(t *testing.T) {
	t.Helper()
	var err error
	h.s.Etcd, err = h.s.host.Start("etcd", h.s.etcd...)
	must(t, err)
	must(t, cluster.Until(patience, func() error {
		return exec.Command("etcdctl", "--endpoints", h.endpoint(), "get", "x").Run()
	}))
}

func (h *historian) start(t *testing.T) {
	t.Helper()
	h.startEtcd(t)
	must(t, h.s.Start())
}

func (h *historian) endpoint() string {
	for i, flag := range h.s.etcd {
		if flag == "--listen-client-urls" {
			return h.s.etcd[i+1]
		}
	}
	return ""
}

func (h *historian) etcdctl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("etcdctl", append([]string{"--endpoints", h.endpoint()}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("etcdctl %v: %v\n%s", args, err, out)
	}
	return string(out)
}
