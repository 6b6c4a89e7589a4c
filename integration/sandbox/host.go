// Package sandbox gives tests and benchmarks hosts of their own on one machine.
//
// A [Host] is a network and a mount namespace with an empty /run, /etc/cni, /var/lib/cni and
// /var/lib/berth. Nothing that runs in it reaches the machine's interfaces, routes,
// firewall or state. A process can have many hosts at a time. It needs root.
package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Host is a machine as a CNI plugin sees it. Its namespaces last until [Host.Close].
type Host struct {
	mnt, net *os.File
}

// New makes a host with lo up and nothing else.
func New() (*Host, error) {
	h := &Host{}
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
			return fmt.Errorf("new namespaces: %w", err)
		}
		var err error
		if h.net, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		if h.mnt, err = os.Open("/proc/thread-self/ns/mnt"); err != nil {
			return err
		}
		return furnish()
	})
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("make sandbox host: %w", err)
	}
	return h, nil
}

// Close lets go of the host. Its namespaces, with all that is in them, end with the
// last process in them.
func (h *Host) Close() {
	for _, f := range []*os.File{h.mnt, h.net} {
		if f != nil {
			f.Close()
		}
	}
}

// NetnsPath is a path of the host's network namespace that any program on the
// machine can open until [Host.Close].
func (h *Host) NetnsPath() string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), h.net.Fd())
}

// furnish gives the calling thread's new namespaces their own mounts.
func furnish() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	// /sys shows the interfaces of the namespace it was mounted in.
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	for _, dir := range []string{"/run", "/var/lib/cni", "/var/lib/berth", "/etc/cni"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mount tmpfs on %s: %w", dir, err)
		}
	}
	if err := os.Mkdir(netnsDir, 0o755); err != nil {
		return err
	}
	return loopbackUp()
}

// Do runs fn on a thread that is in the host's namespaces, and so are the sockets
// it opens and the programs it starts. The thread ends with fn; goroutines that fn
// starts are elsewhere. Any number may run at a time.
func (h *Host) Do(fn func() error) error {
	return onThread(func() error {
		if err := h.enter(); err != nil {
			return err
		}
		return fn()
	})
}

func (h *Host) enter() error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare fs: %w", err)
	}
	if err := unix.Setns(int(h.mnt.Fd()), unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("enter mount namespace: %w", err)
	}
	if err := unix.Setns(int(h.net.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace: %w", err)
	}
	return nil
}

// onThread runs fn on a thread of its own. The goroutine ends locked, so that the
// thread ends with it and no other goroutine meets its namespaces.
func onThread(fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := errors.New("did not return")
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v", p)
			}
			done <- err
		}()
		err = fn()
	}()
	return <-done
}

// Output runs a program on the host and returns what it wrote on both streams.
func (h *Host) Output(name string, args ...string) (string, error) {
	var out []byte
	err := h.Do(func() (err error) {
		out, err = exec.Command(name, args...).CombinedOutput()
		return err
	})
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// Script runs commands, one a line, and stops at the first that fails. Words are
// split at blanks; there is no quoting.
func (h *Host) Script(lines string) error {
	for line := range strings.Lines(lines) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if _, err := h.Output(words[0], words[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// OwnNetns gives the host's own network namespace a path, as a plugin finds it in
// CNI_NETNS when a runtime is wrong, or another plugin has re-bound the path.
func (h *Host) OwnNetns(path string) error {
	return h.Do(func() error {
		if err := os.WriteFile(path, nil, 0o444); err != nil {
			return err
		}
		return unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
	})
}
