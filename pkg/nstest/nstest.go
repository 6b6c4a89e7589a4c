// Package nstest gives tests a host and containers of their own: real network
// namespaces of the running kernel that the test makes and removes.
//
// A test binary whose TestMain is [Main] runs in its own network and mount
// namespace, with an empty /run, /var/lib/cni and /var/lib/berth; nothing that a test does reaches
// the machine's interfaces, routes or firewall.
package nstest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/containernetworking/plugins/pkg/testutils"
	"golang.org/x/sys/unix"
)

const sandboxEnv = "BERTH_TEST_SANDBOX"

// init keeps the main thread for the main goroutine: a test that took it into another
// namespace would take the whole process there, as /proc/PID/ns tells of it.
func init() { runtime.LockOSThread() }

// Main runs the tests in a sandbox: it starts the test binary again in new
// namespaces, and ends with its exit code. Without root it ends with an error,
// since a kernel test that did not run has shown nothing.
func Main(m *testing.M) {
	if os.Getenv(sandboxEnv) == "" {
		os.Exit(reexec())
	}
	if slices.Contains(os.Args, "-test.fuzzworker") {
		os.Exit(m.Run()) // a child of a process that is in the sandbox
	}
	if err := furnish(); err != nil {
		fmt.Fprintln(os.Stderr, "nstest:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func reexec() int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "nstest: network namespaces need root")
		return 1
	}
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, "nstest:", err)
		return 1
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), sandboxEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	// Pdeathsig is about the thread, which init has locked, not the process.
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() > 0 {
			return exit.ExitCode()
		}
		fmt.Fprintln(os.Stderr, "nstest:", err)
		return 1
	}
	return 0
}

// furnish makes the sandbox's mounts its own.
func furnish() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	// /sys shows the interfaces of the namespace it was mounted in.
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	for _, dir := range []string{"/run", "/var/lib/cni", "/var/lib/berth"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mount tmpfs on %s: %w", dir, err)
		}
	}
	if err := os.Mkdir("/run/netns", 0o755); err != nil {
		return err
	}
	return Run("ip", "link", "set", "lo", "up")
}

// Run runs a program in the calling thread's namespaces. The error has its output.
func Run(name string, args ...string) error {
	_, err := Output(name, args...)
	return err
}

// Output is [Run] that returns what the program wrote.
func Output(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// Host moves the calling test to a new network namespace with lo up, its "host",
// until the test ends. Programs and sockets that the test's own goroutine starts
// are in it; those of other goroutines are not.
func Host(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	old, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("new network namespace: %v", err)
	}
	t.Cleanup(func() {
		defer old.Close()
		if err := unix.Setns(int(old.Fd()), unix.CLONE_NEWNET); err != nil {
			t.Errorf("back to the sandbox's namespace: %v", err)
			return // the thread stays locked, and ends with the goroutine
		}
		runtime.UnlockOSThread()
	})
	if err := Run("ip", "link", "set", "lo", "up"); err != nil {
		t.Fatal(err)
	}
}

// ReadOnlySettings has /proc/sys read-only until the test ends, as a container of Docker has
// it.
func ReadOnlySettings(t testing.TB) {
	t.Helper()
	const sys = "/proc/sys"
	if err := unix.Mount(sys, sys, "", unix.MS_BIND, ""); err != nil {
		t.Fatalf("mount %s on itself: %v", sys, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(sys, 0); err != nil {
			t.Errorf("unmount %s: %v", sys, err)
		}
	})
	if err := unix.Mount("", sys, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatalf("make %s read-only: %v", sys, err)
	}
}

// Namespace makes a network namespace, a container's or another host's, and
// returns its path. `ip netns` knows it by the path's last element. It ends with
// the test.
func Namespace(t testing.TB) string {
	t.Helper()
	ns, err := testutils.NewNS()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	path := filepath.Join("/run/netns", filepath.Base(ns.Path())) // not by the link /var/run
	t.Cleanup(func() {
		for unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) == nil {
		}
		_ = os.Remove(path)
	})
	return path
}

// In runs fn on a thread that is in the namespace of the path.
func In(t testing.TB, path string, fn func()) {
	t.Helper()
	ns, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	old, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		t.Fatalf("enter %s: %v", path, err)
	}
	defer func() {
		if err := unix.Setns(int(old.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(err) // this thread must not serve another goroutine
		}
	}()
	fn()
}
