package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/cni"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/berth-cni/berth/pkg/overlay"
	"github.com/berth-cni/berth/pkg/overlay/overlaytest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// testHost is a host without networks.
func testHost(t *testing.T) *Host {
	t.Helper()
	return &Host{Dir: conflist.Dir(t.TempDir()), Store: attach.New(t.TempDir(), cni.Decode), DataDir: t.TempDir(),
		Warn: func(err error) { t.Errorf("warning: %v", err) }, Now: func() time.Time { return noon }}
}

// create makes a bridge network.
func create(h *Host, name string, options ...string) error {
	return h.Create(context.Background(), &conflist.Spec{Name: name, Driver: conflist.Bridge, Options: options}, conflist.DefaultPools())
}

func ip(t *testing.T, args string) {
	t.Helper()
	if err := nstest.Run("ip", strings.Fields(args)...); err != nil {
		t.Fatal(err)
	}
}

// attached puts a record of a container on a network.
func attached(t *testing.T, h *Host, network string) attach.Key {
	t.Helper()
	a := &attach.Attachment{Key: attach.Key{Network: network, Container: "c", IfName: "eth0"}, Plugin: "bridge", Netns: "/run/netns/gone", Created: noon}
	if err := h.Store.Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
		t.Fatal(err)
	}
	return a.Key
}

// Twenty at once get twenty subnets, and of twenty of one name there is one.
func TestCreateAtOnce(t *testing.T) {
	nstest.Host(t)
	h := testHost(t)
	var all sync.WaitGroup
	var lock sync.Mutex
	made := map[bool]int{}
	for i := range 20 {
		for _, name := range []string{fmt.Sprint("n", i), "same"} {
			all.Go(func() {
				err := create(h, name)
				if err != nil && !strings.Contains(err.Error(), "there is a network of that name") {
					t.Error(err)
				}
				lock.Lock()
				defer lock.Unlock()
				made[err == nil]++
			})
		}
	}
	all.Wait()
	if made[true] != 21 || made[false] != 19 {
		t.Errorf("made, and not: %v", made)
	}
	files, err := h.Dir.List()
	if err != nil || len(files) != 21 {
		t.Fatalf("%d networks, %v", len(files), err)
	}
	for i, f := range files {
		for _, o := range files[:i] {
			if f.Taken()[0].Prefix.Overlaps(o.Taken()[0].Prefix) || f.Link() == o.Link() {
				t.Errorf("%s and %s overlap", f.Name, o.Name)
			}
		}
	}
}

// A network goes with its bridge, unless that was there before or is somebody else's,
// too.
func TestRemoveBridge(t *testing.T) {
	nstest.Host(t)
	h := testHost(t)
	good := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	remove := func(name string) error {
		_, err := h.Remove(t.Context(), name, false)
		return err
	}
	there := func(name string, want bool) {
		t.Helper()
		if err := nstest.Run("ip", "link", "show", name); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	ip(t, "link add old0 type bridge")
	good(create(h, "old", "bridge=old0"))
	good(create(h, "mine"))
	good(create(h, "shared"))
	for _, made := range []string{"br-mine", "br-shared"} {
		ip(t, "link add "+made+" type bridge")
	}
	ip(t, "link add wire type veth peer name far")
	ip(t, "link set wire master br-shared")
	var refused *RefusedError
	if err := create(h, "thief", "bridge=br-mine"); !errors.As(err, &refused) || !errors.Is(err, conflist.ErrInTheWay) || !strings.Contains(err.Error(), "is that of network mine") {
		t.Error(err)
	}
	good(errors.Join(remove("old"), remove("mine")))
	if err := remove("shared"); err == nil || !strings.Contains(err.Error(), "network shared is removed, but something is left of it: bridge br-shared stays: wire is on it") {
		t.Error(err)
	}
	there("old0", true)
	there("br-mine", false)
	there("br-shared", true)
	if err := create(h, "shared"); err == nil || !strings.Contains(err.Error(), "--opt bridge=br-shared takes it") {
		t.Error(err)
	}
}

// What somebody uses, or somebody else wrote, is not removed, and is not unused.
func TestRemoveRefuses(t *testing.T) {
	nstest.Host(t)
	h := testHost(t)
	for _, name := range []string{"free", "used"} {
		if err := create(h, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Dir.Write("foreign", []byte(`{"cniVersion": "1.0.0", "name": "foreign", "plugins": [{"type": "bridge", "bridge": "br9"}]}`)); err != nil {
		t.Fatal(err)
	}
	k := attached(t, h, "used")
	if names, err := h.Unused(t.Context(), func(*conflist.Mark) bool { return true }); err != nil || !slices.Equal(names, []string{"free"}) {
		t.Errorf("unused: %v, %v", names, err)
	}
	if names, err := h.Unused(t.Context(), func(m *conflist.Mark) bool { return m.Created.Before(noon) }); err != nil || len(names) > 0 {
		t.Errorf("unused that was made before: %v, %v", names, err)
	}
	for name, want := range map[string]string{"used": "is used by c (whose namespace is gone", "foreign": "somebody else wrote", "host": "is predefined"} {
		if _, err := h.Remove(t.Context(), name, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	if here, err := h.Remove(t.Context(), "nobody", false); here || err != nil {
		t.Errorf("nobody: %v, %v", here, err)
	}
	if err := h.Store.Del(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"used", "free"} {
		if here, err := h.Remove(t.Context(), name, false); !here || err != nil {
			t.Errorf("%s: %v, %v", name, here, err)
		}
	}
	if here, err := h.Remove(t.Context(), "foreign", true); !here || err != nil {
		t.Errorf("foreign, by force: %v, %v", here, err)
	}
	if left, err := h.Dir.List(); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestCheckOverlay: a network that spans hosts is in nobody's way.
func TestCheckOverlay(t *testing.T) {
	nstest.Host(t)
	h := testHost(t)
	if err := h.Create(t.Context(), &conflist.Spec{Name: "web", Driver: conflist.Bridge, Subnets: []netip.Prefix{netip.MustParsePrefix("10.70.0.0/24")}}, nil); err != nil {
		t.Fatal(err)
	}
	ip(t, "link add wire type veth peer name far")
	ip(t, "link set wire up")
	ip(t, "address add 10.71.0.1/24 dev wire")
	state := overlaytest.Example(noon)
	for _, c := range []struct{ name, subnet, want string }{
		{"fine", "10.99.0.0/16", ""},
		{"web", "10.99.0.0/16", "name: web: is a network of this host, too"},
		{"near", "10.70.0.0/16", "subnets: 10.70.0.0/16: overlaps 10.70.0.0/24 of network web"},
		{"routed", "10.71.0.0/16", "overlaps 10.71.0.0/24, which this host reaches through wire"},
		{"blue", "10.99.0.0/16", "blue"},
	} {
		n := &overlay.Network{Name: c.name, Subnets: []netip.Prefix{netip.MustParsePrefix(c.subnet)}}
		n.SetDefaults()
		err := h.CheckOverlay(t.Context(), n, state)
		var refused *RefusedError
		if (err == nil) != (c.want == "") || err != nil && (!errors.As(err, &refused) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
