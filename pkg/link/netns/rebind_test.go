package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/berth-cni/berth/pkg/steptest"
	"golang.org/x/sys/unix"
)

// rebound is an attachment whose path is to refer to the namespace of another
// path; to the host's when that is empty.
func rebound(t *testing.T, from string) (*Rebind, *attach.Attachment) {
	t.Helper()
	r := &Rebind{From: from}
	to, err := r.open()
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	cookie, err := to.Cookie()
	if err != nil {
		t.Fatal(err)
	}
	return r, &attach.Attachment{Key: attach.Key{Network: "n", Container: "c1", IfName: "eth0"}, Netns: nstest.Namespace(t), Cookie: cookie}
}

// at says which namespace a path refers to and how many mounts are on it.
func at(t *testing.T, path string) string {
	t.Helper()
	ns, err := Open(path)
	if err != nil {
		return err.Error()
	}
	defer ns.Close()
	cookie, err := ns.Cookie()
	if err != nil {
		t.Fatal(err)
	}
	more, err := stacked(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("namespace %d, stacked %v", cookie, more)
}

// remove takes a path away as runtimes do, and fails unless that works at once.
func remove(t *testing.T, path string) {
	t.Helper()
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
		t.Errorf("unmount %s: %v", path, err)
	}
	if err := os.Remove(path); err != nil {
		t.Error(err)
	}
}

func TestRebindConforms(t *testing.T) {
	for name, from := range map[string]func() string{
		"host":  func() string { return "" },
		"share": func() string { return nstest.Namespace(t) },
	} {
		t.Run(name, func(t *testing.T) {
			nstest.Host(t)
			r, a := rebound(t, from())
			steptest.Conform(t, r, a, steptest.Refused, func() string { return at(t, a.Netns) })
			remove(t, a.Netns)
		})
	}
}

// Another process than the one that added does not have the old namespace: the
// path gets an empty one.
func TestRebindIsUndoneByAnotherProcess(t *testing.T) {
	for _, cookie := range []bool{true, false} {
		nstest.Host(t)
		r, a := rebound(t, "")
		if !cookie {
			a.Cookie = 0 // a kernel before 5.14
		}
		host := at(t, OwnPath)
		if err := r.Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
			t.Fatal(err)
		}
		if got := at(t, a.Netns); got != host {
			t.Errorf("after Add %s, want the host's %s", got, host)
		}
		if err := (&Rebind{}).Check(t.Context(), a); err != nil {
			t.Error(err)
		}
		if err := (&Rebind{}).Del(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		var got string
		nstest.In(t, a.Netns, func() {
			var err error
			if got, err = nstest.Output("ip", "-br", "address", "show", "lo"); err != nil {
				t.Fatal(err)
			}
		})
		if !strings.HasPrefix(got, "lo  ") || !strings.Contains(got, "DOWN") {
			t.Errorf("after Del the namespace has %s, want an empty one", got)
		}
		if err := (&Rebind{}).Check(t.Context(), a); err == nil {
			t.Error("Check passes after Del")
		}
		remove(t, a.Netns)
		if err := (&Rebind{}).Del(t.Context(), a); err != nil {
			t.Errorf("Del of a path that is gone: %v", err)
		}
	}
}

// The runtime unmounts and removes the path without any DEL, and a path that is a
// plain file, or another namespace's by now, is left alone.
func TestRebindLeavesOthers(t *testing.T) {
	nstest.Host(t)
	r, a := rebound(t, "")
	if err := r.Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
		t.Fatal(err)
	}
	remove(t, a.Netns)
	if err := os.WriteFile(a.Netns, nil, 0o444); err != nil {
		t.Fatal(err)
	}
	if err := (&Rebind{}).Del(t.Context(), a); err != nil {
		t.Error(err)
	}
	if Mounted(a.Netns) {
		t.Error("Del mounted on a plain file")
	}
	if err := os.Remove(a.Netns); err != nil {
		t.Fatal(err)
	}
	if err := nstest.Run("ip", "netns", "add", filepath.Base(a.Netns)); err != nil {
		t.Fatal(err)
	}
	before := at(t, a.Netns)
	if err := (&Rebind{}).Del(t.Context(), a); err != nil {
		t.Error(err)
	}
	if after := at(t, a.Netns); after != before {
		t.Errorf("Del changed a stranger's %s to %s", before, after)
	}
}

