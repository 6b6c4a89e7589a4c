package link

import (
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"golang.org/x/sys/unix"
)

// HostRoute is a destination that the host reaches without its default route.
type HostRoute struct {
	Dst    netip.Prefix
	Device string // empty for one without a device, such as blackhole
}

// toContainer stands for interfaces of containers on networks without a bridge, each of which
// has its network's gateway.
const toContainer = "/"

// protocolBerth is the RTPROT of routes that Berth makes for its networks.
const protocolBerth = 98

// HostRoutes returns what a new network must not overlap: the destinations of the
// host's routes and its own addresses, of every table, sorted, without those that
// lie within another one. Default routes, those of Berth (RTPROT 98), those through
// one of the devices in except, and what no network can be (loopback, link-local,
// multicast) are left out. It lists the routes, so it is not for the ADD path.
func HostRoutes(except ...string) ([]HostRoute, error) {
	c, err := iface.Dial()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var all []HostRoute
	names := map[int]string{0: ""}
	for _, f := range rtnl.Families {
		routes, err := c.ListRoutes(f, 0)
		if err != nil {
			return nil, err
		}
		for _, r := range routes {
			if !hasNetwork(r) {
				continue
			}
			name, known := names[r.Index]
			if !known {
				d, err := c.LinkByIndex(r.Index)
				if iface.IsErrno(err, unix.ENODEV) {
					continue // gone since, and its routes with it
				}
				if err != nil {
					return nil, err
				}
				if name = d.Name; d.Kind == "veth" && attach.IsGroup(d.Group) {
					name = toContainer
				}
				names[r.Index] = name
			}
			if name != toContainer && !slices.Contains(except, name) {
				all = append(all, HostRoute{r.Dst.Masked(), name})
			}
		}
	}
	return widest(all), nil
}

// hasNetwork tells whether a network of somebody else is behind the route.
func hasNetwork(r rtnl.Route) bool {
	a := r.Dst.Addr()
	return r.Dst.Bits() > 0 && r.Protocol != protocolBerth &&
		!a.IsLoopback() && !a.IsLinkLocalUnicast() && !a.IsMulticast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// widest sorts the routes, and drops those within another one.
func widest(all []HostRoute) []HostRoute {
	slices.SortFunc(all, func(a, b HostRoute) int {
		if c := a.Dst.Addr().Compare(b.Dst.Addr()); c != 0 {
			return c
		}
		return a.Dst.Bits() - b.Dst.Bits()
	})
	var kept []HostRoute
	for _, r := range all { // what holds r comes before it, and nothing but that in between
		if n := len(kept); n == 0 || !kept[n-1].Dst.Contains(r.Dst.Addr()) {
			kept = append(kept, r)
		}
	}
	return kept
}
