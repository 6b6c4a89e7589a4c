package rtnl

import (
	"encoding/binary"
	"fmt"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/sys/unix"
)

// PortVLANs are those of a port of a bridge: the one that frames without a tag are of (0:
// none), and all others.
type PortVLANs struct {
	Untagged int
	Tagged   []int
}

// PortVLANs lists them for all ports of all bridges, by the port's index.
func (c *Conn) PortVLANs() (map[int]PortVLANs, error) {
	const vlans = 1 << 1 // RTEXT_FILTER_BRVLAN
	by := map[int]PortVLANs{}
	question := netlink.NewQuestion(unix.RTM_GETLINK, Ifinfomsg(unix.AF_BRIDGE, 0, 0)).Uint32(unix.IFLA_EXT_MASK, vlans)
	_, err := netlink.List(c.Conn, question, nil, func(m netlink.Message) (none struct{}, ok bool) {
		if m.Kind == unix.RTM_NEWLINK && len(m.Body) >= unix.SizeofIfInfomsg {
			by[int(int32(netlink.Uint32(m.Body[4:])))] = parsePortVLANs(m.Find(unix.SizeofIfInfomsg, unix.IFLA_AF_SPEC))
		}
		return none, false
	})
	if err != nil {
		return nil, fmt.Errorf("list VLANs of bridges' ports: %w", err)
	}
	return by, nil
}

// parsePortVLANs reads the list of struct bridge_vlan_info (linux/if_bridge.h).
func parsePortVLANs(b []byte) (v PortVLANs) {
	const info, pvid = 2, 1 << 1 // IFLA_BRIDGE_VLAN_INFO, BRIDGE_VLAN_INFO_PVID
	for kind, value := range netlink.Attrs(b) {
		if kind != info || len(value) < 4 {
			continue
		}
		flags, id := binary.NativeEndian.Uint16(value), int(binary.NativeEndian.Uint16(value[2:]))
		if flags&pvid != 0 {
			v.Untagged = id
		} else {
			v.Tagged = append(v.Tagged, id)
		}
	}
	return v
}
