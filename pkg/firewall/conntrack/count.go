package conntrack

import (
	"fmt"
	"net/netip"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"golang.org/x/sys/unix"
)

// Count is how many connections the kernel tracks in the calling thread's network namespace
// for each address that takes part in one: that began it, or that it leads to. It lists all of
// them.
func Count() (map[netip.Addr]int, error) {
	s, err := nftnl.Dial()
	if err != nil {
		return nil, err
	}
	count := map[netip.Addr]int{}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		src, dst := uint16(ctaIPv4Src), uint16(ctaIPv4Dst)
		if family == unix.AF_INET6 {
			src, dst = ctaIPv6Src, ctaIPv6Dst
		}
		_, err := nftnl.List(s, nftnl.Question(ctGet, family), func(m netlink.Message) (none struct{}, ok bool) {
			addr := func(tuple, end uint16) netip.Addr {
				return netlink.Addr(m.Find(nftnl.HeaderLen, tuple, ctaTupleIP, end))
			}
			from, to := addr(ctaTupleOrig, src), addr(ctaTupleReply, src)
			for i, a := range []netip.Addr{from, to, addr(ctaTupleOrig, dst)} {
				if a.IsValid() && (i == 0 || a != from) && (i < 2 || a != to) {
					count[a]++
				}
			}
			return none, false
		})
		if err != nil {
			return nil, fmt.Errorf("list connections: %w", err)
		}
	}
	return count, nil
}
