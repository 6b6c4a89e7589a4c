package ipam

import (
	"fmt"
	"math"
	"net/netip"

	"github.com/berth-cni/berth/pkg/attach"
)

// parseRange reads one range and fills in what is not given, as host-local does:
// the gateway is the subnet's first address, the range all of the subnet but the
// network address and IPv4's broadcast address.
func (p *parser) parseRange(key string, spec *rangeSpec) Range {
	subnet, ok := p.subnet(key+".subnet", spec.Subnet)
	if !ok {
		p.addresses(key, spec)
		return Range{}
	}
	r := Range{Subnet: subnet, Gateway: subnet.Addr().Next(), Start: subnet.Addr().Next(), End: last(subnet)}
	if subnet.Addr().Is4() {
		r.End = r.End.Prev()
	}
	if spec.Gateway != "" {
		r.Gateway = p.gateway(key+".gateway", spec.Gateway, &r)
	}
	p.inside(key+".rangeStart", spec.RangeStart, subnet, &r.Start)
	p.inside(key+".rangeEnd", spec.RangeEnd, subnet, &r.End)
	if r.Start.Compare(r.End) > 0 {
		p.refuse(key+".rangeStart", r.Start.String(), "want an address not above rangeEnd, which is %s", r.End)
	}
	for n, s := range spec.Exclude {
		key := fmt.Sprintf("%s.exclude[%d]", key, n)
		prefix, ok := p.excluded(key, s)
		switch {
		case ok && !prefix.Overlaps(subnet):
			p.refuse(key, s, "want addresses of the subnet %s", subnet)
		case ok:
			r.Exclude = append(r.Exclude, prefix)
		}
	}
	return r
}

// subnet reads the CIDR of a network that has addresses to give out.
func (p *parser) subnet(key, s string) (netip.Prefix, bool) {
	n, err := netip.ParsePrefix(s)
	switch {
	case err != nil || n.Addr().Is4In6():
		p.refuse(key, s, "want a CIDR such as 10.88.0.0/16 or fd00:88::/64")
	case n != n.Masked():
		p.refuse(key, s, "has host bits set: the network address of this length is %s", n.Masked())
	case n.Addr().IsUnspecified() || n.Addr().IsMulticast() || n.Addr().IsLoopback():
		p.refuse(key, s, "want a network of unicast addresses")
	case n.Addr().BitLen()-n.Bits() < 2:
		p.refuse(key, s, "is too small: beside the network address and the gateway none is left; want /%d or shorter", n.Addr().BitLen()-2)
	default:
		return n, true
	}
	return netip.Prefix{}, false
}

// gateway reads a gateway. It may be outside of the subnet only where it can be
// reached all the same: a link-local address on IPv6.
func (p *parser) gateway(key, s string, r *Range) netip.Addr {
	gw, ok := parseAddr(s)
	switch {
	case !ok:
		p.refuse(key, s, "want an address such as %s", r.Gateway)
	case gw.Is6() && r.Subnet.Addr().Is6() && gw.IsLinkLocalUnicast():
		return gw
	case !r.Subnet.Contains(gw):
		p.refuse(key, s, "want an address of the subnet %s", r.Subnet)
	case r.reserved(gw) != "":
		p.refuse(key, s, "is the %s of the subnet %s", r.reserved(gw), r.Subnet)
	}
	return gw
}

// addresses refuses what is no address at all, where no subnet is known.
func (p *parser) addresses(key string, spec *rangeSpec) {
	for _, a := range [][2]string{{".gateway", spec.Gateway}, {".rangeStart", spec.RangeStart}, {".rangeEnd", spec.RangeEnd}} {
		if _, ok := parseAddr(a[1]); !ok && a[1] != "" {
			p.refuse(key+a[0], a[1], "want an address of the subnet")
		}
	}
	for n, s := range spec.Exclude {
		p.excluded(fmt.Sprintf("%s.exclude[%d]", key, n), s)
	}
}

// inside reads an address of the subnet into to, which keeps its value when s is
// empty.
func (p *parser) inside(key, s string, subnet netip.Prefix, to *netip.Addr) {
	if s == "" {
		return
	}
	if addr, ok := parseAddr(s); ok && subnet.Contains(addr) {
		*to = addr
		return
	}
	p.refuse(key, s, "want an address of the subnet %s", subnet)
}

// excluded reads an address or a CIDR.
func (p *parser) excluded(key, s string) (netip.Prefix, bool) {
	if addr, ok := parseAddr(s); ok {
		return host(addr), true
	}
	n, err := netip.ParsePrefix(s)
	switch {
	case err != nil || n.Addr().Is4In6():
		p.refuse(key, s, "want an address or a CIDR, such as 10.88.0.7 or 10.88.0.16/28")
	case n != n.Masked():
		p.refuse(key, s, "has host bits set: the network address of this length is %s", n.Masked())
	default:
		return n, true
	}
	return netip.Prefix{}, false
}

// route reads a route. Its numbers have the kernel's widths.
func (p *parser) route(key string, spec *routeSpec) {
	r := attach.Route{
		MTU: spec.MTU, AdvMSS: spec.AdvMSS, Priority: spec.Priority, Table: spec.Table, Scope: spec.Scope,
	}
	dst, err := netip.ParsePrefix(spec.Dst)
	switch {
	case err != nil || dst.Addr().Is4In6():
		p.refuse(key+".dst", spec.Dst, "want a CIDR such as 0.0.0.0/0 or fd00:99::/64")
	case dst != dst.Masked():
		p.refuse(key+".dst", spec.Dst, "has host bits set: the network address of this length is %s", dst.Masked())
	default:
		r.Dst = dst
	}
	if spec.GW != "" {
		gw, ok := parseAddr(spec.GW)
		if !ok || r.Dst.IsValid() && gw.Is4() != r.Dst.Addr().Is4() {
			p.refuse(key+".gw", spec.GW, "want an address of the same family as dst")
		}
		r.Gateway = gw
	}
	p.number(key+".mtu", spec.MTU, math.MaxUint32)
	p.number(key+".advmss", spec.AdvMSS, math.MaxUint32)
	p.number(key+".priority", spec.Priority, math.MaxUint32)
	if spec.Table != nil {
		p.number(key+".table", *spec.Table, math.MaxUint32)
	}
	if spec.Scope != nil {
		p.number(key+".scope", *spec.Scope, math.MaxUint8)
	}
	p.c.Routes = append(p.c.Routes, r)
}

func (p *parser) number(key string, n int, most int64) {
	if n < 0 || int64(n) > most {
		p.errs = append(p.errs, fmt.Errorf("%s: %d: want 0 to %d", key, n, most))
	}
}
