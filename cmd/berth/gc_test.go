package main

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
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/nstest"
)

// TestGCLeavesTheLiving: a process is in the namespace, though its path is gone.
func TestGCLeavesTheLiving(t *testing.T) {
	w := newWard(t)
	a := w.container(3, false)
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
	w.sh("ip netns del " + filepath.Base(a.Netns))
	if code, out := w.berth("gc"); code != exitDone || !strings.HasPrefix(out, "left container c3") {
		t.Errorf("%d, %s", code, out)
	}
	if code, bad := w.doctor("--fix"); code != exitFailed || !strings.Contains(bad[inRecords], "1 containers go on without the path") {
		t.Errorf("%d, %q", code, bad)
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

// TestGCBesideAdd: what is being added is left alone, though it looks half made; also
// where the path does not lead to the attachment's namespace yet.
func TestGCBesideAdd(t *testing.T) {
	w := newWard(t)
	path := nstest.Namespace(t)
	host, err := link.HostCookie()
	if err != nil {
		t.Fatal(err)
	}
	collect := func() {
		if code, out := w.berth("gc"); code != exitDone || strings.Contains(out, "removed") {
			t.Errorf("%d, %s", code, out)
		}
	}
	a := &attach.Attachment{Key: attach.Key{Network: "host", Container: "h", IfName: "eth0"}, Netns: path, Cookie: host, Created: noon.Add(-time.Hour)}
	a.Steps = []attach.Step{slow{collect}, &link.Rebind{}}
	err = w.store.Add(t.Context(), &attach.Adding{Attachment: a})
	if err != nil {
		t.Fatal(err)
	}
	collect()
	if _, err := w.store.Get(t.Context(), a.Key); err != nil {
		t.Error(err)
	}
	if code, bad := w.doctor(); code != exitDone {
		t.Errorf("%d, %q", code, bad)
	}
	if err := w.store.Del(t.Context(), a.Key); err != nil {
		t.Error(err)
	}
}

func TestGCNetworks(t *testing.T) {
	w := newWard(t)
	for _, key := range []string{"c1", "c2"} {
		if err := w.store.Del(t.Context(), attach.Key{Network: "web", Container: key, IfName: "eth0"}); err != nil {
			t.Fatal(err)
		}
	}
	conflist := filepath.Join(os.Getenv("NETCONFPATH"), "web.conflist")
	if err := os.WriteFile(conflist, []byte(`{"cniVersion": "1.0.0", "name": "web", "plugins": [{"type": "bridge", "bridge": "br-web"}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	stays := func(what string) {
		t.Helper()
		if code, out := w.berth("gc", "--networks"); code != exitDone || out != "" {
			t.Errorf("%s: %d, %s", what, code, out)
		}
	}
	stays("it has a configuration")
	if err := os.Remove(conflist); err != nil {
		t.Fatal(err)
	}
	if code, out := w.berth("gc"); code != exitDone || out != "" {
		t.Errorf("without --networks: %d, %s", code, out)
	}
	w.sh("ip link add port type veth peer name there && ip link set port master br-web")
	if code, out := w.berth("gc", "--networks"); code != exitFailed || !strings.Contains(out, "somebody uses it") {
		t.Errorf("a bridge with a port: %d, %s", code, out)
	}
	w.sh("ip link del port")
	if code, out := w.berth("gc", "--networks", "web"); code != exitDone || !strings.HasPrefix(out, "removed network web with bridge br-web: ") {
		t.Errorf("%d, %s", code, out)
	}
	if ok, err := link.Exists("br-web"); ok || err != nil {
		t.Errorf("the bridge: %v, %v", ok, err)
	}
	if left := w.sh("nft list table inet berth"); strings.Contains(left, "br-web") {
		t.Errorf("left:\n%s", left)
	}
	stays("it has gone")
}

// mystery is a step of a later version.
type mystery struct{}

func (mystery) Kind() string                                    { return "mystery" }
func (mystery) Add(context.Context, *attach.Adding) error       { return nil }
func (mystery) Del(context.Context, *attach.Attachment) error   { return nil }
func (mystery) Check(context.Context, *attach.Attachment) error { return nil }

// TestUnreadable: what has a record that nobody can read is not taken for a stray.
func TestUnreadable(t *testing.T) {
	w := newWard(t)
	b := &attach.Attachment{Key: attach.Key{Network: "web", Container: "later", IfName: "eth0"}}
	b.Steps = []attach.Step{mystery{}}
	err := w.store.Add(t.Context(), &attach.Adding{Attachment: b})
	if err != nil {
		t.Fatal(err)
	}
	w.sh("ip link add " + b.HostIfName() + " type veth peer name other")
	if code, bad := w.doctor(); code != exitUsage || !strings.Contains(bad[inRecords], "mystery") || bad[inStrangers] != "" {
		t.Errorf("%d, %q", code, bad)
	}
	if code, out := w.berth("gc"); code != exitFailed || strings.Contains(out, "removed") {
		t.Errorf("gc: %d, %s", code, out)
	}
	if code, out := w.berth("reload"); code != exitFailed || !strings.Contains(out, "mystery") {
		t.Errorf("reload: %d, %s", code, out)
	}
	if ok, err := link.Exists(b.HostIfName()); err != nil || !ok {
		t.Errorf("its interface: %v, %v", ok, err)
	}
}
