package ipam

import (
	"fmt"
	"net/netip"

	"github.com/berth-cni/berth/pkg/attach"
)

// The words of ipam.sticky: by which name a container gets the address again that it gave
// back.
const (
	StickyName = "name" // the container's own
	StickyPod  = "pod"  // its pod's namespace and name
)

// ValidSticky tells whether a word is one of them, or empty.
func ValidSticky(word string) error {
	switch word {
	case "", StickyName, StickyPod:
		return nil
	}
	return fmt.Errorf("want %s or %s", StickyName, StickyPod)
}

// Keeper is what a sticky network needs of the store; [*attach.Tx] is one.
type Keeper interface {
	// Kept returns the address that a name's interface gave back last of a range set.
	Kept(network, name, ifName string, set int) (netip.Addr, bool)
	// FirstUnkept is FirstFree for addresses that are kept for nobody.
	FirstUnkept(network string, from, to netip.Addr) (netip.Addr, bool)
	// OldestKept returns the address of a range set that has been kept longest, of those
	// that fit.
	OldestKept(network string, set int, fits func(netip.Addr) bool) (netip.Addr, bool, error)
}

// choose returns an address of a range set that nobody leases: in a sticky network the one
// that is kept for the name, else one that is kept for nobody, else the one that has been
// kept longest. next says that it is where the search goes on from.
func (c *Config) choose(tx Leaser, k attach.Key, name string, set int, spans []span) (addr netip.Addr, in *Range, next bool, err error) {
	from := behind(spans, tx.Cursor(k.Network, poolName(set)))
	if c.Sticky == "" {
		addr, in, _ = firstOf(from, func(s span) (netip.Addr, bool) { return tx.FirstFree(k.Network, s.from, s.to) })
		return addr, in, true, nil
	}
	if addr, ok := tx.Kept(k.Network, name, k.IfName, set); ok {
		if in := rangeOf(spans, addr); in != nil {
			return addr, in, false, nil
		}
	}
	if addr, in, ok := firstOf(from, func(s span) (netip.Addr, bool) { return tx.FirstUnkept(k.Network, s.from, s.to) }); ok {
		return addr, in, true, nil
	}
	addr, ok, err := tx.OldestKept(k.Network, set, func(a netip.Addr) bool { return rangeOf(spans, a) != nil })
	if ok {
		in = rangeOf(spans, addr)
	}
	return addr, in, false, err
}

// rangeOf is the range that may give an address out; nil when none may.
func rangeOf(spans []span, addr netip.Addr) *Range {
	for _, s := range spans {
		if s.contains(addr) {
			return s.in
		}
	}
	return nil
}
