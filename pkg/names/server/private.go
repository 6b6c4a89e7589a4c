package server

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// stays answers what is not the client's to know, and nobody else's either: names of other
// networks, addresses of theirs, and those that mean something else everywhere. asked tells
// whether somebody has said which servers the client's network asks: these may know the
// private addresses of where they are. It reports whether the query was one of these.
func (d *Directory) stays(q *query, a *answer, asked bool) bool {
	name := q.name()
	if rest, ok := cutSuffix(name, arpa); ok && len(rest) > 0 {
		if addr, ok := reverse(name); ok && d.isOurs(addr) {
			a.rcode = rcodeNXDomain
			return true
		}
		return !asked && private(q, a)
	}
	if rest, ok := cutSuffix(name, hostDomain); ok { // which the host alone is told, and would tell
		a.zone = headerLen + len(rest)
		a.rcode = rcodeNXDomain
		return true
	}
	for at := 0; name[at] != 0; at += 1 + int(name[at]) {
		others := d.suffixes[string(name[at:])]
		if others == nil {
			continue
		}
		known := at == 0
		for _, n := range others {
			known = known || n.names[string(name[:at])] != nil
		}
		if known || !isPublic(name[at:]) {
			a.rcode = rcodeNXDomain
			return true
		}
	}
	return false
}

// isOurs tells whether an address is in a subnet of any network.
func (d *Directory) isOurs(addr netip.Addr) bool {
	for bits := addr.BitLen(); bits > 0; bits-- {
		if p, err := addr.Prefix(bits); err == nil && d.subnets[p] > 0 {
			return true
		}
	}
	return false
}

// isPublic tells whether a name in wire form ends in a domain of the Internet's: a network
// that is called "dev" takes go.dev from its own containers, and not from all others.
func isPublic(name []byte) bool {
	last := name
	for at := 0; name[at] != 0; at += 1 + int(name[at]) {
		last = name[at:]
	}
	if last[0] == 0 {
		return false
	}
	_, icann := publicsuffix.PublicSuffix(string(last[1 : 1+last[0]]))
	return icann
}

// private answers for the reverse of addresses that are private, each site's own, or for
// examples: the zones that a resolver is to have empty (RFC 6303, 4, and RFC 7793).
func private(q *query, a *answer) bool {
	name := q.name()
	for at := 0; name[at] != 0; at += 1 + int(name[at]) {
		if !privateZones[string(name[at:])] {
			continue
		}
		a.zone = headerLen + at
		addr, ok := reverse(name)
		switch {
		case ok && addr.IsLoopback() && q.qtype == typePTR:
			a.pointer(localhost)
		case at == 0, ok && addr.IsLoopback(): // it exists, and has no such record
		default:
			a.rcode = rcodeNXDomain
		}
		return true
	}
	return false
}

var privateZones = func() map[string]bool {
	zones := strings.Fields(`10 168.192 0 127 254.169 2.0.192 100.51.198 113.0.203 255.255.255.255`)
	for n := range 16 {
		zones = append(zones, fmt.Sprint(16+n, ".172"))
	}
	for n := range 64 {
		zones = append(zones, fmt.Sprint(64+n, ".100"))
	}
	all := map[string]bool{}
	for _, z := range zones {
		all[wireName(z+".in-addr.arpa")] = true
	}
	zeros := strings.Repeat("0.", 31)
	for _, z := range []string{"0." + zeros, "1." + zeros, "d.f.", "8.e.f.", "9.e.f.", "a.e.f.", "b.e.f.", "8.b.d.0.1.0.0.2."} {
		all[wireName(z+"ip6.arpa")] = true
	}
	return all
}()
