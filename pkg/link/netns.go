package link

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// ErrNotNetns: the path is there and is not a network namespace.
var ErrNotNetns = errors.New("is not a network namespace")

// Netns is an open network namespace.
type Netns struct {
	path string
	file *os.File
}

// OpenNetns opens the namespace of a path. The error is fs.ErrNotExist when
// nothing is there, [ErrNotNetns] when it is something else.
func OpenNetns(path string) (*Netns, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open namespace: %w", err)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil || fs.Type != unix.NSFS_MAGIC && fs.Type != unix.PROC_SUPER_MAGIC {
		f.Close()
		return nil, fmt.Errorf("%s %w", path, ErrNotNetns)
	}
	return &Netns{path, f}, nil
}

// Path is the path that the namespace was opened by.
func (n *Netns) Path() string { return n.path }

// Close ends the use of the namespace.
func (n *Netns) Close() error { return n.file.Close() }

// IsOwn reports whether this is the namespace that the calling thread is in: the
// host's, for a plugin. Two namespaces that are open at one time have different
// inodes.
func (n *Netns) IsOwn() (bool, error) {
	theirs, err := n.file.Stat()
	if err != nil {
		return false, err
	}
	own, err := os.Stat(ownNetns)
	if err != nil {
		return false, err
	}
	return os.SameFile(own, theirs), nil
}

const ownNetns = "/proc/thread-self/ns/net"

// do runs fn on a thread that is in the namespace. Sockets that fn opens stay in
// it.
func (n *Netns) do(fn func() error) error {
	runtime.LockOSThread()
	own, err := os.Open(ownNetns)
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer own.Close()
	if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		if errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("%s %w", n.path, ErrNotNetns)
		}
		return fmt.Errorf("enter namespace %s: %w", n.path, err)
	}
	err = fn()
	if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); back != nil {
		// The thread stays locked, and ends with its goroutine.
		return errors.Join(err, fmt.Errorf("leave namespace %s: %w", n.path, back))
	}
	runtime.UnlockOSThread()
	return err
}

// dial opens a netlink socket in the namespace.
func (n *Netns) dial() (*conn, error) {
	var c *conn
	err := n.do(func() error {
		var err error
		c, err = dial()
		return err
	})
	return c, err
}

// Cookie is the number that the kernel gives a namespace for as long as it runs,
// never twice (SO_NETNS_COOKIE, kernel 5.14). 0 on an older kernel.
func (n *Netns) Cookie() (uint64, error) {
	c, err := n.dial()
	if err != nil {
		return 0, err
	}
	defer c.close()
	cookie, err := unix.GetsockoptUint64(c.fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if errors.Is(err, unix.ENOPROTOOPT) {
		return 0, nil
	}
	return cookie, err
}
