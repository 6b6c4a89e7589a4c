package vxlan

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Inspect reads a network's device and peers as the kernel has them in the calling
// thread's namespace, for people: the peers have no names, and are sorted by their
// underlay addresses. A peer that lacks its FDB entry has no underlay address, one that
// lacks its neighbours or routes has no blocks, and routes that lead to nobody are a
// peer without a MAC. ENODEV when there is no such device.
func Inspect(name string) (Device, []Peer, error) {
	c, err := dial()
	if err != nil {
		return Device{}, nil, err
	}
	defer c.close()
	l, err := c.link(name)
	if err == nil && (l == nil || l.kind != vxlanKind) {
		err = fmt.Errorf("VXLAN device %s: %w", name, unix.ENODEV)
	}
	if err != nil {
		return Device{}, nil, err
	}
	d := Device{Name: l.name, VNI: l.vni, Port: l.port, MTU: l.mtu, MAC: net.HardwareAddr(l.mac[:]),
		Local: l.local, Underlay: l.underlay}
	addrs, err := c.listAddresses(l.index)
	if err != nil {
		return d, nil, err
	}
	for _, a := range addrs {
		d.Addresses = append(d.Addresses, a.prefix.Addr())
	}
	if d.Subnets, err = c.listUnreachable(); err != nil { // of all networks
		return d, nil, err
	}
	d.Subnets = slices.DeleteFunc(d.Subnets, func(s netip.Prefix) bool {
		return !slices.ContainsFunc(d.Addresses, s.Contains)
	})
	on, err := c.txChecksum(name, ethtoolValue{cmd: unix.ETHTOOL_GTXCSUM})
	if err != nil {
		return d, nil, err
	}
	d.NoChecksumOffload = !on
	have, err := c.actual(l.index, 0)
	return d, have.peers(), err
}

// peers puts together what has one MAC.
func (a *actual) peers() []Peer {
	all := map[mac]*Peer{}
	peer := func(m mac) *Peer {
		if all[m] == nil {
			all[m] = &Peer{MAC: net.HardwareAddr(m[:])}
		}
		return all[m]
	}
	for _, e := range a.fdb {
		peer(e.mac).Underlay = e.underlay
	}
	by := map[netip.Addr]*Peer{}
	var lost []*Peer // routes that lead to nobody
	for _, n := range a.neighbours {
		if n.mac != (mac{}) {
			by[n.addr] = peer(n.mac)
		}
	}
	for _, r := range a.routes {
		p := by[r.via]
		if p == nil {
			p = &Peer{}
			by[r.via] = p
			lost = append(lost, p)
		}
		p.Blocks = append(p.Blocks, r.dst)
		p.MTU = max(p.MTU, r.mtu)
	}
	var sorted []Peer
	for _, p := range slices.AppendSeq(lost, maps.Values(all)) {
		slices.SortFunc(p.Blocks, func(a, b netip.Prefix) int {
			return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
		})
		sorted = append(sorted, *p)
	}
	slices.SortFunc(sorted, func(a, b Peer) int {
		return cmp.Or(a.Underlay.Compare(b.Underlay), slices.Compare(a.MAC, b.MAC))
	})
	return sorted
}
