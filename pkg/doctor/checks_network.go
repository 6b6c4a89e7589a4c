package doctor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/firewall/publish"
	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/link/netns"
	"github.com/berth-cni/berth/pkg/names"
)

// networkFacts are what the checks look at of configurations and published ports.
type networkFacts struct {
	Files    []*conflist.File
	FilesErr error // of those that say nothing, or that another one is before
	// Missing are plugins that are in none of the folders, by network: of those that this
	// program made, or that our plugins have containers on.
	Missing map[string][]string
	Dirs    []string // of plugins

	Listeners []listener
}

// listener is a process that listens on a port which is published.
type listener struct {
	Container string
	ID        string // of the container
	Port      attach.Port
	Process   string // "nginx (pid 812)"
	Err       error  // the address is none of this host's any more
}

// gatherNetworks looks at the configurations, and at the ports of living containers.
func (c *Config) gatherNetworks(records, living []*attach.Attachment) networkFacts {
	n := networkFacts{Missing: map[string][]string{}, Dirs: c.PluginDirs}
	n.Files, n.FilesErr = c.ConfDir.List()
	for _, f := range n.Files {
		used := slices.ContainsFunc(records, func(a *attach.Attachment) bool { return a.Network == f.Name })
		if f.Mark == nil && !used || len(c.PluginDirs) == 0 {
			continue // another's, whose runtime may look elsewhere
		}
		for _, p := range f.Plugins {
			if !slices.ContainsFunc(c.PluginDirs, func(dir string) bool { return executable(filepath.Join(dir, p.Binary)) }) {
				n.Missing[f.Name] = append(n.Missing[f.Name], p.Binary)
			}
		}
	}
	for _, a := range living {
		for _, p := range a.Ports {
			process, err := publish.Listener(p, a.Container)
			if process != "" || errors.Is(err, publish.ErrNotLocal) {
				n.Listeners = append(n.Listeners, listener{names.Called(a), a.Container, p, process, err})
			}
		}
	}
	return n
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// checkConflists tells of configurations that runtimes cannot use.
func checkConflists(f *facts) ([]Problem, error) {
	var found []Problem
	n := &f.Networks
	if n.FilesErr != nil {
		for line := range strings.Lines(n.FilesErr.Error()) {
			found = append(found, problem(strings.TrimRight(line, "\n"), "no runtime attaches a container by what it says, and some refuse all networks for it",
				"correct the file, or remove it"))
		}
	}
	for _, file := range n.Files {
		for _, slip := range file.Slips() {
			found = append(found, problem(fmt.Sprintf("network %s: %s", file.Name, slip),
				"the key does not do what it says", "correct it in "+file.Path+", or remove it", about{network: file.Name}))
		}
		if missing := n.Missing[file.Name]; len(missing) > 0 {
			found = append(found, problem(fmt.Sprintf("network %s: no plugin %s in %s", file.Name, strings.Join(missing, ", "), strings.Join(n.Dirs, ", ")),
				"no container can be attached to it, nor detached from it", "install it there; CNI_PATH names another folder", about{network: file.Name}))
		}
	}
	return found, nil
}

// checkListeners tells of programs of this host that listen where a container's port is
// published, and of addresses that this host has no more.
func checkListeners(f *facts) ([]Problem, error) {
	var found []Problem
	for _, l := range f.Networks.Listeners {
		switch {
		case l.Err != nil:
			found = append(found, problem(fmt.Sprintf("%s of %s: %s is not an address of this host", l.Port, l.Container, l.Port.HostIP),
				"nobody reaches the container by it", "give this host the address, or publish the port on another one", about{container: l.ID}))
		default:
			found = append(found, problem(fmt.Sprintf("%s of %s: %s listens on it, too", l.Port, l.Container, l.Process),
				"who connects reaches the container, and never the program", "have the program listen on another port, or publish another one", about{container: l.ID}))
		}
	}
	return found, nil
}

// checkShared tells of containers that share the namespace of another one, which has
// gone.
func checkShared(f *facts) ([]Problem, error) {
	var alone []string
	var which []about
	var first string
	for _, a := range f.Host.living() {
		rebind := netns.RebindOf(a)
		if rebind == nil || rebind.Owner == (attach.Key{}) {
			continue
		}
		if !slices.ContainsFunc(f.Host.Records, func(o *attach.Attachment) bool {
			return o.Key == rebind.Owner && o.Cookie == a.Cookie && f.Host.States[o.Key] != host.Gone && !o.Deleting
		}) {
			alone = append(alone, names.Called(a))
			which = append(which, about{container: a.Container})
			first = rebind.Owner.Container
		}
	}
	if len(alone) == 0 || f.Host.RecordsErr != nil {
		return nil, nil
	}
	return []Problem{problem(fmt.Sprintf("%s: the container whose network it shares is gone: %s", host.Some(alone), first),
		"it has no network any more but lo: interfaces end with the container that they were made for",
		"start it again, together with the one that it shares with", which...)}, nil
}
