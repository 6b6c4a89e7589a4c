package rtnl

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/sys/unix"
)

// EUI48 is an Ethernet address that can be a key.
type EUI48 [6]byte

func (m EUI48) String() string { return net.HardwareAddr(m[:]).String() }

// Neighbour is an entry of a link's ARP or NDP table. One that is permanent the kernel
// asks nobody for, and neither ages it nor counts it against gc_thresh3 (kernel 5.0).
type Neighbour struct {
	Index int // of the link
	Addr  netip.Addr
	MAC   EUI48  // zero for one that is not resolved
	State uint16 // NUD_PERMANENT
}

// Put is the request that adds the entry, or replaces that of the address.
func (n Neighbour) Put() *netlink.Request {
	return netlink.NewRequest(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE,
		Ndmsg(Family(n.Addr), n.Index, n.State, 0)).Addr(unix.NDA_DST, n.Addr).Bytes(unix.NDA_LLADDR, n.MAC[:])
}

// Delete is the request that deletes the entry of the address.
func (n Neighbour) Delete() *netlink.Request {
	return netlink.NewRequest(unix.RTM_DELNEIGH, 0, Ndmsg(Family(n.Addr), n.Index, 0, 0)).Addr(unix.NDA_DST, n.Addr)
}

// Neighbours lists a link's entries of a family, and appends them to a slice.
func (c *Conn) Neighbours(into []Neighbour, family uint8, index int) ([]Neighbour, error) {
	question := netlink.NewQuestion(unix.RTM_GETNEIGH, Ndmsg(family, 0, 0, 0)).Uint32(unix.NDA_IFINDEX, uint32(index))
	all, err := netlink.List(c.Conn, question, into, func(m netlink.Message) (Neighbour, bool) {
		n, ok := ParseNeighbour(m)
		return n, ok && n.Index == index
	})
	if err != nil {
		return all, fmt.Errorf("list neighbours: %w", err)
	}
	return all, nil
}

// Neighbour asks for one entry (kernel 5.0); not ok when there is none.
func (c *Conn) Neighbour(index int, a netip.Addr) (n Neighbour, ok bool, err error) {
	return askIf(c, netlink.NewQuestion(unix.RTM_GETNEIGH, Ndmsg(Family(a), index, 0, 0)).Addr(unix.NDA_DST, a), ParseNeighbour)
}

// ParseNeighbour reads an RTM_NEWNEIGH or RTM_DELNEIGH of IPv4 or IPv6. The kernel's own
// entries, for multicast, are not ok.
func ParseNeighbour(m netlink.Message) (n Neighbour, ok bool) {
	if !isNeighbour(m) || m.Body[0] != unix.AF_INET && m.Body[0] != unix.AF_INET6 {
		return n, false
	}
	n.Index, n.State = int(netlink.Uint32(m.Body[4:])), binary.NativeEndian.Uint16(m.Body[8:])
	for kind, value := range m.Attrs(unix.SizeofNdMsg) {
		switch {
		case kind == unix.NDA_DST:
			n.Addr = netlink.Addr(value)
		case kind == unix.NDA_LLADDR && len(value) == len(n.MAC):
			n.MAC = EUI48(value)
		}
	}
	return n, n.Addr.IsValid() && !n.Addr.IsMulticast()
}

func isNeighbour(m netlink.Message) bool {
	return (m.Kind == unix.RTM_NEWNEIGH || m.Kind == unix.RTM_DELNEIGH) && len(m.Body) >= unix.SizeofNdMsg
}

// AnswerFor is the request that has a link answer neighbor discovery for an address that is
// reached by another one, and AnswerNot the one that ends it.
func AnswerFor(index int, addr netip.Addr) *netlink.Request {
	return netlink.NewRequest(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE,
		Ndmsg(Family(addr), index, unix.NUD_PERMANENT, unix.NTF_PROXY)).Addr(unix.NDA_DST, addr)
}

// AnswerNot undoes [AnswerFor].
func AnswerNot(index int, addr netip.Addr) *netlink.Request {
	return netlink.NewRequest(unix.RTM_DELNEIGH, 0, Ndmsg(Family(addr), index, 0, unix.NTF_PROXY)).Addr(unix.NDA_DST, addr)
}
