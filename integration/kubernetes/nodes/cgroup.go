package nodes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

const cgroups = "/sys/fs/cgroup"

// group is the control group that all of a node's are in, a path in every hierarchy.
func (n *Node) group() string { return "/" + filepath.Base(n.cluster.dir) + "-" + n.Name }

// roots are the group's folders: one in each hierarchy of version 1, or the one of version 2.
func (n *Node) roots() ([]string, error) {
	if _, err := os.Stat(filepath.Join(cgroups, "cgroup.controllers")); err == nil {
		return []string{filepath.Join(cgroups, n.group())}, nil
	}
	hierarchies, err := filepath.Glob(filepath.Join(cgroups, "*"))
	var all []string
	for _, h := range hierarchies {
		all = append(all, filepath.Join(h, n.group()))
	}
	return all, err
}

// makeGroup makes the control group. In version 1 a group of the cpuset controller takes
// processes only once it has processors and memory.
func (n *Node) makeGroup() error {
	roots, err := n.roots()
	if err != nil {
		return err
	}
	for _, dir := range roots {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
			own := filepath.Join(dir, name)
			if v, err := os.ReadFile(own); err != nil || len(v) > 1 {
				continue // another controller, or it has them
			}
			all, err := os.ReadFile(filepath.Join(filepath.Dir(dir), name))
			if err == nil && len(all) > 1 {
				err = os.WriteFile(own, all, 0o644)
			}
			if err != nil {
				return fmt.Errorf("set %s: %w", own, err)
			}
		}
	}
	return nil
}

// removeGroup takes the control group away, in which no process is left.
func (n *Node) removeGroup() error {
	roots, err := n.roots()
	errs := []error{err}
	for _, root := range roots {
		var dirs []string
		_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for _, dir := range slices.Backward(dirs) {
			errs = append(errs, os.Remove(dir))
		}
	}
	return errors.Join(errs...)
}

// shareGroups gives the node the machine's control groups, which its own /sys hides.
func shareGroups() (mount func() error, err error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, cgroups, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return nil, fmt.Errorf("open control groups: %w", err)
	}
	return func() error {
		defer unix.Close(tree)
		if err := unix.MoveMount(tree, "", unix.AT_FDCWD, cgroups, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("mount control groups: %w", err)
		}
		return nil
	}, nil
}
