package link

import (
	"net/netip"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
)

// MaxGatewayPriority is the highest [Gateway.Priority].
const MaxGatewayPriority = 1<<24 - 1

// preferred are routes to everywhere that the kernel takes before the default routes among
// these: two of each, to one half of the addresses. The other networks' default routes stay as
// they are, and lead again when the interface goes, with which these do. Of several networks
// with such routes the one of the highest priority has the lowest metric; of two with the same
// the first.
func preferred(routes []attach.Route, priority int) []attach.Route {
	var all []attach.Route
	for _, r := range routes {
		if r.Dst.Bits() != 0 || r.Table != nil {
			continue
		}
		upper := netip.AddrFrom4([4]byte{0x80})
		if r.Dst.Addr().Is6() {
			upper = netip.AddrFrom16([16]byte{0x80})
		}
		r.Priority = iface.PreferredMetric + (MaxGatewayPriority-priority)*iface.MostNetworks
		for _, half := range []netip.Addr{r.Dst.Masked().Addr(), upper} {
			r.Dst = netip.PrefixFrom(half, 1)
			all = append(all, r)
		}
	}
	return all
}

// Preferred tells whether an attachment has a way out that it prefers to others' default
// routes ([Gateway.Priority]).
func Preferred(a *attach.Attachment) bool {
	for _, r := range a.Routes {
		if r.Dst.Bits() == 1 && r.Priority >= iface.PreferredMetric {
			return true
		}
	}
	return false
}
