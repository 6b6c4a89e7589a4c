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

// Read returns what the file has, without spaces around it; empty when the kernel does
// not have the file. Of a long file, the first 4 KiB.
func Read(path string) (string, error) {
	fd, err := open(path, unix.O_RDONLY)
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

// Set writes a setting unless it has the value already: writing one of the forwarding
// switches waits for the kernel's interface lock even then. changed tells which. A
// setting that the kernel does not have (IPv6 off) is left alone.
func Set(path, value string) (changed bool, err error) {
	have, err := Read(path)
	if err != nil || have == value || have == "" {
		return false, err
	}
	fd, err := open(path, unix.O_WRONLY)
	if err == nil {
		_, err = unix.Write(fd, []byte(value))
		err = errors.Join(err, unix.Close(fd))
	}
	if err != nil {
		return false, fmt.Errorf("set %s to %s: %w", path, value, err)
	}
	return true, nil
}

// Protect is [Set] for a setting that only protects something, or saves time. Where
// /proc/sys cannot be written, as in a container that has it read-only, it stays as it is:
// left.
func Protect(path, value string) (left bool, err error) {
	if _, err = Set(path, value); IsReadOnly(err) {
		return true, nil
	}
	return false, err
}

// IsReadOnly tells whether a setting could not be written because /proc/sys cannot.
func IsReadOnly(err error) bool { return errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES) }

// Writable tells whether [Set] could write the setting.
func Writable(path string) bool {
	return !IsReadOnly(unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS))
}

func open(path string, flags int) (int, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}
