// Package proc reads and writes files of proc(5), the settings in /proc/sys among them.
//
// It does so by system calls: the os package would start the runtime's poller for such
// a file, which costs a short-lived process nine more. For the same reason, and since
// it writes a setting that has its value already (and so waits for the kernel's
// interface lock), containernetworking/plugins/pkg/utils/sysctl does not serve.
package proc

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Net is the path of a setting below /proc/sys/net, of the calling thread's network
// namespace.
func Net(parts ...string) string { return "/proc/sys/net/" + strings.Join(parts, "/") }

// NetSetting is the value of such a setting; empty when it cannot be read.
func NetSetting(parts ...string) string {
	value, _ := Read(Net(parts...))
	return value
}

// FS is an instance of proc: the zero value is /proc.
type FS struct {
	root int // a descriptor of its root; 0: /proc
}

// Own makes an instance of proc that nobody else sees, for settings of a container's
// namespace. In one that lasts, the kernel keeps what was looked up for each namespace in
// one list, since "conf/eth0" has the same name in all (fs/proc/proc_sysctl.c): after a
// thousand containers looking up takes ten times as long, for the host as well. Where there
// cannot be one (before kernel 5.2, in a user namespace), and where /proc/sys is
// read-only on purpose, it is /proc.
func Own() FS {
	var st unix.Statfs_t // of a folder that all namespaces share
	if err := unix.Statfs("/proc/sys", &st); err != nil || st.Flags&unix.ST_RDONLY != 0 {
		return FS{}
	}
	fs, err := unix.Fsopen("proc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return FS{}
	}
	defer unix.Close(fs)
	if unix.FsconfigCreate(fs) != nil {
		return FS{}
	}
	root, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return FS{}
	}
	return FS{root}
}

// Close ends the use of the instance.
func (fs FS) Close() {
	if fs.root != 0 {
		_ = unix.Close(fs.root)
	}
}

// Read returns what the file has, without spaces around it; empty when the kernel does
// not have the file. Of a long file, the first 4 KiB.
func Read(path string) (string, error) { return FS{}.Read(path) }

// Set writes a setting unless it has the value already: writing one of the forwarding
// switches waits for the kernel's interface lock even then. changed tells which. A
// setting that the kernel does not have (IPv6 off) is left alone.
func Set(path, value string) (changed bool, err error) { return FS{}.Set(path, value) }

// Protect is [Set] for a setting that only protects something, or saves time. Where
// /proc/sys cannot be written, as in a container that has it read-only, it stays as it is:
// left.
func Protect(path, value string) (left bool, err error) { return FS{}.Protect(path, value) }

// Read is the function of that name. The path begins with /proc.
func (fs FS) Read(path string) (string, error) {
	fd, err := fs.open(path, unix.O_RDONLY)
	if errors.Is(err, unix.ENOENT) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	defer unix.Close(fd)
	buf := make([]byte, 4<<10)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return strings.TrimSpace(string(buf[:n])), nil
}

// Set is the function of that name.
func (fs FS) Set(path, value string) (changed bool, err error) {
	have, err := fs.Read(path)
	if err != nil || have == value || have == "" {
		return false, err
	}
	if err := fs.write(path, value); err != nil {
		return false, err
	}
	return true, nil
}

// Change is Set for a setting that has another value as a rule: it is read only where it
// cannot be written.
func (fs FS) Change(path, value string) error {
	err := fs.write(path, value)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if have, bad := fs.Read(path); bad == nil && have == value {
		return nil
	}
	return err
}

// host is where a container has the host's files (as under systemd-nspawn and flatpak). In
// one that is not privileged /proc/sys is read-only, and a volume may have the host's
// /proc/sys/net there: the settings are those of the network namespace all the same.
const host = "/run/host"

func (fs FS) write(path, value string) error {
	fd, err := fs.open(path, unix.O_WRONLY)
	if fs.root == 0 && IsReadOnly(err) {
		if outside, e := fs.open(host+path, unix.O_WRONLY); e == nil {
			fd, err = outside, nil
		}
	}
	if err == nil {
		_, err = unix.Write(fd, []byte(value))
		err = errors.Join(err, unix.Close(fd))
	}
	if err != nil {
		return fmt.Errorf("set %s to %s: %w", path, value, err)
	}
	return nil
}

// Protect is the function of that name.
func (fs FS) Protect(path, value string) (left bool, err error) {
	if _, err = fs.Set(path, value); IsReadOnly(err) {
		return true, nil
	}
	return false, err
}

// IsReadOnly tells whether a setting could not be written because /proc/sys cannot.
func IsReadOnly(err error) bool { return errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES) }

// Writable tells whether [Set] could write the setting.
func Writable(path string) bool {
	access := func(path string) error { return unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS) }
	return !IsReadOnly(access(path)) || access(host+path) == nil
}

func (fs FS) open(path string, flags int) (int, error) {
	dir := unix.AT_FDCWD
	if fs.root != 0 {
		dir, path = fs.root, strings.TrimPrefix(path, "/proc/")
	}
	for {
		fd, err := unix.Openat(dir, path, flags|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}
