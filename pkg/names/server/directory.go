package server

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/names"
)

// Directory is who is called what: the containers of this host, which also ask, and
// those of other hosts. All methods may be called at any time.
//
// A change touches what belongs to the entry, however many there are, and holds the
// lock for microseconds; a query holds it for less than one.
type Directory struct {
	mu         sync.RWMutex
	networks   map[string]*network
	suffixes   map[string][]*network // by suffix; those without one are not here
	subnets    map[netip.Prefix]int  // of all networks, by how many members
	members    map[owned]*member
	clients    map[client]*member
	containers map[string][]*member // of this host, in the order of their interfaces
	nodes      map[string]map[attach.Key]bool
	bridges    map[string]map[*network]int // by how many members of this host that ask by it
	changed    func(attach.Key)
	known      map[string]names.Network // also those that nobody is on
}

// owned names an entry: its node is empty for this host.
type owned struct {
	node string
	key  attach.Key
}

// client is who asks: the interface that the query came in by, and its source.
type client struct {
	bridge string
	addr   netip.Addr
}

// member is an entry in its network.
type member struct {
	names.Entry
	network *network
	links   map[string]string // by the alias's [wireKey]
	forward forwarding
}

// forwarding is where a member's network sends what it does not know.
type forwarding struct {
	allowed   bool
	upstreams []netip.Addr // empty: the host's
}

// network is the names of a network.
type network struct {
	suffix  string               // wire form of the network's name; empty when it is none
	names   map[string][]*member // by [wireKey]
	addrs   map[netip.Addr]*member
	subnets map[netip.Prefix]int // by how many members
	members int                  // and one more while it is known without them ([Directory.Know])
	guest   *member              // who asks from an address that no container was given; nil: nobody may
}

// NewDirectory returns an empty directory.
func NewDirectory() *Directory {
	return &Directory{networks: map[string]*network{}, suffixes: map[string][]*network{}, subnets: map[netip.Prefix]int{}, members: map[owned]*member{}, clients: map[client]*member{},
		containers: map[string][]*member{}, nodes: map[string]map[attach.Key]bool{}, bridges: map[string]map[*network]int{},
		changed: func(attach.Key) {}}
}

// Notify has fn called with the key of each entry of this host that comes, changes or
// goes, and at first of those that are there. There is one fn; it is called under the
// directory's lock, returns at once and calls no method of the directory.
func (d *Directory) Notify(fn func(attach.Key)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changed = fn
	for o := range d.members {
		if o.node == "" {
			fn(o.key)
		}
	}
}

// Put adds an entry of this host, in place of one with its key. One of another
// container that has an address of it on its network is outdated, and goes.
func (d *Directory) Put(e names.Entry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, addr := range e.Addresses {
		old := d.holder(e.Network, addr)
		if old != nil && old.Bridge != "" && old.Container != e.Container {
			d.delete(owned{"", old.Key})
		}
	}
	d.put("", e)
}

func (d *Directory) holder(network string, addr netip.Addr) *member {
	if n := d.networks[network]; n != nil {
		return n.addrs[addr]
	}
	return nil
}

// Delete removes the entry of this host with that key, if there is one.
func (d *Directory) Delete(k attach.Key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.delete(owned{"", k})
}

// Get returns the entry of this host with that key.
func (d *Directory) Get(k attach.Key) (names.Entry, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	m, ok := d.members[owned{"", k}]
	if !ok {
		return names.Entry{}, false
	}
	return m.Entry, true
}

// Local returns the entries of this host, in no order: what other hosts are told.
func (d *Directory) Local() []names.Entry {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var all []names.Entry
	for o, m := range d.members {
		if o.node == "" {
			all = append(all, m.Entry)
		}
	}
	return all
}

// PutRemote adds an entry of another node, in place of one with its key. Its
// container is found and asks nothing here.
func (d *Directory) PutRemote(node string, e names.Entry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.put(node, remote(e))
}

// DeleteRemote removes an entry of another node.
func (d *Directory) DeleteRemote(node string, k attach.Key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.delete(owned{node, k})
}

// SetNode makes the entries all that the directory knows of another node. Without
// any the node is forgotten.
func (d *Directory) SetNode(node string, entries []names.Entry) {
	want := map[attach.Key]bool{}
	for _, e := range entries {
		want[e.Key] = true
		d.PutRemote(node, e)
	}
	d.mu.RLock()
	have := slices.Collect(maps.Keys(d.nodes[node]))
	d.mu.RUnlock()
	for _, k := range have { // the lock is let go between: nobody waits for a whole host
		if !want[k] {
			d.DeleteRemote(node, k)
		}
	}
}

func remote(e names.Entry) names.Entry {
	return names.Entry{Key: e.Key, Names: e.Names, Addresses: e.Addresses, Subnets: e.Subnets}
}

