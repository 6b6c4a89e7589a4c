package rtnl

import (
	"net/netip"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/sys/unix"
)

// Way is how the kernel sends to an address.
type Way struct {
	Index   int        // of the link; the loopback's for an address of the host's own
	Gateway netip.Addr // not valid: the address itself is on the link
	Source  netip.Addr // that the host talks from; not valid for packets of others
	Type    uint8      // RTN_UNICAST, RTN_LOCAL, ...
}

// WayTo asks the kernel how it sends to an address: from one of its own that it chooses, or
// from src; with in, how it goes on with a packet from src that came in by the link of that
// index. The error is a number of the kernel's: unix.ENETUNREACH, EHOSTUNREACH and EACCES of
// the routes; of packets that came in, EXDEV when the way back leads elsewhere (rp_filter),
// EINVAL when src cannot be there (a martian).
func (c *Conn) WayTo(dst, src netip.Addr, in int) (Way, error) {
	var bits uint8
	if src.IsValid() {
		bits = uint8(src.BitLen())
	}
	q := netlink.NewQuestion(unix.RTM_GETROUTE, []byte{Family(dst), uint8(dst.BitLen()), bits, 0, 0, 0, 0, 0, 0, 0, 0, 0}).Addr(unix.RTA_DST, dst)
	if src.IsValid() {
		q.Addr(unix.RTA_SRC, src)
	}
	if in != 0 {
		q.Uint32(unix.RTA_IIF, uint32(in))
	}
	return ask(c, q, func(m netlink.Message) (Way, bool) {
		if m.Kind != unix.RTM_NEWROUTE || len(m.Body) < unix.SizeofRtMsg {
			return Way{}, false
		}
		find := func(kind uint16) []byte { return m.Find(unix.SizeofRtMsg, kind) }
		return Way{Index: int(netlink.Uint32(find(unix.RTA_OIF))), Gateway: netlink.Addr(find(unix.RTA_GATEWAY)),
			Source: netlink.Addr(find(unix.RTA_PREFSRC)), Type: m.Body[7]}, true // rtm_type
	})
}