// A kill between the two mount operations, of ADD and of DEL, leaves two mounts;
// DEL leaves one that is not the host's.
func TestRebindAfterKill(t *testing.T) {
	needBeneath(t)
	for _, shared := range []bool{false, true} {
		t.Run(fmt.Sprintf("shared=%v", shared), func(t *testing.T) {
			nstest.Host(t)
			r, a := rebound(t, "")
			if !shared {
				a.Netns = plainNamespace(t)
			}
			host, err := Own()
			if err != nil {
				t.Fatal(err)
			}
			defer host.Close()
			half := func(ns *Namespace) { // what replaceMount does first
				t.Helper()
				if err := mountBeneath(a.Netns, ns); err != nil {
					t.Fatal(err)
				}
				if more, err := stacked(a.Netns); err != nil || !more {
					t.Fatalf("stacked %v, %v", more, err)
				}
			}
			check := func() {
				t.Helper()
				if err := (&Rebind{}).Del(t.Context(), a); err != nil {
					t.Fatal(err)
				}
				got := at(t, a.Netns)
				if !strings.HasSuffix(got, "stacked false") || got == at(t, OwnPath) {
					t.Errorf("after Del %s", got)
				}
			}
			half(host)
			check()
			if err := r.Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
				t.Fatal(err)
			}
			empty, err := newNamespace()
			if err != nil {
				t.Fatal(err)
			}
			half(empty)
			empty.Close()
			check()
			remove(t, a.Netns)
		})
	}
}

// needBeneath skips a test on a kernel that replaces a mount in two steps with a gap.
func needBeneath(t *testing.T) {
	t.Helper()
	path := plainNamespace(t)
	ns, err := newNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	err = mountBeneath(path, ns)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		t.Skip("this kernel has no MOVE_MOUNT_BENEATH (6.5)")
	}
	if err := errors.Join(err, unix.Unmount(path, unix.MNT_DETACH)); err != nil {
		t.Fatal(err)
	}
}

// plainNamespace is a namespace in a folder whose mounts are private; `ip netns`
// makes its own folder shared.
func plainNamespace(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "netns")
	ns, err := newNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if err := errors.Join(os.WriteFile(path, nil, 0o444), bind(path, ns)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	return path
}

// Whoever opens the path while it is replaced meets a namespace.
func TestReplaceHasNoGap(t *testing.T) {
	nstest.Host(t)
	needBeneath(t)
	r, a := rebound(t, "")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			ns, err := Open(a.Netns)
			if err != nil {
				t.Errorf("in between: %v", err)
				return
			}
			ns.Close()
		}
	})
	for range 200 {
		if err := errors.Join(r.Add(t.Context(), &attach.Adding{Attachment: a}), r.Del(t.Context(), a)); err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	wg.Wait()
	remove(t, a.Netns)
}

// The way of kernels before 6.5 ends in the same.
func TestSwapMount(t *testing.T) {
	nstest.Host(t)
	_, a := rebound(t, "")
	old, err := Open(a.Netns)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	host, err := Own()
	if err != nil {
		t.Fatal(err)
	}
	before := at(t, a.Netns)
	if err := swapMount(a.Netns, old, host); err != nil {
		t.Fatal(err)
	}
	if got, want := at(t, a.Netns), at(t, OwnPath); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	host.Close()
	closed := &Namespace{path: "closed", fd: 1 << 20}
	now, err := Open(a.Netns)
	if err != nil {
		t.Fatal(err)
	}
	defer now.Close()
	if err := swapMount(a.Netns, old, closed); err == nil {
		t.Error("a namespace that is not open was mounted")
	}
	if got := at(t, a.Netns); got != before {
		t.Errorf("after a failure %s, want %s back", got, before)
	}
	remove(t, a.Netns)
}

func TestRebindable(t *testing.T) {
	nstest.Host(t)
	path := nstest.Namespace(t)
	if err := Rebindable(path); err != nil {
		t.Error(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{fmt.Sprintf("/proc/%d/ns/net", os.Getpid()), OwnPath, link} {
		if err := Rebindable(p); !errors.Is(err, ErrNotRebindable) {
			t.Errorf("%s: %v", p, err)
		}
	}
	if err := nstest.Run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "eth0", "netns", filepath.Base(path)); err != nil {
		t.Fatal(err)
	}
	if err := Rebindable(path); err != nil {
		t.Errorf("with an interface that is down: %v", err)
	}
	if err := nstest.Run("ip", "-n", filepath.Base(path), "link", "set", "eth0", "up"); err != nil {
		t.Fatal(err)
	}
	if err := Rebindable(path); err == nil || !strings.Contains(err.Error(), "eth0") {
		t.Errorf("with an interface: %v", err)
	}
}
