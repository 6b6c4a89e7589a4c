// Package mountns tells in which mount namespaces a mount is seen (mount_namespaces(7)).
package mountns

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-cni/berth/pkg/internal/proc"
	"golang.org/x/sys/unix"
)

// Mount is a line of mountinfo (proc_pid_mountinfo(5)).
type Mount struct {
	ID, Parent string
	Point      string
	Shared     string // its peer group, whose mounts pass on to each other what is mounted on them; empty: none
	Master     string // the peer group that passes on to it alone; empty: none
}

// List are the mounts of the calling thread's namespace.
func List() ([]Mount, error) { return read("/proc/thread-self/mountinfo") }

func read(path string) ([]Mount, error) {
	info, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all []Mount
	for line := range strings.Lines(string(info)) {
		f := strings.Fields(line) // ID, parent's ID, device, root, mount point, options, then tags to a hyphen
		if len(f) < 7 {
			continue
		}
		m := Mount{ID: f[0], Parent: f[1], Point: f[4]}
		for _, tag := range f[6:] {
			if tag == "-" {
				break
			}
			switch kind, group, _ := strings.Cut(tag, ":"); kind {
			case "shared":
				m.Shared = group
			case "master":
				m.Master = group
			}
		}
		all = append(all, m)
	}
	return all, nil
}

// At returns the mount that is seen at a path, and the one that it is mounted on; nil when
// the list has none.
func At(path string, all []Mount) (top, under *Mount, err error) {
	id, err := mountID(path)
	if err != nil {
		return nil, nil, err
	}
	if top = find(all, id); top != nil {
		under = find(all, top.Parent)
	}
	return top, under, nil
}

func find(all []Mount, id string) *Mount {
	for i := range all {
		if all[i].ID == id {
			return &all[i]
		}
	}
	return nil
}

// mountID is the number in mountinfo of the mount that is seen at the path.
func mountID(path string) (string, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(info)) {
		if id, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			return strings.TrimSpace(id), nil
		}
	}
	return "", fmt.Errorf("the kernel does not name the mount at %s", path)
}

// Elsewhere says why others would not see what the calling thread mounts in place of the
// mount at a path: it was made in another mount namespace than the thread's, or one of the
// processes that called this program has it in another. caller is the first of these. Empty
// when they would, or when there is no telling: a copy in a private mount looks like one
// that was made there.
func Elsewhere(path string, caller int) string {
	all, err := List()
	if err != nil {
		return ""
	}
	top, under, err := At(path, all)
	if err != nil || top == nil {
		return ""
	}
	if top.Master != "" {
		return "it was mounted in another mount namespace, which passes its mounts on to this one and takes none back"
	}
	group := ""
	if under != nil {
		group = under.Shared
	}
	const most = 16 // callers of callers
	for pid, n := caller, 0; pid > 0 && n < most; pid, n = parent(pid), n+1 {
		if apart(path, group, pid) {
			return fmt.Sprintf("process %d, which called this one, has it in another mount namespace, and the two pass no mounts on to each other", pid)
		}
	}
	return ""
}

// apart tells whether a process has the path in a mount namespace of its own that is no peer
// of the group.
func apart(path, group string, pid int) bool {
	own, theirs := inode("/proc/thread-self/ns/mnt"), inode(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	if own == theirs || theirs == (file{}) || !sees(path, pid) {
		return false
	}
	others, err := read(fmt.Sprintf("/proc/%d/mountinfo", pid))
	return err == nil && !slices.ContainsFunc(others, func(m Mount) bool { return group != "" && m.Shared == group })
}

// parent is the process that a process is a child of; 0 when it cannot be told.
func parent(pid int) int {
	stat, err := proc.Read(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// proc_pid_stat(5): the state and the parent are behind the name, which may have any letter.
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(f) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(f[1])
	return n
}

// file is what a path leads to.
type file struct{ dev, ino uint64 }

func inode(path string) file {
	var s unix.Stat_t
	if unix.Stat(path, &s) != nil {
		return file{}
	}
	return file{uint64(s.Dev), s.Ino}
}

// sees tells whether a path leads a process to the same file as the calling thread.
func sees(path string, pid int) bool {
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(root)
	// Links in the path are the process's, too (openat2(2), kernel 5.6).
	fd, err := unix.Openat2(root, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
	for range 3 {
		if !errors.Is(err, unix.EAGAIN) { // somebody renames a part of it
			break
		}
		fd, err = unix.Openat2(root, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
	}
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var s unix.Stat_t
	return unix.Fstat(fd, &s) == nil && file{uint64(s.Dev), s.Ino} == inode(path)
}
