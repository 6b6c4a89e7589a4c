// Package former finds what the reference plugins left on this host for containers that are
// gone: rules in the firewall, and addresses of host-local. They do not collect what a DEL
// that never came, or that found no namespace, has left.
package former

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/firewall/reference"
	"github.com/berth-cni/berth/pkg/link/netns"
)

// Leftover is something that no container needs.
type Leftover struct {
	What   string // for people
	remove func() error
}

// Remove removes it; nothing there counts as removed.
func (l *Leftover) Remove() error {
	if err := l.remove(); err != nil {
		return fmt.Errorf("remove %s: %w", l.What, err)
	}
	return nil
}

// Host is where it is looked for.
type Host struct {
	// Caches are patterns of the folders in which runtimes keep the results of containers
	// that there are (libcni's).
	Caches []string
	// Leases is host-local's folder, /var/lib/cni/networks.
	Leases string
	// Alive are IDs of containers that there are, beside those.
	Alive []string
	// Used are the addresses of other containers that there are: the one that has a lease of
	// such an address is alive, though none of the caches has it.
	Used map[netip.Addr]bool
}

// DefaultLeases is host-local's folder unless its dataDir says another.
const DefaultLeases = "/var/lib/cni/networks"

// On is this host, with these patterns of caches, paths of namespaces, and Berth's own
// records.
func On(caches, namespaces []string, records []*attach.Attachment) *Host {
	h := &Host{Caches: caches, Leases: DefaultLeases, Used: netns.AddressesIn(namespaces)}
	for _, a := range records {
		h.Alive = append(h.Alive, a.Container)
		for _, addr := range a.Addresses {
			delete(h.Used, addr.Prefix.Addr())
		}
	}
	return h
}

// Find returns what is left of containers that no runtime remembers.
func (h *Host) Find(ctx context.Context) ([]*Leftover, error) {
	alive := slices.Clone(h.Alive)
	for _, pattern := range h.Caches {
		files, err := filepath.Glob(filepath.Join(pattern, "*"))
		if err != nil {
			return nil, fmt.Errorf("look into %s: %w", pattern, err)
		}
		for _, f := range files { // NETWORK-CONTAINER-IFNAME
			alive = append(alive, filepath.Base(f))
		}
	}
	is := func(container string) bool {
		return slices.ContainsFunc(alive, func(name string) bool { return strings.Contains(name, container) })
	}
	leases, bad := h.leases()
	for _, l := range leases {
		if h.Used[l.ip] {
			alive = append(alive, l.container)
		}
	}
	rules, err := reference.List(ctx)
	var all []*Leftover
	for _, r := range rules {
		if r.Container != "" && !is(r.Container) {
			all = append(all, &Leftover{"rules of " + r.String() + ": " + strings.Join(r.Where, ", "), r.Remove})
		}
	}
	for _, l := range leases {
		if !is(l.container) {
			all = append(all, &Leftover{fmt.Sprintf("address %s of container %s (network %s) in %s", l.ip, l.container, l.network, h.Leases), l.remove})
		}
	}
	return all, errors.Join(err, bad)
}

// lease is an address that host-local gave to a container.
type lease struct {
	ip                 netip.Addr
	network, container string
	path               string
	holder             []byte // what the file says
}

func (l *lease) remove() error {
	now, err := os.ReadFile(l.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !bytes.Equal(now, l.holder) { // given away since
		return nil
	}
	return errors.Join(err, os.Remove(l.path))
}

// leases are host-local's files: named after the address, with the container's ID and, since
// 2019, the interface's name in the next line.
func (h *Host) leases() (all []*lease, err error) {
	networks, err := os.ReadDir(h.Leases)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, n := range networks {
		files, bad := os.ReadDir(filepath.Join(h.Leases, n.Name()))
		if !n.IsDir() || bad != nil {
			err = errors.Join(err, bad)
			continue
		}
		for _, f := range files {
			ip, notIP := netip.ParseAddr(f.Name()) // else a lock, or where it was last
			path := filepath.Join(h.Leases, n.Name(), f.Name())
			holder, bad := os.ReadFile(path)
			if notIP != nil || bad != nil { // gone since
				continue
			}
			container, _, _ := strings.Cut(string(bytes.TrimSpace(holder)), "\n")
			container = strings.TrimSpace(container)
			if container != "" {
				all = append(all, &lease{ip, n.Name(), container, path, holder})
			}
		}
	}
	return all, err
}
