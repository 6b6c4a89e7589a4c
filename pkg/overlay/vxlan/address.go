package vxlan

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// ownAddress is an address of the device.
type ownAddress struct {
	prefix netip.Prefix
	flags  uint32 // IFA_F_*
}

// right reports whether the address is here to stay.
func (a ownAddress) right() bool {
	return a.flags&unix.IFA_F_PERMANENT != 0 && a.flags&unix.IFA_F_DADFAILED == 0
}

// putAddress adds a host's address, or makes one permanent that is there. Nobody
// else has it, so IPv6 does not look for a duplicate.
func (b *batch) putAddress(index int, a netip.Addr) {
	b.add(request{verb: "add address", thing: a}, unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE,
		ifaddrmsg(index, host(a))...)
	b.addr(unix.IFA_LOCAL, a)
	b.addr(unix.IFA_ADDRESS, a)
	if a.Is6() {
		b.uint32(unix.IFA_FLAGS, unix.IFA_F_NODAD)
	}
	b.finish()
}

func (b *batch) deleteAddress(index int, p netip.Prefix) {
	b.add(request{verb: "delete address", thing: p, gone: true}, unix.RTM_DELADDR, 0, ifaddrmsg(index, p)...)
	b.addr(unix.IFA_LOCAL, p.Addr())
	b.finish()
}

func ifaddrmsg(index int, p netip.Prefix) []byte {
	h := []byte{family(p.Addr()), byte(p.Bits()), 0, unix.RT_SCOPE_UNIVERSE}
	return appendUint32(h, uint32(index))
}

// host is the prefix of one address.
func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// listAddresses reads the device's addresses of both families.
func (c *conn) listAddresses(index int) ([]ownAddress, error) {
	var b batch
	b.add(request{verb: "list addresses"}, unix.RTM_GETADDR, unix.NLM_F_DUMP, appendUint32([]byte{unix.AF_UNSPEC, 0, 0, 0}, uint32(index))...)
	b.finish()
	return list(c, &b, nil, func(_ uint16, body []byte) (ownAddress, bool) {
		a, on, ok := parseAddress(body)
		return a, ok && on == index
	})
}

// parseAddress reads an address and the device that it is on.
func parseAddress(body []byte) (a ownAddress, index int, ok bool) {
	if len(body) < unix.SizeofIfAddrmsg {
		return a, 0, false
	}
	a.flags = uint32(body[2])
	var local, remote netip.Addr
	for kind, value := range attributes(body[unix.SizeofIfAddrmsg:]) {
		switch kind {
		case unix.IFA_LOCAL:
			local = addrOf(value)
		case unix.IFA_ADDRESS:
			remote = addrOf(value)
		case unix.IFA_FLAGS:
			a.flags = uint32Of(value)
		}
	}
	if !local.IsValid() {
		local = remote
	}
	a.prefix = netip.PrefixFrom(local, int(body[1]))
	return a, int(uint32Of(body[4:])), a.prefix.IsValid()
}
