package host

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/host/hosttest"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/link/netns"
	"github.com/berth-cni/berth/pkg/nstest"
)

// TestCollectLeavesTheLiving: a process is in the namespace, though its path is gone.
func TestCollectLeavesTheLiving(t *testing.T) {
	w := newHost(t)
	a := w.Container(3, false)
	sleep := exec.Command("ip", "netns", "exec", filepath.Base(a.Netns), "sleep", "60")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = sleep.Process.Kill()
		_ = sleep.Wait()
	}()
	for range 100 { // until it is inside
		if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", sleep.Process.Pid)); strings.TrimSpace(string(comm)) == "sleep" {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.Sh("ip netns del " + filepath.Base(a.Netns))
	if out, err := w.collect(CollectOptions{}); err != nil || !strings.HasPrefix(out, "left container c3") {
		t.Errorf("%v, %s", err, out)
	}
	if ok, err := link.Exists(a.HostIfName()); err != nil || !ok {
		t.Errorf("its interface: %v, %v", ok, err)
	}
}

// slow is a step that lets a test do something while an ADD is under way.
type slow struct{ during func() }

func (slow) Kind() string                                    { return "loopback" }
func (s slow) Add(context.Context, *attach.Adding) error     { s.during(); return nil }
func (slow) Del(context.Context, *attach.Attachment) error   { return nil }
func (slow) Check(context.Context, *attach.Attachment) error { return nil }

// TestCollectBesideAdd: what is being added is left alone, though it looks half made; also
// where the path does not lead to the attachment's namespace yet.
func TestCollectBesideAdd(t *testing.T) {
	w := newHost(t)
	path := nstest.Namespace(t)
	cookie, err := netns.HostCookie()
	if err != nil {
		t.Fatal(err)
	}
	collect := func() {
		if out, err := w.collect(CollectOptions{}); err != nil || strings.Contains(out, "removed") {
			t.Errorf("%v, %s", err, out)
		}
	}
	a := &attach.Attachment{Key: attach.Key{Network: "host", Container: "h", IfName: "eth0"}, Netns: path, Cookie: cookie, Created: hosttest.Noon.Add(-time.Hour)}
	a.Steps = []attach.Step{slow{collect}, &netns.Rebind{}}
	err = w.Store.Add(t.Context(), &attach.Adding{Attachment: a})
	if err != nil {
		t.Fatal(err)
	}
	collect()
	if _, err := w.Store.Get(t.Context(), a.Key); err != nil {
		t.Error(err)
	}
	if err := w.Store.Del(t.Context(), a.Key); err != nil {
		t.Error(err)
	}
}

