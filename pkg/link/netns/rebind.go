package netns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/mountns"
	"golang.org/x/sys/unix"
)

// ErrNotRebindable: the path cannot be made to refer to another namespace.
var ErrNotRebindable = errors.New("cannot be made to refer to another namespace")

// Rebind is the step that has the container's path refer to a namespace that is
// there already. The attachment's cookie is that namespace's. The runtime must
// open the path afterwards: a process that is in the old namespace stays there.
type Rebind struct {
	// From is a path of the namespace; empty: the host's, which is the one that the
	// process is in.
	From string `json:"from,omitempty"`
	// Owner is the attachment whose namespace it is; zero when none is on record.
	Owner attach.Key `json:"owner,omitzero"`

	// Sees is what the container finds in the namespace, which becomes the attachment's
	// when it is claimed; nil for a step that the record has had.
	Sees *View `json:"-"`

	old *Namespace // what the path referred to, while the process that added runs
}

// View is what a container finds in a namespace that it joins.
type View struct {
	Cookie    uint64 // of the namespace
	Interface attach.Interface
	Addresses []attach.Address
	Routes    []attach.Route
}

// RebindOf is the step by which the attachment is in a namespace that was there
// already; nil for one that has its own.
func RebindOf(a *attach.Attachment) *Rebind {
	for _, s := range a.Steps {
		if r, ok := s.(*Rebind); ok {
			return r
		}
	}
	return nil
}

// Kind implements [attach.Step].
func (r *Rebind) Kind() string { return "rebind" }

// Claim implements [attach.Claimer].
func (r *Rebind) Claim(_ *attach.Tx, a *attach.Adding) error {
	if r.Sees == nil {
		return nil
	}
	v := *r.Sees
	v.Interface.Sandbox = a.Netns
	a.Cookie, a.MAC, a.Addresses, a.Routes = v.Cookie, v.Interface.MAC, v.Addresses, v.Routes
	a.Interfaces = []attach.Interface{v.Interface}
	return nil
}

// Add replaces the mount at the path. It is refused when the path refers to the
// namespace already.
func (r *Rebind) Add(_ context.Context, a *attach.Adding) error {
	to, err := r.open()
	if err != nil {
		return err
	}
	defer to.Close()
	if r.From != "" {
		if cookie, err := to.Cookie(); err != nil || cookie != a.Cookie {
			return errors.Join(err, fmt.Errorf("%s is no longer the namespace that was to be joined", to.path))
		}
	}
	old, err := Open(a.Netns)
	if err != nil {
		return err
	}
	there, err := old.Same(to)
	if err == nil && there {
		err = fmt.Errorf("%s refers to %s already", a.Netns, to.path)
	}
	if err == nil {
		if err = replaceMount(a.Netns, old, to); err != nil {
			err = errors.Join(err, attach.ErrLeft)
		}
	}
	if err != nil {
		old.Close()
		return err
	}
	r.old = old
	return nil
}

// Del has the path refer to a namespace of the container's own again, an empty one
// unless this process has the old one: no mount of another's namespace is left to
// whom the runtime calls next, and its umount and rm find one mount, as it made it.
// A path that is gone, or refers to anything else, is left alone.
func (r *Rebind) Del(_ context.Context, a *attach.Attachment) error {
	if !Mounted(a.Netns) {
		return nil
	}
	if err := unstack(a.Netns); err != nil {
		return err
	}
	now, err := Open(a.Netns)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNotNetns) {
		return nil
	}
	if err != nil {
		return err
	}
	defer now.Close()
	there, err := r.refers(now, a)
	if err != nil || !there {
		return err
	}
	own := r.old
	if own == nil {
		if own, err = newNamespace(); err != nil {
			return err
		}
	}
	defer own.Close()
	r.old = nil
	return replaceMount(a.Netns, now, own)
}

// Check tells whether the path refers to the namespace.
func (r *Rebind) Check(_ context.Context, a *attach.Attachment) error {
	ns, err := Open(a.Netns)
	if err != nil {
		return err
	}
	defer ns.Close()
	there, err := r.refers(ns, a)
	if err == nil && !there {
		err = fmt.Errorf("%s refers to another namespace than %s", a.Netns, r.from())
	}
	return err
}

func (r *Rebind) from() string {
	if r.From == "" {
		return "the host's"
	}
	return r.From
}

func (r *Rebind) open() (*Namespace, error) {
	if r.From != "" {
		return Open(r.From)
	}
	return Own()
}

// refers reports whether this is the attachment's namespace: by its cookie, or, on
// a kernel that has none, by comparing it with what From leads to.
func (r *Rebind) refers(ns *Namespace, a *attach.Attachment) (bool, error) {
	if a.Cookie != 0 {
		cookie, err := ns.Cookie()
		return cookie == a.Cookie, err
	}
	to, err := r.open()
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer to.Close()
	return ns.Same(to)
}

// Own opens the namespace that the calling thread is in: the host's, for a
// plugin.
func Own() (*Namespace, error) { return Open(OwnPath) }

// HostCookie is [Namespace.Cookie] of the namespace that the calling thread is in.
func HostCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open socket: %w", err)
	}
	defer unix.Close(fd)
	return CookieOf(fd)
}

// Same reports whether both are one namespace.
func (n *Namespace) Same(other *Namespace) (bool, error) {
	var mine, theirs unix.Stat_t
	if err := errors.Join(unix.Fstat(n.fd, &mine), unix.Fstat(other.fd, &theirs)); err != nil {
		return false, fmt.Errorf("compare namespaces %s and %s: %w", n.path, other.path, err)
	}
	return mine.Ino == theirs.Ino && mine.Dev == theirs.Dev, nil
}

// Rebindable returns why [Rebind] must not be used on a path: nothing is mounted on
// it ([ErrNotRebindable]: a process's entry in /proc is a link, and follows the
// process), others would not see it (a daemon's mount namespace), or the namespace has an
// interface, which would be lost.
func Rebindable(path string) error {
	if !Mounted(path) {
		return fmt.Errorf("%s %w: want a path that the namespace is mounted on, such as /run/netns/NAME", path, ErrNotRebindable)
	}
	if why := mountns.Elsewhere(path, os.Getppid()); why != "" {
		return fmt.Errorf("%s %w that its runtime would see: %s; run the plugin in the runtime's mount namespace, or mount the path's folder "+
			"where mounts pass both ways (mountPropagation: Bidirectional)", path, ErrNotRebindable, why)
	}
	ns, err := Open(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	name, err := ns.busy()
	if err == nil && name != "" {
		err = fmt.Errorf("%s has the interface %s, which would be lost: want a container on no other network", path, name)
	}
	return err
}

// busy returns the name of an interface of the namespace that is up and not lo;
// empty when there is none. (The kernel's own tunnel devices are down.)
func (n *Namespace) busy() (string, error) {
	c, err := n.Dial()
	if err != nil {
		return "", err
	}
	defer c.Close()
	all, err := c.Links()
	for _, d := range all {
		if d.Up() && d.Flags&unix.IFF_LOOPBACK == 0 {
			return d.Name, nil
		}
	}
	return "", err
}

// Mounted reports whether a namespace is mounted on the path itself: not so for a
// process's entry in /proc, which is a link.
func Mounted(path string) bool {
	st, err := os.Lstat(path)
	if err != nil || st.Mode()&fs.ModeSymlink != 0 {
		return false
	}
	var s unix.Statfs_t
	return unix.Statfs(path, &s) == nil && s.Type == unix.NSFS_MAGIC
}
