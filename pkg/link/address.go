package link

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/sys/unix"
)

// family is that of an address; of none without one.
func family(a netip.Addr) int {
	switch {
	case a.Is4():
		return unix.AF_INET
	case a.Is6():
		return unix.AF_INET6
	}
	return unix.AF_UNSPEC
}

// newAddress is the request that gives an address to a link. dad has IPv6 look
// for a duplicate first (RFC 4862, section 5.4), which takes a second or more.
func newAddress(index int, p netip.Prefix, dad bool) *netlink.Request {
	req := netlink.NewRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, ifaddrmsg(index, p))
	req.Addr(unix.IFA_LOCAL, p.Addr()).Addr(unix.IFA_ADDRESS, p.Addr())
	if p.Addr().Is4() {
		if bits := p.Bits(); bits < 31 {
			req.Addr(unix.IFA_BROADCAST, lastAddress(p))
		}
	} else if !dad {
		req.Uint32(unix.IFA_FLAGS, unix.IFA_F_NODAD)
	}
	return req
}

func deleteAddress(index int, p netip.Prefix) *netlink.Request {
	return netlink.NewRequest(unix.RTM_DELADDR, 0, ifaddrmsg(index, p)).Addr(unix.IFA_LOCAL, p.Addr())
}

// hasAddress6 reports whether a link has an IPv6 address. Since kernel 4.15 the answer
// does not wait for the interface lock.
func (c *conn) hasAddress6(index int, addr netip.Addr) (bool, error) {
	err := c.do(netlink.NewQuestion(unix.RTM_GETADDR, ifaddrmsg(index, host(addr))).Addr(unix.IFA_ADDRESS, addr))
	if isErrno(err, unix.EADDRNOTAVAIL) {
		return false, nil
	}
	return err == nil, err
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
	index  int // of the link
	prefix netip.Prefix
	flags  uint32
}

func (c *conn) addressFlags(index int) ([]address, error) {
	question := netlink.NewQuestion(unix.RTM_GETADDR, ifaddrmsg(index, netip.Prefix{}))
	all, err := list(c, question, unix.RTM_NEWADDR, parseAddress)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	return slices.DeleteFunc(all, func(a address) bool { return a.index != index }), nil // a kernel before 4.20 does not filter
}

func parseAddress(m netlink.Message) (address, error) {
	if len(m.Body) < unix.SizeofIfAddrmsg {
		return address{}, fmt.Errorf("address message of %d bytes", len(m.Body))
	}
	a := address{index: int(netlink.Uint32(m.Body[4:])), flags: uint32(m.Body[2])}
	var local, remote netip.Addr
	for kind, value := range m.Attrs(unix.SizeofIfAddrmsg) {
		switch kind {
		case unix.IFA_LOCAL:
			local = netlink.Addr(value)
		case unix.IFA_ADDRESS:
			remote = netlink.Addr(value)
		case unix.IFA_FLAGS:
			a.flags = netlink.Uint32(value)
		}
	}
	if !local.IsValid() { // IPv6, and without a peer
		local = remote
	}
	a.prefix = netip.PrefixFrom(local, int(m.Body[1]))
	return a, nil
}
