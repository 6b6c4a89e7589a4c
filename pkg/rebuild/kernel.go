package rebuild

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/link"
)

// Namespaces are the paths of network namespaces on this host: those that runtimes keep,
// and behind them those of processes, one for each.
func Namespaces() (paths []string) {
	for _, pattern := range []string{"/run/netns/*", "/run/docker/netns/*", "/run/user/*/netns/*", "/var/run/netns/*"} {
		found, _ := filepath.Glob(pattern)
		paths = append(paths, found...)
	}
	seen := map[string]bool{}
	processes, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	for _, path := range processes {
		if ns, err := os.Readlink(path); err == nil && !seen[ns] {
			seen[ns] = true
			paths = append(paths, path)
		}
	}
	return paths
}

// Living are the interfaces of attachments that lead to containers which live, by names
// for people. Runtimes' caches tell of namespaces.
func Living(caches []string) (all []string) {
	var paths []string
	for _, e := range readCaches(caches) {
		paths = append(paths, e.Netns)
	}
	found, _ := link.Find(append(paths, Namespaces()...)) // what there is beside an error
	for _, x := range found {
		k := attach.Key{Container: x.Hash, Role: attach.Lost}
		if slices.ContainsFunc(x.Steps, func(s attach.Step) bool { return conflist.OnParent(s.Kind()) }) {
			all = append(all, fmt.Sprintf("%s in %s", x.IfName, x.Netns))
		} else {
			all = append(all, k.HostIfName())
		}
	}
	return all
}

// containerID is how runtimes name containers in the names of their control groups.
var containerID = regexp.MustCompile(`[0-9a-f]{64}`)

// processIDs are the IDs of containers that processes of this host are in.
func processIDs() map[string]bool {
	ids := map[string]bool{}
	files, _ := filepath.Glob("/proc/[0-9]*/cgroup")
	for _, path := range files {
		data, _ := os.ReadFile(path) // it may have ended
		for _, id := range containerID.FindAllString(string(data), -1) {
			ids[id] = true
		}
	}
	return ids
}

// fromKernel makes records of the interfaces that are left. Their keys are looked for
// among the networks and containers that there are: a key is right when its hash is.
func (b *builder) fromKernel() {
	left := map[string]link.Found{}
	for hash, x := range b.found {
		if b.records[hash] == nil {
			left[hash] = x
		}
	}
	others := map[string]bool{} // whose interface is another plugin's
	for hash, h := range b.held {
		_, made := b.found[hash]
		if there, err := link.Exists(h.Bridge); b.records[hash] == nil && !made && h.Bridge != "" && err == nil && there && !link.IsBridge(h.Bridge) {
			others[hash] = true
		}
	}
	if len(left)+len(others) == 0 {
		return
	}
	keys := b.keys()
	for _, hash := range slices.Sorted(maps.Keys(left)) {
		b.fromFound(left[hash], keys)
	}
	for _, hash := range slices.Sorted(maps.Keys(others)) {
		k, known := keys[hash]
		if !known {
			k = attach.Key{Container: hash, Role: attach.Lost}
		}
		b.taken(b.chained(k, b.entries[hash]), known)
	}
}

// fromFound makes the record of an interface.
func (b *builder) fromFound(x link.Found, keys map[string]attach.Key) {
	k, known := keys[x.Hash]
	if !known {
		a := b.record(attach.Key{Network: b.networkOf(x), Container: x.Hash, IfName: x.IfName, Role: attach.Lost}, x, nil, nil)
		b.taken(a, false)
		return
	}
	e, p := b.today(k)
	a := b.record(k, x, e, p)
	b.taken(a, true)
	if slices.ContainsFunc(a.Steps, func(s attach.Step) bool { return s.Kind() == "names" }) {
		b.report.Partly = append(b.report.Partly, k.String()+": no runtime has kept what it asked for, so that its names are not known")
	}
}

// taken adds a record that is from the kernel.
func (b *builder) taken(a *attach.Attachment, known bool) {
	if !known {
		b.report.Unknown = append(b.report.Unknown, a)
	}
	b.report.Kernel++
	b.add(a)
}

// today is what a runtime would ask for by the network's configuration of today; nil when
// there is none.
func (b *builder) today(k attach.Key) (*entry, *conflist.Plugin) {
	f := conflist.Find(b.files, k.Network)
	if f == nil {
		return nil, nil
	}
	e := &entry{Container: k.Container, IfName: k.IfName, Network: k.Network, file: f}
	if x := b.found[k.Hash()]; x.Netns != "" {
		e.Netns = x.Netns
		for _, addr := range x.Addresses {
			e.Result.IPs = append(e.Result.IPs, cachedIP{addr.Prefix, addr.Gateway})
		}
	}
	for i, p := range f.Plugins {
		if p.Type == conflist.Bridge || p.Type == conflist.Overlay || conflist.OnParent(p.Type) {
			return e, &f.Plugins[i]
		}
	}
	return nil, nil
}

