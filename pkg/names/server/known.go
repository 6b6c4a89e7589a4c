package server

import (
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/names"
)

// Know makes these all networks that are known beside those of the containers: what is under
// their names, and whose their addresses are, is asked of nobody else. It changes what differs
// from the last time.
func (d *Directory) Know(all []names.Network) {
	now := make(map[string]names.Network, len(all))
	for _, n := range all {
		now[n.Name] = n
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	same := func(a, b names.Network) bool {
		return a.Name == b.Name && a.Named == b.Named && slices.Equal(a.Subnets, b.Subnets)
	}
	for name, old := range d.known {
		if !same(old, now[name]) {
			d.forgetKnown(old)
		}
	}
	for name, n := range now {
		if !same(n, d.known[name]) {
			d.learn(n)
		}
	}
	d.known = now
}

// learn has a network kept as one with a member is.
func (d *Directory) learn(n names.Network) {
	if n.Named {
		d.network(n.Name).members++
	}
	for _, s := range n.Subnets {
		d.subnets[s.Masked()]++
	}
}

func (d *Directory) forgetKnown(n names.Network) {
	if n.Named {
		if kept := d.networks[n.Name]; kept.members == 1 {
			d.forget(n.Name)
		} else {
			kept.members--
		}
	}
	for _, s := range n.Subnets {
		d.release(s.Masked())
	}
}

// release counts a subnet once less.
func (d *Directory) release(s netip.Prefix) {
	if d.subnets[s]--; d.subnets[s] == 0 {
		delete(d.subnets, s)
	}
}

// Know is [Directory.Know].
func (s *Server) Know(all []names.Network) { s.directory.Know(all) }