func TestCollectNetworks(t *testing.T) {
	w := newHost(t)
	for _, key := range []string{"c1", "c2"} {
		if err := w.Store.Del(t.Context(), attach.Key{Network: "web", Container: key, IfName: "eth0"}); err != nil {
			t.Fatal(err)
		}
	}
	conflist := filepath.Join(os.Getenv("NETCONFPATH"), "web.conflist")
	if err := os.WriteFile(conflist, []byte(`{"cniVersion": "1.0.0", "name": "web", "plugins": [{"type": "bridge", "bridge": "br-web"}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	stays := func(what string) {
		t.Helper()
		if out, err := w.collect(CollectOptions{Unused: true}); err != nil || out != "" {
			t.Errorf("%s: %v, %s", what, err, out)
		}
	}
	stays("it has a configuration")
	if err := os.Remove(conflist); err != nil {
		t.Fatal(err)
	}
	if out, err := w.collect(CollectOptions{}); err != nil || out != "" {
		t.Errorf("without --networks: %v, %s", err, out)
	}
	w.Sh("ip link add port type veth peer name there && ip link set port master br-web")
	if out, err := w.collect(CollectOptions{Unused: true}); err == nil || !strings.Contains(err.Error(), "somebody uses it") {
		t.Errorf("a bridge with a port: %v, %s", err, out)
	}
	w.Sh("ip link del port")
	if out, err := w.collect(CollectOptions{Unused: true, Networks: []string{"web"}}); err != nil || !strings.HasPrefix(out, "removed network web with bridge br-web: ") {
		t.Errorf("%v, %s", err, out)
	}
	if ok, err := link.Exists("br-web"); ok || err != nil {
		t.Errorf("the bridge: %v, %v", ok, err)
	}
	if left := w.Sh("nft list table inet berth"); strings.Contains(left, "br-web") {
		t.Errorf("left:\n%s", left)
	}
	stays("it has gone")
}

// TestCollectKeepsForeignBridge: a bridge that was there before its network stays, with
// ports or without, while all that Berth has of the network goes.
func TestCollectKeepsForeignBridge(t *testing.T) {
	for name, more := range map[string]string{"without a port": "true", "with a port": "ip link add port type veth peer name there && ip link set port master br-lan"} {
		t.Run(name, func(t *testing.T) {
			w := newHost(t)
			w.Sh("ip link add br-lan type bridge && ip addr add 10.82.0.1/24 dev br-lan && ip link set br-lan up && " + more)
			err := w.Store.Update(t.Context(), func(tx *attach.Tx) error {
				return tx.PutNetwork(attach.Network{Name: "lan", Plugin: "bridge", Link: "br-lan"})
			})
			if err != nil {
				t.Fatal(err)
			}
			if out, err := w.collect(CollectOptions{Unused: true, Networks: []string{"lan"}}); err != nil || !strings.HasPrefix(out, "removed network lan: ") {
				t.Errorf("%v, %s", err, out)
			}
			if out := w.Sh("ip addr show br-lan"); !strings.Contains(out, "10.82.0.1/24") {
				t.Errorf("the bridge has %s", out)
			}
		})
	}
}

// TestCollectOtherMounts: what was attached in another mount namespace (mount_namespaces(7))
// may be there, where only that one sees its path; no interface of the host tells.
func TestCollectOtherMounts(t *testing.T) {
	w := newHost(t)
	for name, mounts := range map[string]uint64{"hidden": netns.MountNamespace() + 1, "gone": netns.MountNamespace()} {
		a := &attach.Attachment{Key: attach.Key{Network: "lan", Container: name, IfName: "eth0"}, Netns: "/run/netns/" + name + "-by-now",
			Cookie: 1, MountNS: mounts, Created: hosttest.Noon.Add(-time.Hour)}
		if err := w.Store.Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
			t.Fatal(err)
		}
	}
	out, err := w.collect(CollectOptions{})
	if err != nil || !strings.Contains(out, "left container hidden ") || !strings.Contains(out, "removed container gone ") {
		t.Errorf("%v, %s", err, out)
	}
}

// TestCollectSharedBridge: a bridge of several networks goes with the last of them.
func TestCollectSharedBridge(t *testing.T) {
	w := newHost(t)
	err := w.Store.Update(t.Context(), func(tx *attach.Tx) error {
		return tx.PutNetwork(attach.Network{Name: "beside", Plugin: "bridge", Link: "br-web"})
	})
	if err != nil {
		t.Fatal(err)
	}
	collect := func(want string) {
		t.Helper()
		if out, err := w.collect(CollectOptions{Unused: true}); err != nil || !strings.HasPrefix(out, want) || want == "" && out != "" {
			t.Errorf("%v, %s, want %s", err, out, want)
		}
	}
	collect("removed network beside: ") // the other one has containers
	for _, key := range []string{"c1", "c2"} {
		if err := w.Store.Del(t.Context(), attach.Key{Network: "web", Container: key, IfName: "eth0"}); err != nil {
			t.Fatal(err)
		}
	}
	conflist := filepath.Join(os.Getenv("NETCONFPATH"), "later.conflist") // has had no container yet
	if err := os.WriteFile(conflist, []byte(`{"cniVersion": "1.0.0", "name": "later", "plugins": [{"type": "bridge", "bridge": "br-web"}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	collect("removed network web: ")
	if ok, err := link.Exists("br-web"); !ok || err != nil {
		t.Errorf("the bridge: %v, %v", ok, err)
	}
	if err := os.Remove(conflist); err != nil {
		t.Fatal(err)
	}
	collect("")
}

// mystery is a step of a later version.
type mystery struct{}

func (mystery) Kind() string                                    { return "mystery" }
func (mystery) Add(context.Context, *attach.Adding) error       { return nil }
func (mystery) Del(context.Context, *attach.Attachment) error   { return nil }
func (mystery) Check(context.Context, *attach.Attachment) error { return nil }

// TestUnreadable: what has a record that nobody can read is not taken for a stray.
func TestUnreadable(t *testing.T) {
	w := newHost(t)
	b := &attach.Attachment{Key: attach.Key{Network: "web", Container: "later", IfName: "eth0"}}
	b.Steps = []attach.Step{mystery{}}
	err := w.Store.Add(t.Context(), &attach.Adding{Attachment: b})
	if err != nil {
		t.Fatal(err)
	}
	w.Sh("ip link add " + b.HostIfName() + " type veth peer name other")
	if out, err := w.collect(CollectOptions{}); err == nil || strings.Contains(out, "removed") {
		t.Errorf("gc: %v, %s", err, out)
	}
	if out, err := w.reload(); err == nil || !strings.Contains(out, "mystery") {
		t.Errorf("reload: %v, %s", err, out)
	}
	if ok, err := link.Exists(b.HostIfName()); err != nil || !ok {
		t.Errorf("its interface: %v, %v", ok, err)
	}
}
