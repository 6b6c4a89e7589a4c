// Package netns opens network namespaces, tells them apart, acts inside of them, and
// has the path of one refer to another ([Rebind]).
package netns

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"golang.org/x/sys/unix"
)

// ErrNotNetns: the path is there and is not a network namespace.
var ErrNotNetns = errors.New("is not a network namespace")

// Namespace is an open network namespace.
//
// It is not that of containernetworking/plugins/pkg/ns, whose Do costs 29 system calls,
// starts a thread, and has the runtime's poller started by its files, all of it on the
// way of an ADD; this one's costs 5.
type Namespace struct {
	path string
	fd   int
}

// Open opens the namespace of a path. The error is fs.ErrNotExist when
// nothing is there, [ErrNotNetns] when it is something else.
func Open(path string) (*Namespace, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0) // or it would wait for a FIFO's writer
	if err != nil {
		return nil, fmt.Errorf("open namespace %s: %w", path, err)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil || fs.Type != unix.NSFS_MAGIC && fs.Type != unix.PROC_SUPER_MAGIC {
		unix.Close(fd)
		return nil, fmt.Errorf("%s %w", path, ErrNotNetns)
	}
	return &Namespace{path, fd}, nil
}

// Path is the path that the namespace was opened by.
func (n *Namespace) Path() string { return n.path }

// FD is the namespace's file descriptor, which Close closes.
func (n *Namespace) FD() int { return n.fd }

// Close ends the use of the namespace.
func (n *Namespace) Close() error { return unix.Close(n.fd) }

// IsOwn reports whether this is the namespace that the calling thread is in: the
// host's, for a plugin. Two namespaces that are open at one time have different
// inodes.
func (n *Namespace) IsOwn() (bool, error) {
	var own, theirs unix.Stat_t
	if err := errors.Join(unix.Stat(OwnPath, &own), unix.Fstat(n.fd, &theirs)); err != nil {
		return false, fmt.Errorf("compare namespace %s with the host's: %w", n.path, err)
	}
	return own.Ino == theirs.Ino && own.Dev == theirs.Dev, nil
}

// OwnPath leads to the namespace that the calling thread is in.
const OwnPath = "/proc/thread-self/ns/net"

// Do runs fn on a thread that is in the namespace. Sockets that fn opens stay in it
// (network_namespaces(7)); what fn starts besides is not in it.
func (n *Namespace) Do(fn func() error) error {
	runtime.LockOSThread()
	own, err := unix.Open(OwnPath, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open %s: %w", OwnPath, err)
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

// Dial opens a route netlink socket in the namespace.
func (n *Namespace) Dial() (*rtnl.Conn, error) {
	var c *rtnl.Conn
	err := n.Do(func() error {
		var err error
		c, err = rtnl.Dial()
		return err
	})
	return c, err
}

// Cookie is the number that the kernel gives a namespace for as long as it runs,
// never twice (SO_NETNS_COOKIE, kernel 5.14). 0 on an older kernel.
func (n *Namespace) Cookie() (uint64, error) {
	c, err := n.Dial()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return CookieOf(c.FD())
}

// CookieOf is [Namespace.Cookie] of the namespace that a socket is in.
func CookieOf(socket int) (uint64, error) {
	cookie, err := unix.GetsockoptUint64(socket, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if errors.Is(err, unix.ENOPROTOOPT) {
		return 0, nil
	}
	return cookie, err
}
