package conflist

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// findSubnets checks the subnets, and takes from the pools what is not given.
func (p *plan) findSubnets() {
	for i, s := range p.Subnets {
		if why := wrongSubnet(s); why != "" {
			p.refuse("--subnet: %s: %s", s, why)
			continue
		}
		if j := slices.IndexFunc(p.Subnets[:i], s.Overlaps); j >= 0 {
			p.refuse("--subnet: %s: overlaps %s, which is given, too", s, p.Subnets[j])
			continue
		}
		p.subnets = append(p.subnets, s)
	}
	has4 := slices.ContainsFunc(p.Subnets, func(s netip.Prefix) bool { return s.Addr().Is4() })
	has6 := slices.ContainsFunc(p.Subnets, func(s netip.Prefix) bool { return s.Addr().Is6() })
	switch {
	case p.IPv4 == nil && len(p.Subnets) == 0, p.IPv4 != nil && *p.IPv4 && !has4:
		p.fromPools(false)
	case p.IPv4 != nil && !*p.IPv4 && has4:
		p.refuse("--ipv4=false: cannot be together with --subnet of IPv4")
	case p.IPv4 != nil && !*p.IPv4 && !has6 && !p.IPv6:
		p.refuse("--ipv4=false: want --ipv6, or --subnet of IPv6")
	}
	if p.IPv6 && !has6 {
		p.fromPools(true)
	}
}

// fromPools takes a subnet that nobody has. IPv6 needs no pool.
func (p *plan) fromPools(v6 bool) {
	s, ok := Free(p.host.Pools, v6, p.host.Taken)
	if !ok && v6 {
		var err error
		if s, err = FreeULA(p.host.Random, p.host.Taken); err != nil {
			p.errs = append(p.errs, err)
			return
		}
		ok = true
	}
	if !ok {
		words := make([]string, len(p.host.Pools))
		for i, pool := range p.host.Pools {
			words[i] = pool.String()
		}
		p.conflict("--subnet: none is free in the pools %s: want one, or more --address-pools", strings.Join(words, ", "))
		return
	}
	p.subnets = append(p.subnets, s)
}

// wrongSubnet tells what keeps containers from having addresses of a prefix.
func wrongSubnet(s netip.Prefix) string {
	switch a := s.Addr(); {
	case a.Is4In6():
		return "want it in IPv4's own notation"
	case s != s.Masked():
		return fmt.Sprintf("has host bits set: the network address of this length is %s", s.Masked())
	case a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.IsLinkLocalUnicast():
		return "want a network of unicast addresses"
	case a.BitLen()-s.Bits() < 2:
		return fmt.Sprintf("is too small: want /%d or shorter", a.BitLen()-2)
	}
	return ""
}

// findRanges gives each subnet its gateway, range and reserved addresses.
func (p *plan) findRanges() {
	for _, s := range p.subnets {
		p.ranges = append(p.ranges, Range{Subnet: s, Gateway: s.Addr().Next()})
	}
	unknown := len(p.subnets) < max(1, len(p.Subnets)) // one was refused: more cannot be said
	set := map[netip.Prefix]string{}
	for _, g := range p.Gateways {
		r := p.rangeOf(g)
		switch {
		case r == nil && unknown:
		case r == nil:
			p.refuse("--gateway: %s: is in no subnet of the network", g)
		case g == r.Subnet.Addr() || g.Is4() && g == last(r.Subnet):
			p.refuse("--gateway: %s: is the network or broadcast address of %s", g, r.Subnet)
		case set[r.Subnet] != "":
			p.refuse("--gateway: %s: %s has the gateway %s", g, r.Subnet, set[r.Subnet])
		default:
			r.Gateway = g
			set[r.Subnet] = g.String()
		}
	}
	for _, part := range p.IPRanges {
		r := p.rangeOf(part.Addr())
		switch {
		case r == nil && unknown:
		case part != part.Masked():
			p.refuse("--ip-range: %s: has host bits set: want %s", part, part.Masked())
		case r == nil || part.Bits() < r.Subnet.Bits():
			p.refuse("--ip-range: %s: is in no subnet of the network", part)
		case r.Start.IsValid():
			p.refuse("--ip-range: %s: %s has the range %s-%s", part, r.Subnet, r.Start, r.End)
		default:
			r.limit(part)
		}
	}
	p.findAux(unknown)
}

// limit has addresses given out from a part of the subnet only.
func (r *Range) limit(part netip.Prefix) {
	r.Start, r.End = part.Addr(), last(part)
	if r.Start == r.Subnet.Addr() {
		r.Start = r.Start.Next()
	}
	if r.End.Is4() && r.End == last(r.Subnet) {
		r.End = r.End.Prev()
	}
}

// Part is the smallest prefix that a range is in, and whether [Spec.IPRanges] with it makes
// that range.
func (r Range) Part() (part netip.Prefix, exactly bool) {
	bits := r.Start.BitLen()
	for part = netip.PrefixFrom(r.Start, bits); bits > 0 && !part.Contains(r.End); {
		bits--
		part = netip.PrefixFrom(r.Start, bits).Masked()
	}
	again := Range{Subnet: r.Subnet}
	again.limit(part)
	return part, again.Start == r.Start && again.End == r.End
}

func (p *plan) rangeOf(a netip.Addr) *Range {
	for i := range p.ranges {
		if p.ranges[i].Subnet.Contains(a) {
			return &p.ranges[i]
		}
	}
	return nil
}

// findAux keeps addresses from containers.
func (p *plan) findAux(unknown bool) {
	for _, pair := range p.Aux {
		name, text, ok := strings.Cut(pair, "=")
		a, err := netip.ParseAddr(text)
		if !ok || name == "" || err != nil || a.Zone() != "" {
			p.refuse("--aux-address: %s: want name=address", pair)
			continue
		}
		r := p.rangeOf(a.Unmap())
		switch before, twice := p.mark.Aux[name]; {
		case r == nil && unknown:
		case twice:
			p.refuse("--aux-address: %s: %s is %s, too", pair, name, before)
		case r == nil:
			p.refuse("--aux-address: %s: is in no subnet of the network", pair)
		case a.Unmap() == r.Gateway:
			p.refuse("--aux-address: %s: is the gateway", pair)
		default:
			if p.mark.Aux == nil {
				p.mark.Aux = map[string]netip.Addr{}
			}
			p.mark.Aux[name] = a.Unmap()
			r.Exclude = append(r.Exclude, a.Unmap().String())
		}
	}
}

// checkTaken tells of everything that the subnets are in the way of.
func (p *plan) checkTaken() {
	link := p.conf.Bridge
	if OnParent(p.Driver) {
		link = p.conf.Master
	}
	for _, r := range p.ranges {
		said := map[string]bool{}
		for _, t := range p.host.Taken {
			route := t.Driver == ""
			if !t.conflicts(p.Driver, link, r) || route && t.Link != "" && said[t.Link] {
				continue // the route to a network is the network again
			}
			said[t.Link] = true
			if text := fmt.Sprintf("--subnet: %s: overlaps %s of %s", r.Subnet, t.Prefix, t.By); !said[text] {
				said[text] = true
				p.conflict("%s", text)
			}
		}
	}
}
