package netns

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/berth-cni/berth/pkg/internal/mountns"
	"golang.org/x/sys/unix"
)

// A namespace's path is a file with a mount on it. To make the path refer to
// another namespace, the mount is replaced: a second one on top would have the
// runtime's own umount leave the first one behind.

// moveBeneath is MOVE_MOUNT_BENEATH of linux/mount.h (kernel 6.5).
const moveBeneath = 0x200

// replaceMount has the path, on which old is mounted, refer to the namespace
// instead. Whoever opens the path meets one or the other. A process that is killed
// inside leaves both, which unstack sorts out. On a kernel before 6.5 there is a
// gap, in which the path is an empty file.
func replaceMount(path string, old, ns *Namespace) error {
	err := mountBeneath(path, ns)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return swapMount(path, old, ns)
	}
	if err != nil {
		return err
	}
	return detach(path)
}

// mountBeneath mounts the namespace between the path and what is mounted on it.
func mountBeneath(path string, ns *Namespace) error {
	tree, err := unix.OpenTree(ns.fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("clone the mount of %s: %w", ns.path, err)
	}
	defer unix.Close(tree)
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH|moveBeneath); err != nil {
		return fmt.Errorf("mount %s beneath %s: %w", ns.path, path, err)
	}
	return nil
}

// swapMount takes old away first. Should the new one not go there, old comes back.
func swapMount(path string, old, ns *Namespace) error {
	if err := detach(path); err != nil {
		return err
	}
	err := bind(path, ns)
	if err != nil {
		return errors.Join(err, bind(path, old))
	}
	return nil
}

func bind(path string, ns *Namespace) error {
	source := fmt.Sprintf("/proc/self/fd/%d", ns.fd)
	if err := unix.Mount(source, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s on %s: %w", ns.path, path, err)
	}
	return nil
}

func detach(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	return nil
}

// unstack takes mounts off the path until one is left.
func unstack(path string) error {
	for {
		more, err := stacked(path)
		if err != nil || !more {
			return err
		}
		if err := detach(path); err != nil {
			return err
		}
	}
}

// stacked reports whether the namespace that is mounted on the path is on another
// mount. A path alone does not tell: a folder that was bound to itself, as `ip
// netns` does with its own, shows every mount in it twice.
func stacked(path string) (bool, error) {
	all, err := mountns.List()
	if err != nil {
		return false, err
	}
	top, under, err := mountns.At(path, all)
	return top != nil && under != nil && top.Point == under.Point, err
}

// newNamespace makes an empty network namespace. It ends with its last user.
func newNamespace() (*Namespace, error) {
	runtime.LockOSThread()
	host, err := Own()
	if err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	defer host.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("new network namespace: %w", err)
	}
	ns, err := Own()
	if back := unix.Setns(host.fd, unix.CLONE_NEWNET); back != nil {
		// The thread stays locked, and ends with its goroutine.
		return nil, errors.Join(err, fmt.Errorf("leave the new namespace: %w", back))
	}
	runtime.UnlockOSThread()
	return ns, err
}

// MountNamespace is the inode of this process's mount namespace (namespaces(7)); 0 when
// there is no telling.
func MountNamespace() uint64 {
	var s unix.Stat_t
	if unix.Stat("/proc/self/ns/mnt", &s) != nil {
		return 0
	}
	return s.Ino
}
