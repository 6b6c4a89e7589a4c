package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// guest is the first process of a machine: it makes the root, has a child run the tests,
// and powers the machine off.
func guest(dir string) {
	err := furnish(dir)
	if err == nil {
		err = child()
	}
	if err != nil {
		fmt.Println(said + err.Error())
	}
	unix.Sync()
	fmt.Println(said + over)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// child runs this program again for the tests, and waits for all processes that have lost
// their parents meanwhile.
func child() error {
	cmd := exec.Command("/proc/self/exe")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the tests: %w", err)
	}
	for {
		var status unix.WaitStatus
		switch pid, err := unix.Wait4(-1, &status, 0, nil); {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("wait for the tests: %w", err)
		case pid == cmd.Process.Pid && status != 0:
			return fmt.Errorf("the tests ended with status %#x", status)
		case pid == cmd.Process.Pid:
			return nil
		}
	}
}

// furnish makes the root: the machine's files, read-only, under a file system in memory
// that takes what is written, and the shared folder.
func furnish(dir string) error {
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil && err != unix.EBUSY {
		return fmt.Errorf("mount /proc: %w", err)
	}
	for _, m := range strings.Split(os.Getenv(earlyEnv), ",") {
		if err := load(m); err != nil {
			return err
		}
	}
	const base, root = "/mnt", "/mnt/root"
	if err := unix.Mount("tmpfs", base, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount a tmpfs on %s: %w", base, err)
	}
	for _, d := range []string{"lower", "upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(base, d), 0o755); err != nil {
			return err
		}
	}
	if err := share("root", "/", base+"/lower", unix.MS_RDONLY); err != nil {
		return err
	}
	if err := unix.Mount("overlay", root, "overlay", 0, "lowerdir=/mnt/lower,upperdir=/mnt/upper,workdir=/mnt/work"); err != nil {
		return fmt.Errorf("mount an overlay over the machine's files: %w", err)
	}
	if err := share("job", dir, root+dir, 0); err != nil {
		return err
	}
	// The kernel's threads, which start modprobe, have this process's root (CLONE_FS).
	if err := errors.Join(unix.Chdir(root), unix.Mount(".", "/", "", unix.MS_MOVE, ""), unix.Chroot("."), unix.Chdir("/")); err != nil {
		return fmt.Errorf("enter the root: %w", err)
	}
	return mounts(dir)
}

// load loads a module by its file. That may be compressed (kernel 5.17).
func load(path string) error {
	if path == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	const compressed = 4 // MODULE_INIT_COMPRESSED_FILE
	flags := 0
	if filepath.Ext(path) != ".ko" {
		flags = compressed
	}
	if err := unix.FinitModule(int(f.Fd()), "", flags); err != nil && err != unix.EEXIST {
		return fmt.Errorf("load %s: %w", path, err)
	}
	return nil
}

// share mounts one of the machine's folders.
func share(tag, dir, at string, flags uintptr) error {
	kind, source, options := os.Getenv(shareEnv), "none", dir
	if kind == "9p" {
		source, options = tag, "trans=virtio,version=9p2000.L,msize=512000"
		if flags&unix.MS_RDONLY != 0 {
			options += ",cache=loose"
		}
	}
	if err := unix.Mount(source, at, kind, flags, options); err != nil {
		return fmt.Errorf("mount the machine's %s by %s: %w", dir, kind, err)
	}
	return nil
}

// mounts are those of a Debian that has booted.
func mounts(dir string) error {
	for _, m := range []struct{ kind, at, options string }{
		{"proc", "/proc", ""}, {"sysfs", "/sys", ""}, {"cgroup2", "/sys/fs/cgroup", ""},
		{"devtmpfs", "/dev", "mode=755"}, {"devpts", "/dev/pts", "ptmxmode=0666"}, {"tmpfs", "/dev/shm", "mode=1777"},
		{"tmpfs", "/run", "mode=755"}, {"tmpfs", "/tmp", "mode=1777"},
	} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, 0, m.options); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	_ = os.Symlink("/proc/self/fd", "/dev/fd")
	j, err := readJob(dir)
	if err != nil {
		return err
	}
	if err := errors.Join(os.Setenv("PATH", j.Path), os.Setenv("HOME", "/root"), os.MkdirAll("/usr/lib/modules", 0o755)); err != nil {
		return err
	}
	if err := os.Symlink(j.Modules, filepath.Join("/usr/lib/modules", filepath.Base(j.Modules))); err != nil && !os.IsExist(err) {
		return err
	}
	// What the services of most hosts have loaded. The kernel may have none of a kind.
	for _, m := range []string{"tun", "br_netfilter"} {
		if out, err := exec.Command("modprobe", m).CombinedOutput(); err != nil {
			fmt.Printf("%sno %s: %s\n", said, m, bytes.TrimSpace(out))
		}
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("set lo up: %w: %s", err, out)
	}
	return unix.Sethostname([]byte("kernels"))
}
