package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// machine is a new Debian with a clone of the repository.
type machine struct {
	base   string // the new Debian, which is not written to
	cache  string
	source string // a repository
	dir    string // an empty folder, for the root
}

// run makes the machine's root in the namespaces of this process, and runs a command of
// the shell in it. It returns the command's exit code.
func (m machine) run(command string) int {
	env, err := m.enter()
	if err != nil {
		fmt.Fprintln(os.Stderr, "fresh: make a machine:", err)
		return 1
	}
	cmd := exec.Command("/bin/sh", "-c", command)
	cmd.Dir, cmd.Env = checkout, env
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, "fresh:", err)
		return 1
	}
	return cmd.ProcessState.ExitCode()
}

// Where the clone is on the machine, Go, and Go's caches.
const (
	checkout = "/root/berth"
	goroot   = "/usr/local/go"
	caches   = "/var/cache/go"
)

// enter makes the root, and has this process be in it. It returns the environment.
func (m machine) enter() ([]string, error) {
	settings, err := output("go", "env", "GOROOT", "GOPROXY", "GOSUMDB", "GONOSUMDB", "GONOPROXY", "GOPRIVATE", "GOFLAGS")
	if err != nil {
		return nil, err
	}
	values := strings.Split(settings+strings.Repeat("\n", 6), "\n") // the last may be empty
	env := []string{"HOME=/root", "USER=root", "LANG=C.UTF-8", "TERM=" + os.Getenv("TERM"),
		"PATH=" + goroot + "/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"GOMODCACHE=" + caches + "/mod", "GOCACHE=" + caches + "/build"}
	for i, name := range []string{"GOPROXY", "GOSUMDB", "GONOSUMDB", "GONOPROXY", "GOPRIVATE", "GOFLAGS"} {
		env = append(env, name+"="+values[i+1])
	}
	if err := m.root(values[0]); err != nil {
		return nil, err
	}
	return env, pivot(m.dir)
}

// root makes the root folder, of this process's mount namespace alone.
func (m machine) root(golang string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	// What is written is in memory and ends with the namespace: nothing is left to remove,
	// and the machine's disk may be an overlay itself, which another one cannot write to.
	if err := unix.Mount("tmpfs", m.dir, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", m.dir, err)
	}
	upper, work := filepath.Join(m.dir, "upper"), filepath.Join(m.dir, "work")
	if err := errors.Join(os.Mkdir(upper, 0o755), os.Mkdir(work, 0o755)); err != nil {
		return err
	}
	err := unix.Mount("overlay", m.dir, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", m.base, upper, work))
	if err != nil {
		return fmt.Errorf("mount an overlay over %s: %w: the kernel needs overlayfs, and a container the right to mount it", m.base, err)
	}
	if err := m.mounts(golang); err != nil {
		return err
	}
	if err := m.files(); err != nil {
		return err
	}
	_, err = output("git", "clone", "-q", "--no-hardlinks", m.source, filepath.Join(m.dir, checkout))
	return err
}

// mounts are those of a Debian that has booted, with Go and its caches.
func (m machine) mounts(golang string) error {
	for _, t := range []struct{ kind, dir, options string }{
		{"proc", "/proc", ""}, {"sysfs", "/sys", ""}, {"tmpfs", "/run", "mode=755"}, {"tmpfs", "/tmp", "mode=1777"},
		{"tmpfs", "/dev", "mode=755"}, {"devpts", "/dev/pts", "newinstance,ptmxmode=0666,mode=620"}, {"tmpfs", "/dev/shm", "mode=1777"},
	} {
		dir := filepath.Join(m.dir, t.dir)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(t.kind, dir, t.kind, 0, t.options); err != nil {
			return fmt.Errorf("mount %s on %s: %w", t.kind, t.dir, err)
		}
	}
	kept := filepath.Join(m.cache, "go")
	if err := os.MkdirAll(kept, 0o755); err != nil {
		return err
	}
	for from, to := range map[string]string{golang: goroot, kept: caches, "/sys/fs/cgroup": "/sys/fs/cgroup"} {
		if err := bind(from, filepath.Join(m.dir, to)); err != nil {
			return err
		}
	}
	if err := unix.Mount("", filepath.Join(m.dir, goroot), "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("make %s read-only: %w", goroot, err)
	}
	for _, device := range []string{"null", "zero", "full", "random", "urandom", "tty", "net/tun", "fuse"} {
		path := filepath.Join("/dev", device)
		if _, err := os.Stat(path); err != nil {
			continue // the kernel has no TUN, or no FUSE
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(m.dir, path)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(m.dir, path), nil, 0o666); err != nil {
			return err
		}
		if err := bind(path, filepath.Join(m.dir, path)); err != nil {
			return err
		}
	}
	return errors.Join(os.Symlink("/proc/self/fd", filepath.Join(m.dir, "/dev/fd")), os.Symlink("pts/ptmx", filepath.Join(m.dir, "/dev/ptmx")))
}

// bind mounts a folder, or a file on one that is there, with what is mounted below it.
func bind(from, to string) error {
	if info, err := os.Stat(from); err == nil && info.IsDir() {
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s to %s: %w", from, to, err)
	}
	return nil
}

// files are the machine's that tell how to reach others: resolver, certificates, apt.
func (m machine) files() error {
	const name = "fresh"
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	hosts, _ := os.ReadFile("/etc/hosts")
	files := map[string]string{
		"/etc/hostname": name + "\n",
		"/etc/hosts":    "127.0.0.1 localhost " + name + "\n" + string(hosts),
	}
	for _, path := range []string{"/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt"} {
		data, err := os.ReadFile(path)
		if err == nil {
			files[path] = string(data)
		}
	}
	if err := aptFiles(files); err != nil {
		return err
	}
	for path, text := range files {
		mode := os.FileMode(0o644)
		if filepath.Base(filepath.Dir(path)) == "sbin" {
			mode = 0o755
		}
		path = filepath.Join(m.dir, path)
		_ = os.Remove(path) // a link goes elsewhere
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			return err
		}
	}
	return nil
}

// pivot makes a folder that is a mount the root of this process. A program that enters the
// mount namespace again is in it, too, which it would not be after chroot.
func pivot(root string) error {
	const old = "/mnt"
	if err := unix.PivotRoot(root, filepath.Join(root, old)); err != nil {
		return fmt.Errorf("pivot root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := unix.Unmount(old, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the machine's root: %w", err)
	}
	return nil
}