// keys are all that an attachment of this host may have, by hash.
func (b *builder) keys() map[string]attach.Key {
	networks, ids, ifNames := map[string]bool{}, processIDs(), map[string]bool{"eth0": true}
	add := func(k attach.Key) { networks[k.Network], ids[k.Container], ifNames[k.IfName] = true, true, true }
	for _, a := range slices.Concat(b.old.Records, b.old.Loose) {
		add(a.Key)
	}
	for _, k := range b.old.Unreadable {
		add(k)
	}
	for _, e := range b.entries {
		add(e.key())
	}
	maps.Copy(networks, b.names())
	for _, x := range b.found {
		if x.Netns != "" {
			ids[filepath.Base(x.Netns)], ifNames[x.IfName] = true, true
		}
	}
	keys := map[string]attach.Key{}
	for network := range networks {
		for id := range ids {
			for name := range ifNames {
				for _, role := range []attach.Role{attach.Main, attach.Chained} {
					k := attach.Key{Network: network, Container: id, IfName: name, Role: role}
					keys[k.Hash()] = k
				}
			}
		}
	}
	return keys
}

// names are those of all networks that the host may know.
func (b *builder) names() map[string]bool {
	all := map[string]bool{}
	for _, n := range b.old.Networks {
		all[n.Name] = true
	}
	for _, f := range b.files {
		all[f.Name] = true
	}
	for _, l := range b.overlays {
		all[l.Network.Name] = true
	}
	return all
}

// networkOf is the network that an interface is probably of: one on its bridge or master,
// of those the one with its addresses; empty when none is known.
func (b *builder) networkOf(x link.Found) string {
	type network struct {
		name     string
		contains bool
	}
	var on []network
	if x.Group != 0 {
		for name := range b.names() {
			if attach.Group(name) == x.Group {
				return name
			}
		}
		return ""
	}
	for _, n := range b.old.Networks {
		if n.Link == x.Link {
			on = append(on, network{n.Name, false})
		}
	}
	for _, a := range b.records {
		if other, there := b.found[a.Hash()]; there && other.Link == x.Link {
			on = append(on, network{a.Network, false})
		}
	}
	for _, f := range b.files {
		if f.Link() != x.Link {
			continue
		}
		n := network{name: f.Name}
		for _, t := range f.Taken() {
			for _, addr := range x.Addresses {
				n.contains = n.contains || t.Prefix.Contains(addr.Prefix.Addr())
			}
		}
		on = append(on, n)
	}
	for _, l := range b.overlays {
		if l.Network.Bridge() == x.Link {
			on = append(on, network{l.Network.Name, true})
		}
	}
	slices.SortFunc(on, func(x, y network) int {
		if x.contains != y.contains {
			if x.contains {
				return -1
			}
			return 1
		}
		return slices.Compare([]byte(x.name), []byte(y.name))
	})
	if len(on) == 0 {
		return ""
	}
	return on[0].name
}

// Lines say what was done, for people.
func (r *Report) Lines() (lines []string) {
	if r.Kept != "" {
		lines = append(lines, "the state file was made anew; the damaged one is kept: "+r.Kept)
	}
	lines = append(lines, fmt.Sprintf("records: %d of the state file, %d made anew from what runtimes keep (libcni's cache) and the kernel, %d from the kernel alone", r.File, r.Caches, r.Kernel))
	for _, what := range r.Partly {
		lines = append(lines, "not complete: "+what)
	}
	for _, what := range r.Dropped {
		lines = append(lines, "not in the records any more: "+what)
	}
	for _, a := range r.Unknown {
		lines = append(lines, unknown(a))
	}
	return lines
}

// unknown says what becomes of a container that nobody knows.
func unknown(a *attach.Attachment) string {
	where := "the path of its namespace is not known"
	if a.Netns != "" {
		where = "its namespace is " + a.Netns
	}
	text := fmt.Sprintf("not known: the container behind %s; %s.", a.HostIfName(), where)
	if a.Network == "" {
		return text + " Nor is its network: its addresses are not kept from others. The DEL of its runtime deletes it, or 'berth gc' when it is gone"
	}
	return text + fmt.Sprintf(" Its addresses on network %s and its ports are kept from others until the DEL of its runtime, or until it is gone and 'berth gc' runs", a.Network)
}
