package link

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// newAddress is the request that gives an address to a link. dad has IPv6 look
// for a duplicate first (RFC 4862, section 5.4), which takes a second or more.
func newAddress(index int, p netip.Prefix, dad bool) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	req.AddData(addressHeader(index, p))
	ip := p.Addr().AsSlice()
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, ip))
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, ip))
	if p.Addr().Is4() {
		if bits := p.Bits(); bits < 31 {
			req.AddData(nl.NewRtAttr(unix.IFA_BROADCAST, lastAddress(p).AsSlice()))
		}
	} else if !dad {
		req.AddData(nl.NewRtAttr(unix.IFA_FLAGS, nl.Uint32Attr(unix.IFA_F_NODAD)))
	}
	return req
}

func deleteAddress(index int, p netip.Prefix) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_DELADDR, 0)
	req.AddData(addressHeader(index, p))
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, p.Addr().AsSlice()))
	return req
}

// hasAddress6 reports whether a link has an IPv6 address. Since kernel 4.15 the answer
// does not wait for the interface lock.
func (c *conn) hasAddress6(index int, addr netip.Addr) (bool, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETADDR, 0)
	req.AddData(addressHeader(index, netip.PrefixFrom(addr, addr.BitLen())))
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, addr.AsSlice()))
	_, err := c.do(req)
	if isErrno(err, unix.EADDRNOTAVAIL) {
		return false, nil
	}
	return err == nil, err
}

func addressHeader(index int, p netip.Prefix) *nl.IfAddrmsg {
	msg := nl.NewIfAddrmsg(family(p.Addr()))
	msg.Index = uint32(index)
	msg.Prefixlen = uint8(p.Bits())
	return msg
}

func lastAddress(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		a[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(a)
}

// addresses lists the addresses of one link, of both families, in the kernel's
// order. Not for the ADD path.
func (c *conn) addresses(index int) ([]netip.Prefix, error) {
	all, err := c.addressFlags(index)
	prefixes := make([]netip.Prefix, len(all))
	for i, a := range all {
		prefixes[i] = a.prefix
	}
	return prefixes, err
}

// address is an address of a link, with its IFA_F_* flags.
type address struct {
	prefix netip.Prefix
	flags  uint32
}

func (c *conn) addressFlags(index int) ([]address, error) {
	replies, err := c.dump(func() *nl.NetlinkRequest {
		req := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
		msg := nl.NewIfAddrmsg(unix.AF_UNSPEC)
		msg.Index = uint32(index)
		req.AddData(msg)
		return req
	})
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var all []address
	for _, r := range replies {
		if r.kind != unix.RTM_NEWADDR || len(r.data) < unix.SizeofIfAddrmsg {
			continue
		}
		msg := nl.DeserializeIfAddrmsg(r.data)
		if int(msg.Index) != index {
			continue // a kernel before 4.20 does not filter
		}
		attrs, err := nl.ParseRouteAttr(r.data[msg.Len():])
		if err != nil {
			return nil, fmt.Errorf("address message: %w", err)
		}
		var ip netip.Addr
		flags := uint32(msg.Flags)
		for _, a := range attrs {
			switch {
			case a.Attr.Type == unix.IFA_LOCAL, a.Attr.Type == unix.IFA_ADDRESS && !ip.IsValid():
				ip, _ = netip.AddrFromSlice(a.Value)
			case a.Attr.Type == unix.IFA_FLAGS:
				flags = uint32Of(a.Value)
			}
		}
		all = append(all, address{netip.PrefixFrom(ip, int(msg.Prefixlen)), flags})
	}
	return all, nil
}
