package rtnl

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/sys/unix"
)

// FDBEntry is an entry of a link's own forwarding database: for a VXLAN device, where
// frames for a MAC go. Port and VNI are 0 where they are the device's own, which the
// kernel does not tell.
type FDBEntry struct {
	Index   int // of the device
	MAC     EUI48
	Dst     netip.Addr // the remote VTEP
	Port    uint16
	VNI     uint32
	Link    uint32 // index of the link that frames leave by; 0: as the device says
	State   uint16 // NUD_PERMANENT
	Nexthop bool   // where is said by a nexthop object
}

const ndaNexthop = 13 // NDA_NH_ID of linux/neighbour.h

// Put is the request that has frames for the MAC go to one VTEP, whatever was there.
// REPLACE does that: without it the kernel keeps an entry's old VTEP, and answers that
// all is well (vxlan_fdb_update_existing in drivers/net/vxlan/vxlan_core.c). One of a
// nexthop object it leaves, and says nothing.
func (e FDBEntry) Put() *netlink.Request {
	return netlink.NewRequest(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE,
		Ndmsg(unix.AF_BRIDGE, e.Index, e.State, unix.NTF_SELF)).Bytes(unix.NDA_LLADDR, e.MAC[:]).Addr(unix.NDA_DST, e.Dst)
}

// Delete is the request that deletes the entry with all its VTEPs.
func (e FDBEntry) Delete() *netlink.Request {
	return netlink.NewRequest(unix.RTM_DELNEIGH, 0,
		Ndmsg(unix.AF_BRIDGE, e.Index, 0, unix.NTF_SELF)).Bytes(unix.NDA_LLADDR, e.MAC[:])
}

// FDB lists a link's entries, and appends them to a slice.
func (c *Conn) FDB(into []FDBEntry, index int) ([]FDBEntry, error) {
	question := netlink.NewQuestion(unix.RTM_GETNEIGH, Ndmsg(unix.AF_BRIDGE, index, 0, 0))
	all, err := netlink.List(c.Conn, question, into, func(m netlink.Message) (FDBEntry, bool) {
		e, ok := ParseFDBEntry(m)
		return e, ok && e.Index == index
	})
	if err != nil {
		return all, fmt.Errorf("list forwarding entries: %w", err)
	}
	return all, nil
}

// FDBEntry asks for one entry (kernel 5.0); not ok when there is none.
func (c *Conn) FDBEntry(index int, mac EUI48) (e FDBEntry, ok bool, err error) {
	return askIf(c, netlink.NewQuestion(unix.RTM_GETNEIGH,
		Ndmsg(unix.AF_BRIDGE, index, 0, unix.NTF_SELF)).Bytes(unix.NDA_LLADDR, mac[:]), ParseFDBEntry)
}

// ParseFDBEntry reads an RTM_NEWNEIGH or RTM_DELNEIGH of a bridge or VXLAN device.
func ParseFDBEntry(m netlink.Message) (e FDBEntry, ok bool) {
	if !isNeighbour(m) || m.Body[0] != unix.AF_BRIDGE {
		return e, false
	}
	e.Index, e.State = int(netlink.Uint32(m.Body[4:])), binary.NativeEndian.Uint16(m.Body[8:])
	for kind, value := range m.Attrs(unix.SizeofNdMsg) {
		switch {
		case kind == unix.NDA_LLADDR && len(value) == len(e.MAC):
			e.MAC, ok = EUI48(value), true
		case kind == unix.NDA_DST:
			e.Dst = netlink.Addr(value)
		case kind == unix.NDA_PORT && len(value) == 2:
			e.Port = binary.BigEndian.Uint16(value)
		case kind == unix.NDA_VNI:
			e.VNI = netlink.Uint32(value)
		case kind == unix.NDA_IFINDEX:
			e.Link = netlink.Uint32(value)
		case kind == ndaNexthop:
			e.Nexthop = true
		}
	}
	return e, ok
}
