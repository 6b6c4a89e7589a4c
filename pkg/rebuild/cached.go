package rebuild

import (
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/conflist"
	"github.com/berth-cni/berth/pkg/ipam"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/link/netns"
)

// fromCaches makes records of what runtimes keep of their ADDs, where the kernel has what
// it says. Containers that share a namespace come after those whose it is.
func (b *builder) fromCaches() {
	var joined []*entry
	seen := map[*entry]bool{}
	for _, e := range b.entries {
		if seen[e] {
			continue
		}
		seen[e] = true
		for i := range e.file.Plugins {
			b.fromEntry(e, &e.file.Plugins[i])
		}
		joined = append(joined, e)
	}
	slices.SortFunc(joined, func(x, y *entry) int { return x.written.Compare(y.written) })
	for _, e := range joined {
		b.fromJoined(e, e.file.Plugins[0].Type)
	}
}

// fromEntry makes the record that a plugin of the network kept.
func (b *builder) fromEntry(e *entry, p *conflist.Plugin) {
	k := e.key()
	switch p.Type {
	case conflist.Bridge, conflist.Overlay, conflist.Macvlan, conflist.IPVlan:
		if x, there := b.found[k.Hash()]; there && b.records[k.Hash()] == nil {
			b.add(b.record(k, x, e, p))
			b.report.Caches++
			return
		}
		k.Role = attach.Chained
		if b.held[k.Hash()] != nil && b.records[k.Hash()] == nil {
			b.add(b.chained(k, e))
			b.report.Caches++
		}
	case conflist.Host, conflist.None, conflist.Share:
	default:
		k.Role = attach.IPAM
		if a := b.leases(k, e, p); a != nil && b.records[k.Hash()] == nil {
			b.add(a)
			b.report.Caches++
		}
	}
}

// empty is a record of a runtime's ADD that has nothing yet but its namespace; not alive
// when that is gone.
func (b *builder) empty(k attach.Key, e *entry, plugin string) (a *attach.Attachment, own, alive bool) {
	a = &attach.Attachment{Key: k, Plugin: plugin, Netns: e.Netns, Created: e.written.UTC()}
	if r, _ := e.request(&e.file.Plugins[0]); r != nil {
		a.Args = r.Args
	}
	ns, err := netns.Open(e.Netns)
	if err != nil {
		return a, false, false
	}
	defer ns.Close()
	if own, err = ns.IsOwn(); err != nil {
		return a, false, false
	}
	a.Cookie, err = ns.Cookie()
	return a, own, err == nil
}

// leases makes the record of addresses that were given to another main plugin; nil when
// its interface is not there, or has none of them.
func (b *builder) leases(k attach.Key, e *entry, p *conflist.Plugin) *attach.Attachment {
	if p.IPAM == nil || p.IPAM.Type != ipam.BuiltInType {
		return nil
	}
	a, own, alive := b.empty(k, e, ipam.BuiltInType)
	if !alive || own {
		return nil
	}
	a.Cookie = 0 // who only gives addresses does not look into the namespace
	ns, err := netns.Open(e.Netns)
	if err != nil {
		return nil
	}
	defer ns.Close()
	_, have, err := link.Inspect(ns, e.IfName)
	if err != nil {
		return nil
	}
	for _, ip := range e.Result.IPs {
		if slices.ContainsFunc(have, func(h attach.Address) bool { return h.Prefix == ip.Address }) {
			a.Addresses = append(a.Addresses, attach.Address{Prefix: ip.Address, Gateway: ip.Gateway})
			a.Leases = append(a.Leases, ip.Address.Addr())
		}
	}
	if len(a.Leases) == 0 {
		return nil
	}
	return a
}

// fromJoined makes the record of a container that is in a namespace which was there
// before it, or has lo alone.
func (b *builder) fromJoined(e *entry, mode string) {
	k := e.key()
	if b.records[k.Hash()] != nil || mode != conflist.Host && mode != conflist.None && mode != conflist.Share || b.old.Deleted[k.Hash()] {
		return
	}
	a, own, alive := b.empty(k, e, mode)
	if !alive {
		return
	}
	switch {
	case own && mode != conflist.None: // also of who shares with one on host
		host, err := link.ViewHost()
		if err != nil {
			return
		}
		a.MAC, a.Addresses, a.Routes = host.Interface.MAC, host.Addresses, host.Routes
		a.Steps = []attach.Step{&netns.Rebind{}}
	case !own && mode == conflist.None:
		a.Steps = []attach.Step{&link.Loopback{}}
		a.Addresses = cachedAddresses(e)
	case !own && mode == conflist.Share:
		owner := b.owner(a)
		if owner == nil {
			return
		}
		a.MAC, a.Addresses, a.Routes = owner.MAC, owner.Addresses, owner.Routes
		a.Steps = []attach.Step{&netns.Rebind{From: owner.Netns, Owner: owner.Key}}
	default:
		return
	}
	b.add(a)
	b.report.Caches++
}

// owner is the attachment whose namespace the container has joined; nil when none is known.
func (b *builder) owner(a *attach.Attachment) *attach.Attachment {
	for _, o := range b.records {
		if o.Cookie == a.Cookie && a.Cookie != 0 && o.Role != attach.IPAM && o.Netns != a.Netns && netns.RebindOf(o) == nil {
			return o
		}
	}
	return nil
}

func cachedAddresses(e *entry) (all []attach.Address) {
	for _, ip := range e.Result.IPs {
		all = append(all, attach.Address{Prefix: ip.Address})
	}
	return all
}

// prefixed gives addresses the length that the runtime's result has for them.
func prefixed(addrs []netip.Addr, e *entry) (all []attach.Address) {
	for _, ip := range e.Result.IPs {
		if slices.Contains(addrs, ip.Address.Addr()) {
			all = append(all, attach.Address{Prefix: ip.Address, Gateway: ip.Gateway})
		}
	}
	return all
}