func (d *Directory) put(node string, e names.Entry) {
	o := owned{node, e.Key}
	d.delete(o)
	m := newMember(e, d.network(e.Network))
	d.members[o] = m
	m.network.join(m)
	for _, s := range m.Subnets {
		d.subnets[s]++
	}
	if node != "" {
		if d.nodes[node] == nil {
			d.nodes[node] = map[attach.Key]bool{}
		}
		d.nodes[node][e.Key] = true
		return
	}
	d.changed(e.Key)
	for _, addr := range e.Addresses {
		d.clients[client{e.Bridge, addr}] = m
	}
	if d.bridges[e.Bridge] == nil {
		d.bridges[e.Bridge] = map[*network]int{}
	}
	d.bridges[e.Bridge][m.network]++
	if m.network.guest = nil; !m.Foreign {
		m.network.guest = &member{Entry: names.Entry{Gateways: m.Gateways}, network: m.network, forward: m.forward}
	}
	all := d.containers[e.Container]
	at, _ := slices.BinarySearchFunc(all, e.IfName, func(m *member, name string) int { return strings.Compare(m.IfName, name) })
	d.containers[e.Container] = slices.Insert(all, at, m)
}

func (d *Directory) delete(o owned) {
	m := d.members[o]
	if m == nil {
		return
	}
	delete(d.members, o)
	if m.network.leave(m); m.network.members == 0 {
		d.forget(m.Network)
	}
	for _, s := range m.Subnets {
		d.release(s)
	}
	if o.node != "" {
		if delete(d.nodes[o.node], o.key); len(d.nodes[o.node]) == 0 {
			delete(d.nodes, o.node)
		}
		return
	}
	d.changed(o.key)
	for _, addr := range m.Addresses {
		if c := (client{m.Bridge, addr}); d.clients[c] == m {
			delete(d.clients, c)
		}
	}
	asking := d.bridges[m.Bridge]
	if asking[m.network]--; asking[m.network] == 0 {
		delete(asking, m.network)
	}
	if len(asking) == 0 {
		delete(d.bridges, m.Bridge)
	}
	d.containers[m.Container] = without(d.containers[m.Container], m)
	if len(d.containers[m.Container]) == 0 {
		delete(d.containers, m.Container)
	}
}

// counts are the entries of this host and of others, and the bridges of this host.
func (d *Directory) counts() (local, elsewhere int, bridges []string) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, n := range d.nodes {
		elsewhere += len(n)
	}
	return len(d.members) - elsewhere, elsewhere, slices.Sorted(maps.Keys(d.bridges))
}

func (d *Directory) network(name string) *network {
	n := d.networks[name]
	if n == nil {
		n = &network{suffix: wireName(names.Domain(name)), names: map[string][]*member{},
			addrs: map[netip.Addr]*member{}, subnets: map[netip.Prefix]int{}}
		d.networks[name] = n
		if n.suffix != "" {
			d.suffixes[n.suffix] = append(d.suffixes[n.suffix], n)
		}
	}
	return n
}

// asker is who asks from an address: the container that has it; else one that has another
// address beside (keepalived's, one of a bridge inside of it), of which no more is known
// than the network by whose bridge it comes. nil for who is of no network.
func (d *Directory) asker(from client) (m *member, known bool) {
	if m := d.clients[from]; m != nil {
		return m, true
	}
	if from.bridge == names.AnyInterface { // by which anybody may come
		return nil, false
	}
	for n := range d.bridges[from.bridge] {
		m = n.guest
		for s := range n.subnets {
			if s.Contains(from.addr) {
				return m, false
			}
		}
	}
	return m, false
}

func (d *Directory) forget(name string) {
	n := d.networks[name]
	delete(d.networks, name)
	d.suffixes[n.suffix] = without(d.suffixes[n.suffix], n)
	if len(d.suffixes[n.suffix]) == 0 {
		delete(d.suffixes, n.suffix)
	}
}

func newMember(e names.Entry, n *network) *member {
	e.Names = slices.DeleteFunc(slices.Clone(e.Names), func(name string) bool { return names.Valid(name) != nil }) // of another host's
	m := &member{Entry: e, network: n}
	m.forward = forwarding{allowed: !e.Internal || len(e.Upstreams) > 0, upstreams: e.Upstreams}
	for alias, target := range e.Links {
		if m.links == nil {
			m.links = map[string]string{}
		}
		m.links[wireKey(alias)] = target
	}
	return m
}

func (n *network) join(m *member) {
	n.members++
	for _, name := range m.Names {
		key := wireKey(name)
		n.names[key] = append(n.names[key], m)
	}
	for _, addr := range m.Addresses {
		if held := n.addrs[addr]; held == nil || held.Bridge == "" || m.Bridge != "" { // this host knows its own
			n.addrs[addr] = m
		}
	}
	for _, s := range m.Subnets {
		n.subnets[s]++
	}
}

func (n *network) leave(m *member) {
	n.members--
	for _, name := range m.Names {
		key := wireKey(name)
		if n.names[key] = without(n.names[key], m); len(n.names[key]) == 0 {
			delete(n.names, key)
		}
	}
	for _, addr := range m.Addresses {
		if n.addrs[addr] == m {
			delete(n.addrs, addr)
		}
	}
	for _, s := range m.Subnets {
		if n.subnets[s]--; n.subnets[s] == 0 {
			delete(n.subnets, s)
		}
	}
}

// without returns the list without one, in memory of its own: a reader may have the old.
func without[T comparable](list []T, one T) []T {
	return slices.DeleteFunc(slices.Clone(list), func(x T) bool { return x == one })
}
