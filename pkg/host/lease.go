package host

import (
	"context"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
)

// LostLease is an address that nobody can have, since its holder has no record.
type LostLease struct {
	Address netip.Addr
	Holder  attach.Key
}

// LostLeases compares the leases with all records. The store counts them by blocks, so
// that a host where all is well costs a few reads.
func LostLeases(ctx context.Context, store *attach.Store, records []*attach.Attachment) ([]LostLease, error) {
	held := map[string][]netip.Addr{} // by network
	for _, a := range records {
		held[a.Network] = append(held[a.Network], a.Leases...)
	}
	var lost []LostLease
	err := store.View(ctx, func(tx *attach.Tx) error {
		networks, err := tx.Networks()
		for _, n := range networks {
			held[n.Name] = append([]netip.Addr{}, held[n.Name]...)
		}
		for network, addrs := range held {
			for _, whole := range []string{"0.0.0.0/0", "2000::/3", "fc00::/7"} { // what a network can have
				lost = append(lost, lostIn(tx, network, netip.MustParsePrefix(whole), addrs)...)
			}
		}
		return err
	})
	if len(lost) == 0 || err != nil {
		return nil, err
	}
	// A record and its leases are written together: what was not there at the first
	// look is in the second.
	records, err = store.List(ctx, "")
	lost = slices.DeleteFunc(lost, func(l LostLease) bool {
		return slices.ContainsFunc(records, func(a *attach.Attachment) bool { return a.Key == l.Holder })
	})
	return lost, err
}

// lostIn halves the prefix until it has as many leases as records say, or one that no
// record has.
func lostIn(tx *attach.Tx, network string, p netip.Prefix, addrs []netip.Addr) []LostLease {
	var here []netip.Addr
	for _, a := range addrs {
		if p.Contains(a) {
			here = append(here, a)
		}
	}
	if tx.Leased(network, p) <= len(here) {
		return nil
	}
	if p.IsSingleIP() {
		holder, _ := tx.Holder(network, p.Addr())
		return []LostLease{{p.Addr(), holder}}
	}
	low := netip.PrefixFrom(p.Addr(), p.Bits()+1)
	return append(lostIn(tx, network, low, here), lostIn(tx, network, upperHalf(low), here)...)
}

// upperHalf is the prefix of the same length that follows a lower half.
func upperHalf(low netip.Prefix) netip.Prefix {
	b := low.Addr().AsSlice()
	b[(low.Bits()-1)/8] |= 0x80 >> ((low.Bits() - 1) % 8)
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, low.Bits())
}
