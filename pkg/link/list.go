package link

import (
	"fmt"
	"net"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/sys/unix"
)

// Link is an interface as the kernel tells of it (rtnetlink(7), RTM_GETLINK).
type Link struct {
	Index  int
	Name   string
	Kind   string // IFLA_INFO_KIND: veth, bridge; empty for a device of the machine
	Alias  string // IFLA_IFALIAS
	MAC    net.HardwareAddr
	MTU    int // bytes
	Master int // index of the bridge that it is a port of; 0: none
	Up     bool
	// PeerAway says that what it is tied to, a veth's other end, is in another
	// namespace, which then lives (IFLA_LINK_NETNSID).
	PeerAway bool
}

// List returns all interfaces of the calling thread's namespace, in the order of
// their indexes, by one question. The cost grows with their number: it is not for
// the ADD path.
func List() ([]Link, error) {
	c, err := dial()
	if err != nil {
		return nil, err
	}
	defer c.close()
	devices, err := c.devices()
	if err != nil {
		return nil, err
	}
	all := make([]Link, len(devices))
	for i, d := range devices {
		all[i] = Link{Index: d.index, Name: d.name, Kind: d.kind, Alias: d.alias, MAC: d.mac, MTU: d.mtu,
			Master: d.master, Up: d.flags&unix.IFF_UP != 0, PeerAway: d.away}
	}
	return all, nil
}

// ByName returns interfaces by their names.
func ByName(all []Link) map[string]Link {
	by := make(map[string]Link, len(all))
	for _, l := range all {
		by[l.Name] = l
	}
	return by
}

// devices lists the interfaces of the socket's namespace.
func (c *conn) devices() ([]*device, error) {
	question := netlink.NewQuestion(unix.RTM_GETLINK, ifinfomsg(unix.AF_UNSPEC, 0, 0)).Uint32(unix.IFLA_EXT_MASK, skipStats)
	all, err := list(c, question, unix.RTM_NEWLINK, parseDevice)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	return all, nil
}
