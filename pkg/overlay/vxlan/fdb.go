package vxlan

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// remote is where frames for a MAC go. Port and VNI are 0 where they are the
// device's own, which the kernel does not tell.
type remote struct {
	underlay netip.Addr
	port     uint16
	vni      uint32
	link     uint32 // the device that they leave by; 0: as the device says
	state    uint16 // NUD_PERMANENT
	nexthop  bool   // where is said by a nexthop object
}

// fdbEntry is an entry of the device's forwarding database.
type fdbEntry struct {
	mac mac
	remote
}

// Attributes of a neighbour message, linux/neighbour.h.
const (
	ndaPort    = 6
	ndaVNI     = 7
	ndaLink    = 8 // NDA_IFINDEX
	ndaNexthop = 13
)

// ndmsg is struct ndmsg.
func ndmsg(family uint8, index int, state uint16, flags uint8) []byte {
	h := []byte{family, 0, 0, 0}
	h = binary.NativeEndian.AppendUint32(h, uint32(index))
	h = binary.NativeEndian.AppendUint16(h, state)
	return append(h, flags, 0)
}

// putFDB has frames for the MAC go to one VTEP, whatever was there. REPLACE does
// that: without it the kernel keeps an entry's old VTEP, and answers that all is well
// (vxlan_fdb_update_existing in drivers/net/vxlan/vxlan_core.c).
func (b *batch) putFDB(index int, m mac, r remote, peer string) {
	b.add(request{verb: "add FDB entry", thing: m, peer: peer}, unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE,
		ndmsg(unix.AF_BRIDGE, index, unix.NUD_PERMANENT, unix.NTF_SELF)...)
	b.attr(unix.NDA_LLADDR, m[:])
	b.addr(unix.NDA_DST, r.underlay)
	b.finish()
}

// deleteFDB deletes the entry with all its VTEPs.
func (b *batch) deleteFDB(index int, m mac, peer string) {
	b.add(request{verb: "delete FDB entry", thing: m, peer: peer, gone: true}, unix.RTM_DELNEIGH, 0,
		ndmsg(unix.AF_BRIDGE, index, 0, unix.NTF_SELF)...)
	b.attr(unix.NDA_LLADDR, m[:])
	b.finish()
}

// listFDB reads the device's entries.
func (c *conn) listFDB(into []fdbEntry, index int) ([]fdbEntry, error) {
	var b batch
	b.add(request{verb: "list FDB"}, unix.RTM_GETNEIGH, unix.NLM_F_DUMP, ndmsg(unix.AF_BRIDGE, index, 0, 0)...)
	b.finish()
	return list(c, &b, into, func(_ uint16, body []byte) (fdbEntry, bool) {
		e, on, ok := parseFDB(body)
		return e, ok && on == index
	})
}

// fdbEntry asks for one entry (kernel 5.0); not ok when there is none.
func (c *conn) fdbEntry(index int, m mac) (e fdbEntry, ok bool, err error) {
	var b batch
	b.add(request{verb: "read FDB entry", thing: m, gone: true}, unix.RTM_GETNEIGH, 0, ndmsg(unix.AF_BRIDGE, index, 0, unix.NTF_SELF)...)
	b.attr(unix.NDA_LLADDR, m[:])
	b.finish()
	err = c.run(&b, func(_ uint16, body []byte) { e, _, ok = parseFDB(body) })
	return e, ok, err
}

// parseFDB reads an entry and the device that it is on.
func parseFDB(body []byte) (e fdbEntry, index int, ok bool) {
	if len(body) < unix.SizeofNdMsg || body[0] != unix.AF_BRIDGE {
		return e, 0, false
	}
	e.state = binary.NativeEndian.Uint16(body[8:])
	for kind, value := range attributes(body[unix.SizeofNdMsg:]) {
		switch {
		case kind == unix.NDA_LLADDR && len(value) == len(e.mac):
			e.mac, ok = mac(value), true
		case kind == unix.NDA_DST:
			e.underlay = addrOf(value)
		case kind == ndaPort && len(value) == 2:
			e.port = binary.BigEndian.Uint16(value)
		case kind == ndaVNI:
			e.vni = uint32Of(value)
		case kind == ndaLink:
			e.link = uint32Of(value)
		case kind == ndaNexthop:
			e.nexthop = true
		}
	}
	return e, int(uint32Of(body[4:])), ok
}
