package server

import (
	"math/rand/v2"
	"net/netip"

	"github.com/berth-cni/berth/pkg/names"
)

// verdict is what becomes of a query.
type verdict int

const (
	answered  verdict = iota // the answer is written
	refused                  // nobody who is known asks
	forwarded                // it is for the upstream resolvers
	linked                   // it is a link to a container that has no names
)

// elsewhere is what a query needs whose answer is not in the directory.
type elsewhere struct {
	upstreams []netip.Addr // empty: the host's
	networks  []string     // of the client, for a link
	target    string       // of the link
	guest     bool         // the client has no name here
}

const localhost = "\x09localhost\x00"

// resolve answers a client's query if the directory can, or says who is to.
//
// What is certainly a name of a network, known or not, is answered here and never
// sent upstream (CVE-2025-8283: an outsider answered for the containers' names): names
// that a container of the client's networks has, with dots or without; single labels;
// everything under the name of one of the networks; the reverse of addresses in their
// subnets ([Directory.stays] has those that are not the client's). Docker and aardvark
// forward a single label that they do not know, and tell the outside what the inside is
// called. Forwarded are those that a validating resolver asks of top level domains.
func (d *Directory) resolve(from client, q *query, a *answer) (verdict, elsewhere) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	m, known := d.asker(from)
	if m == nil {
		return refused, elsewhere{}
	}
	name := q.name()
	if rest, ok := cutSuffix(name, localhost); ok {
		a.zone = headerLen + len(rest)
		a.loopback(q.qtype) // RFC 6761, 6.3
		return answered, elsewhere{}
	}
	key := name[:len(name)-1]
	if target, ok := m.links[string(key)]; ok {
		return d.link(m, target, q, a)
	}
	if found := d.find(m, key); found != nil {
		a.members(found, q.qtype)
		return answered, elsewhere{}
	}
	if other, target := d.linkedBeside(m, key); other != nil {
		return d.link(other, target, q, a)
	}
	if hostNames[string(key)] {
		d.host(m, q, a)
		return answered, elsewhere{}
	}
	f := d.forwarding(m)
	if d.inNetworks(m, q, a) || d.stays(q, a, len(f.upstreams) > 0) {
		return answered, elsewhere{}
	}
	infrastructure := q.qtype == typeNS || q.qtype == typeSOA || q.qtype == typeDS || q.qtype == typeDNSKEY
	if q.labels == 1 && !infrastructure {
		a.rcode = rcodeNXDomain
		return answered, elsewhere{}
	}
	switch {
	case !f.allowed: // CVE-2024-29018: an internal network's way out
		// NXDOMAIN and not REFUSED, for which musl's resolver would wait until its time
		// is over.
		a.flags, a.rcode = 0, rcodeNXDomain
		return answered, elsewhere{}
	case q.qtype == typeANY:
		a.flags = 0
		a.minimal()
		return answered, elsewhere{}
	}
	return forwarded, elsewhere{upstreams: f.upstreams, guest: !known}
}

// hostNames are what a container calls its host by, as Docker Desktop, podman and Berth
// have it.
var hostNames = map[string]bool{
	wireKey("host.docker.internal"): true, wireKey("host.containers.internal"): true, wireKey("host.berth.internal"): true,
}

// host answers with the gateway of the first of the client's networks that has one.
func (d *Directory) host(m *member, q *query, a *answer) {
	gateways := m.Gateways
	for _, other := range d.containers[m.Container] {
		if len(gateways) == 0 {
			gateways = other.Gateways
		}
	}
	switch {
	case len(gateways) == 0:
		a.rcode = rcodeNXDomain
	case q.qtype == typeANY:
		a.minimal()
	default:
		var few [2]netip.Addr
		a.addresses(family(few[:0], gateways, q.qtype))
	}
}

// seen calls fn for each network that a client sees, the one that it asked by first,
// until fn returns true.
func (d *Directory) seen(m *member, fn func(*network) bool) bool {
	if fn(m.network) {
		return true
	}
	for _, other := range d.containers[m.Container] {
		if other.network != m.network && fn(other.network) {
			return true
		}
	}
	return false
}

// find returns who has the name, a [wireKey], in the first network that knows it.
func (d *Directory) find(m *member, key []byte) []*member {
	if found := m.network.names[string(key)]; found != nil {
		return found
	}
	for _, other := range d.containers[m.Container] {
		if found := other.network.names[string(key)]; found != nil {
			return found
		}
	}
	return nil
}

