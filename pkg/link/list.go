package link

import (
	"net"
	"net/netip"

	"github.com/berth-cni/berth/pkg/link/internal/iface"
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

// Shared tells whether Berth made the interface, for several attachments: a bridge that
// was there before the network is somebody else's.
func (l Link) Shared() bool { return l.Alias == iface.SharedAlias }

// List returns all interfaces of the calling thread's namespace, in the order of
// their indexes, by one question. The cost grows with their number: it is not for
// the ADD path.
func List() ([]Link, error) {
	c, err := iface.Dial()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	devices, err := c.Links()
	if err != nil {
		return nil, err
	}
	all := make([]Link, len(devices))
	for i, d := range devices {
		all[i] = Link{Index: d.Index, Name: d.Name, Kind: d.Kind, Alias: d.Alias, MAC: d.MAC, MTU: d.MTU,
			Master: d.Master, Up: d.Up(), PeerAway: d.Away}
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

// ListAddresses returns the addresses of all interfaces of the calling thread's namespace, by
// their indexes, by one question.
func ListAddresses() (map[int][]netip.Prefix, error) {
	c, err := iface.Dial()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	all, err := c.Addresses(0)
	if err != nil {
		return nil, err
	}
	by := map[int][]netip.Prefix{}
	for _, a := range all {
		by[a.Index] = append(by[a.Index], a.Prefix)
	}
	return by, nil
}
