package link

import (
	"net/netip"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
)

// DefaultRoute is the route to everywhere of a gateway's family.
func DefaultRoute(gateway netip.Addr) attach.Route {
	all := netip.IPv4Unspecified()
	if gateway.Is6() {
		all = netip.IPv6Unspecified()
	}
	return attach.Route{Dst: netip.PrefixFrom(all, 0), Gateway: gateway}
}

// MAC returns the MAC of a container's interface that was given none: 02:42 and
// the IPv4 address, so that an address never moves to another MAC and no
// neighbour's cache goes stale; else 02:42 and a hash of the IPv6 address, or of
// the attachment when it has no address.
func MAC(a *attach.Attachment) string { return iface.MAC(a) }