// inNetworks answers what is under the name of a network of the client, or about an
// address in one of their subnets. It reports whether the query was one of these.
func (d *Directory) inNetworks(m *member, q *query, a *answer) bool {
	name := q.name()
	if addr, ok := reverse(name); ok {
		return d.pointer(m, addr, q, a)
	}
	for at := 0; name[at] != 0; at += 1 + int(name[at]) {
		rest := name[at:]
		if !d.seen(m, func(n *network) bool { return n.suffix == string(rest) }) {
			continue
		}
		a.zone = headerLen + at
		if at == 0 {
			return true // the network itself: it exists and has no records
		}
		d.seen(m, func(n *network) bool {
			found := n.names[string(name[:at])]
			if n.suffix != string(rest) || found == nil {
				a.rcode = rcodeNXDomain
				return false
			}
			a.rcode = 0
			a.members(found, q.qtype)
			return true
		})
		return true
	}
	return false
}

// pointer answers for an address of the client's networks.
func (d *Directory) pointer(m *member, addr netip.Addr, q *query, a *answer) bool {
	if d.seen(m, func(n *network) bool {
		holder := n.addrs[addr]
		if holder == nil || len(holder.Names) == 0 {
			return false
		}
		switch q.qtype {
		case typePTR:
			full := wireKey(holder.Names[0]) + n.suffix
			if n.suffix == "" || len(full) > maxName {
				full = wireName(holder.Names[0])
			}
			a.pointer(full)
		case typeANY:
			a.minimal()
		}
		return true
	}) {
		return true
	}
	if d.seen(m, func(n *network) bool {
		for s := range n.subnets {
			if s.Contains(addr) {
				return true
			}
		}
		return false
	}) {
		a.rcode = rcodeNXDomain
		return true
	}
	return false
}

// linkedBeside finds a name of the client's own that it has on another of its networks.
func (d *Directory) linkedBeside(m *member, key []byte) (on *member, target string) {
	for _, other := range d.containers[m.Container] {
		if target, ok := other.links[string(key)]; ok {
			return other, target
		}
	}
	return nil, ""
}

// link answers for a name of the client's own.
func (d *Directory) link(m *member, target string, q *query, a *answer) (verdict, elsewhere) {
	var found []*member
	if names.Valid(target) == nil {
		found = d.find(m, []byte(wireKey(target)))
	}
	var networks []string
	d.seen(m, func(n *network) bool {
		for _, other := range d.containers[target] {
			if other.network == n && found == nil {
				found = []*member{other}
			}
		}
		return false
	})
	if found != nil {
		a.members(found, q.qtype)
		return answered, elsewhere{}
	}
	for _, other := range d.containers[m.Container] {
		networks = append(networks, other.Network)
	}
	return linked, elsewhere{networks: networks, target: target}
}

// forwarding is where a client's queries go: to the resolvers of the network that it
// asked by, or of another of its networks, or the host's. It is allowed if one of the
// client's networks allows it, since by that one it could ask itself.
func (d *Directory) forwarding(m *member) forwarding {
	f := m.forward
	for _, other := range d.containers[m.Container] {
		if len(f.upstreams) == 0 {
			f.upstreams = other.forward.upstreams
		}
		f.allowed = f.allowed || other.forward.allowed
	}
	return f
}

// members writes the addresses of one family of all of them, any one first. Of another family or type there is an empty answer: the name exists.
func (a *answer) members(all []*member, qtype uint16) {
	if qtype == typeANY {
		a.minimal()
		return
	}
	var few [8]netip.Addr
	addrs := few[:0]
	for _, m := range all {
		addrs = family(addrs, m.Addresses, qtype)
	}
	a.addresses(addrs)
}

// family appends the addresses that a type of query asks for.
func family(to, from []netip.Addr, qtype uint16) []netip.Addr {
	for _, addr := range from {
		if qtype == typeA && addr.Is4() || qtype == typeAAAA && !addr.Is4() {
			to = append(to, addr)
		}
	}
	return to
}

// addresses begins with any one: to count turns would not do, since most resolvers ask
// for A and AAAA by turns, and every other turn is the same one of two.
func (a *answer) addresses(addrs []netip.Addr) {
	first := 0
	if len(addrs) > 1 {
		first = rand.IntN(len(addrs))
	}
	for i := range addrs {
		a.address(addrs[(first+i)%len(addrs)])
	}
}

func (a *answer) loopback(qtype uint16) {
	switch qtype {
	case typeA:
		a.address(netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	case typeAAAA:
		a.address(netip.IPv6Loopback())
	case typeANY:
		a.minimal()
	}
}
