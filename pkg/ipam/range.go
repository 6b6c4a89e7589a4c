package ipam

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
)

// Range is a part of a subnet from which addresses are given out. It is plain
// data: a caller may make one without [Parse], with all fields but Exclude set.
type Range struct {
	Subnet     netip.Prefix // the network address and its length
	Gateway    netip.Addr
	Start, End netip.Addr // both inclusive
	Exclude    []netip.Prefix
}

func (r *Range) String() string { return r.Start.String() + "-" + r.End.String() }

// address is what an attachment gets for an address of the range.
func (r *Range) address(addr netip.Addr) attach.Address {
	return attach.Address{Prefix: netip.PrefixFrom(addr, r.Subnet.Bits()), Gateway: r.Gateway}
}

// reserved says what an address of the subnet is that no attachment can have:
// the network's own (on IPv6 the routers' anycast address, RFC 4291 section
// 2.6.1) or IPv4's broadcast address. Empty for all others.
func (r *Range) reserved(addr netip.Addr) string {
	switch {
	case addr == r.Subnet.Addr():
		return "network address"
	case addr.Is4() && addr == last(r.Subnet):
		return "broadcast address"
	}
	return ""
}

// span is a run of addresses that may be given out, both ends inclusive.
type span struct {
	from, to netip.Addr
	in       *Range
}

func (s span) contains(addr netip.Addr) bool {
	return s.from.Compare(addr) <= 0 && addr.Compare(s.to) <= 0
}

// spans returns what the range can give out, in ascending order: all from Start
// to End but what is excluded, reserved, or a gateway.
func (r *Range) spans(gateways []netip.Addr) []span {
	blocked := slices.Concat(r.Exclude, []netip.Prefix{host(r.Subnet.Addr())})
	if r.Subnet.Addr().Is4() {
		blocked = append(blocked, host(last(r.Subnet)))
	}
	for _, gw := range gateways {
		if gw.IsValid() {
			blocked = append(blocked, host(gw))
		}
	}
	slices.SortFunc(blocked, netip.Prefix.Compare)
	var free []span
	from := r.Start
	for _, b := range blocked {
		if b.Addr().Compare(r.End) > 0 {
			break
		}
		if last(b).Compare(from) < 0 {
			continue
		}
		if from.Compare(b.Addr()) < 0 {
			free = append(free, span{from, b.Addr().Prev(), r})
		}
		if from = last(b).Next(); !from.IsValid() {
			return free // the end of the address space
		}
	}
	if from.Compare(r.End) <= 0 {
		free = append(free, span{from, r.End, r})
	}
	return free
}

// RangeSet is a list of ranges of one address family, used one after the other.
type RangeSet []Range

func (s RangeSet) String() string {
	parts := make([]string, len(s))
	for i := range s {
		parts[i] = s[i].String()
	}
	return strings.Join(parts, ", ")
}

// spans returns the spans of the set's ranges, in the configuration's order.
func (s RangeSet) spans(gateways []netip.Addr) []span {
	var all []span
	for i := range s {
		all = append(all, s[i].spans(gateways)...)
	}
	return all
}

func host(addr netip.Addr) netip.Prefix { return netip.PrefixFrom(addr, addr.BitLen()) }

// last is the highest address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := range b {
		switch bits := p.Bits() - 8*i; {
		case bits <= 0:
			b[i] = 0xff
		case bits < 8:
			b[i] |= 0xff >> bits
		}
	}
	addr, _ := netip.AddrFromSlice(b) // 4 or 16 bytes, as they came
	return addr
}
