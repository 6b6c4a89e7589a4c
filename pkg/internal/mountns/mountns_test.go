package mountns

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/berth-cni/berth/pkg/nstest"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// folder is one whose mounts are passed on, as /run of systemd's hosts.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	if err := unix.Mount("", dir, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	return dir
}

// netns mounts a network namespace in the folder, as a runtime does.
func netns(t *testing.T, dir, name string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	return path
}

// in runs fn on a thread with a mount namespace of its own, whose mounts have the
// propagation.
func in(t *testing.T, propagation uintptr, fn func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNS)
		if err == nil && propagation != 0 {
			err = unix.Mount("", "/", "", unix.MS_REC|propagation, "")
		}
		if err == nil {
			fn()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestElsewhere: a plugin in its runtime's mount namespace, in a daemon's whose mounts come
// from the host, and in one that has copies. The runtime is a process of this namespace.
func TestElsewhere(t *testing.T) {
	dir := folder(t)
	before := netns(t, dir, "before")
	link := filepath.Join(dir, "link") // as /var/run
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	sleep := exec.Command("sleep", "600")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sleep.Process.Kill(); _ = sleep.Wait() })
	caller := sleep.Process.Pid
	// A process in a namespace of its own whose parent is in this one.
	sh := exec.Command("unshare", "-m", "--propagation", "private", "sh", "-c", "umount -l "+dir+"; echo; exec sleep 600")
	ready, err := sh.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sh.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sh.Process.Kill(); _ = sh.Wait() })
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	child := sh.Process.Pid
	if why := Elsewhere(before, caller); why != "" {
		t.Errorf("in the same namespace: %s", why)
	}
	for name, c := range map[string]struct {
		propagation uintptr
		caller      int
		path        func() string // made when the namespace is there
		want        string        // empty: it would be seen
	}{
		"peers (Bidirectional)":        {0, caller, func() string { return before }, ""},
		"peers, nobody known":          {0, 0, func() string { return before }, ""},
		"slave (HostToContainer)":      {unix.MS_SLAVE, caller, func() string { return before }, "takes none back"},
		"slave, nobody known":          {unix.MS_SLAVE, 0, func() string { return before }, "takes none back"},
		"slave, by a link":             {unix.MS_SLAVE, 0, func() string { return filepath.Join(link, "before") }, "takes none back"},
		"slave, made there":            {unix.MS_SLAVE, 0, func() string { return netns(t, dir, "slave") }, ""},
		"copies":                       {unix.MS_PRIVATE, caller, func() string { return before }, "has it in another mount namespace"},
		"copies, by a link":            {unix.MS_PRIVATE, caller, func() string { return filepath.Join(link, "before") }, "has it in another mount namespace"},
		"copies, of a caller's caller": {unix.MS_PRIVATE, child, func() string { return before }, "has it in another mount namespace"},
		"copies, nobody known":         {unix.MS_PRIVATE, 0, func() string { return before }, ""},
		"private, made there":          {unix.MS_PRIVATE, caller, func() string { return netns(t, dir, "private") }, ""},
		"nothing is there":             {unix.MS_SLAVE, caller, func() string { return dir + "/nothing" }, ""},
		"a caller that has ended":      {unix.MS_PRIVATE, 1 << 30, func() string { return before }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, c.propagation, func() {
				if why := Elsewhere(c.path(), c.caller); !strings.Contains(why, c.want) || c.want == "" && why != "" {
					t.Errorf("%q, want %q", why, c.want)
				}
			})
		})
	}
	in(t, 0, func() { // a mount that is passed on to here later
		if late := netns(t, dir, "late"); Elsewhere(late, caller) != "" {
			t.Errorf("late: %s", Elsewhere(late, caller))
		}
	})
}
