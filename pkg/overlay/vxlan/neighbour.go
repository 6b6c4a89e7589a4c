package vxlan

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// neighbour is an entry of the ARP or NDP table of the device. Those that we make
// are permanent: the kernel asks nobody, and neither ages them nor counts them
// against gc_thresh3 (kernel 5.0).
type neighbour struct {
	addr  netip.Addr
	mac   mac // zero for one that is not resolved
	state uint16
}

// permanent is the neighbour that a peer's address has.
func permanent(a netip.Addr, m mac) neighbour {
	return neighbour{addr: a, mac: m, state: unix.NUD_PERMANENT}
}

func (b *batch) putNeighbour(index int, a netip.Addr, m mac, peer string) {
	b.add(request{verb: "add neighbour", thing: a, peer: peer}, unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE,
		ndmsg(family(a), index, unix.NUD_PERMANENT, 0)...)
	b.addr(unix.NDA_DST, a)
	b.attr(unix.NDA_LLADDR, m[:])
	b.finish()
}

func (b *batch) deleteNeighbour(index int, a netip.Addr, peer string) {
	b.add(request{verb: "delete neighbour", thing: a, peer: peer, gone: true}, unix.RTM_DELNEIGH, 0,
		ndmsg(family(a), index, 0, 0)...)
	b.addr(unix.NDA_DST, a)
	b.finish()
}

// listNeighbours reads the device's entries of a family.
func (c *conn) listNeighbours(into []neighbour, family uint8, index int) ([]neighbour, error) {
	var b batch
	b.add(request{verb: "list neighbours"}, unix.RTM_GETNEIGH, unix.NLM_F_DUMP, ndmsg(family, 0, 0, 0)...)
	b.uint32(ndaLink, uint32(index))
	b.finish()
	return list(c, &b, into, func(_ uint16, body []byte) (neighbour, bool) {
		n, on, ok := parseNeighbour(body)
		return n, ok && on == index
	})
}

// neighbour asks for one entry (kernel 5.0); not ok when there is none.
func (c *conn) neighbour(index int, a netip.Addr) (n neighbour, ok bool, err error) {
	var b batch
	b.add(request{verb: "read neighbour", thing: a, gone: true}, unix.RTM_GETNEIGH, 0, ndmsg(family(a), index, 0, 0)...)
	b.addr(unix.NDA_DST, a)
	b.finish()
	err = c.run(&b, func(_ uint16, body []byte) { n, _, ok = parseNeighbour(body) })
	return n, ok, err
}

// parseNeighbour reads an entry and the device that it is on. The kernel's own, for
// multicast, are not ok, and neither are those that it has not resolved: it forgets
// them by itself.
func parseNeighbour(body []byte) (n neighbour, index int, ok bool) {
	if len(body) < unix.SizeofNdMsg || body[0] != unix.AF_INET && body[0] != unix.AF_INET6 {
		return n, 0, false
	}
	n.state = binary.NativeEndian.Uint16(body[8:])
	for kind, value := range attributes(body[unix.SizeofNdMsg:]) {
		switch {
		case kind == unix.NDA_DST:
			n.addr = addrOf(value)
		case kind == unix.NDA_LLADDR && len(value) == len(n.mac):
			n.mac = mac(value)
		}
	}
	return n, int(uint32Of(body[4:])), n.addr.IsValid() && !n.addr.IsMulticast()
}
