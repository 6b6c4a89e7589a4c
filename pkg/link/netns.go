package link

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// ErrNotNetns: the path is there and is not a network namespace.
var ErrNotNetns = errors.New("is not a network namespace")

// Netns is an open network namespace.
//
// It is not that of containernetworking/plugins/pkg/ns, whose Do costs 29 system calls,
// starts a thread, and has the runtime's poller started by its files, all of it on the
// way of an ADD; this one's costs 5.
type Netns struct {
	path string
	fd   int
}

// OpenNetns opens the namespace of a path. The error is fs.ErrNotExist when
// nothing is there, [ErrNotNetns] when it is something else.
func OpenNetns(path string) (*Netns, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0) // or it would wait for a FIFO's writer
	if err != nil {
		return nil, fmt.Errorf("open namespace %s: %w", path, err)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil || fs.Type != unix.NSFS_MAGIC && fs.Type != unix.PROC_SUPER_MAGIC {
		unix.Close(fd)
		return nil, fmt.Errorf("%s %w", path, ErrNotNetns)
	}
	return &Netns{path, fd}, nil
}

// Path is the path that the namespace was opened by.
func (n *Netns) Path() string { return n.path }

// Close ends the use of the namespace.
func (n *Netns) Close() error { return unix.Close(n.fd) }

// IsOwn reports whether this is the namespace that the calling thread is in: the
// host's, for a plugin. Two namespaces that are open at one time have different
// inodes.
func (n *Netns) IsOwn() (bool, error) {
	var own, theirs unix.Stat_t
	if err := errors.Join(unix.Stat(ownNetns, &own), unix.Fstat(n.fd, &theirs)); err != nil {
		return false, fmt.Errorf("compare namespace %s with the host's: %w", n.path, err)
	}
	return own.Ino == theirs.Ino && own.Dev == theirs.Dev, nil
}

const ownNetns = "/proc/thread-self/ns/net"

// do runs fn on a thread that is in the namespace. Sockets that fn opens stay in
// it.
func (n *Netns) do(fn func() error) error {
	runtime.LockOSThread()
	own, err := unix.Open(ownNetns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open %s: %w", ownNetns, err)
	}
	defer unix.Close(own)
	if err := unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		if errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("%s %w", n.path, ErrNotNetns)
		}
		return fmt.Errorf("enter namespace %s: %w", n.path, err)
	}
	err = fn()
	if back := unix.Setns(own, unix.CLONE_NEWNET); back != nil {
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

// dialIn opens a netlink socket in the namespace of a path.
func dialIn(path string) (*conn, error) {
	ns, err := OpenNetns(path)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	return ns.dial()
}

// Cookie is the number that the kernel gives a namespace for as long as it runs,
// never twice (SO_NETNS_COOKIE, kernel 5.14). 0 on an older kernel.
func (n *Netns) Cookie() (uint64, error) {
	c, err := n.dial()
	if err != nil {
		return 0, err
	}
	defer c.close()
	return c.cookie()
}

func (c *conn) cookie() (uint64, error) {
	cookie, err := unix.GetsockoptUint64(c.FD(), unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if errors.Is(err, unix.ENOPROTOOPT) {
		return 0, nil
	}
	return cookie, err
}
