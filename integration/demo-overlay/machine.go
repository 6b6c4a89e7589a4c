package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// machine is what of this machine the demo could have touched, in names.
type machine struct {
	interfaces, netns []string
}

func lookAtMachine() (m machine, err error) {
	list, err := net.Interfaces()
	for _, i := range list {
		m.interfaces = append(m.interfaces, i.Name)
	}
	slices.Sort(m.interfaces)
	entries, _ := os.ReadDir("/run/netns") // which need not be there
	for _, e := range entries {
		m.netns = append(m.netns, e.Name())
	}
	return m, err
}

// namespace is the inode of a process's network namespace, which tells it from others.
func namespace(process string) (uint64, error) {
	var st unix.Stat_t
	path := filepath.Join("/proc", process, "ns/net")
	if err := unix.Stat(path, &st); err != nil {
		return 0, fmt.Errorf("look at %s: %w", path, err)
	}
	return st.Ino, nil
}

// inhabited are the owners of those namespaces that a process or a thread of this one
// is in, or that this process holds open.
func inhabited(namespaces map[uint64]string) []string {
	var owners []string
	see := func(path string) {
		var st unix.Stat_t
		if unix.Stat(path, &st) != nil {
			return // ended meanwhile, or not a namespace
		}
		if owner := namespaces[st.Ino]; owner != "" && !slices.Contains(owners, owner) {
			owners = append(owners, owner)
		}
	}
	for _, pattern := range []string{"/proc/[0-9]*/ns/net", "/proc/self/task/*/ns/net"} {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			see(path)
		}
	}
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "net:[") {
			see(fd)
		}
	}
	return owners
}

// children are the processes that this one has started and that have not ended.
func children() (all []string) {
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, path := range lists {
		list, _ := os.ReadFile(path)
		all = append(all, strings.Fields(string(list))...)
	}
	return all
}
