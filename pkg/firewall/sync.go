package firewall

import (
	"context"
	"slices"

	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"golang.org/x/sys/unix"
)

func (nft) syncTunnels(ctx context.Context, tunnels []Tunnel, all records) error {
	var wanted []nftnl.Element
	for i := range tunnels {
		wanted = append(wanted, tunnels[i].guardElements()...)
		wanted = append(wanted, tunnels[i].networkElements()...)
	}
	return syncElements(ctx, wanted, all)
}

func syncElements(ctx context.Context, wanted []nftnl.Element, all records) error {
	s, err := dial()
	if err != nil {
		return err
	}
	return nftnl.WithTable(func() error {
		err := s.Undamaged()
		if err == nil {
			err = s.sync(ctx, wanted, all)
		}
		return err
	}, func(replace bool) error { return s.Restore(recordElements(ctx, all), replace) })
}

// sync adds what is missing before it removes what is too much: peers have their
// packets accepted without a gap.
func (s *socket) sync(ctx context.Context, wanted []nftnl.Element, all records) error {
	there, err := s.tunnelElements(wanted)
	if err != nil {
		return err
	}
	if err := s.Write(nftnl.Pick(wanted, there, nftnl.Element.Place, false)); err != nil {
		return err
	}
	surplus := nftnl.Pick(there, wanted, nftnl.Element.Place, false)
	// In the order of the list: a port and VNI that is not filtered any more goes
	// before its peers.
	if all != nil && ranges(surplus) > manyRanges {
		return s.Restore(recordElements(ctx, all), true, wanted...)
	}
	guard := slices.IndexFunc(surplus, func(e nftnl.Element) bool { return !isGuard(e.Set) })
	if guard < 0 {
		guard = len(surplus)
	}
	if err := s.Remove(surplus[:guard]); err != nil {
		return err
	}
	return s.removeNetworks(ctx, surplus[guard:], all)
}

// manyRanges is from how many elements of sets of ranges on the table is made anew: to
// find one to delete takes the kernel time in proportion to how many there are
// (nft_pipapo_remove in net/netfilter/nft_set_pipapo.c): minutes for 15,000 of 20,000,
// which a new table with the rest is much faster for.
const manyRanges = 256

func ranges(all []nftnl.Element) (n int) {
	for _, e := range all {
		if e.End != nil {
			n++
		}
	}
	return n
}

// removeNetworks removes what no record asks for. A container that comes meanwhile
// has its record from before it adds: what it found there is put back.
func (s *socket) removeNetworks(ctx context.Context, surplus []nftnl.Element, all records) error {
	if len(surplus) == 0 {
		return nil
	}
	list := recordElements(ctx, all)
	held, err := list()
	if err != nil {
		return err
	}
	surplus = nftnl.Pick(surplus, held, nftnl.Element.Place, false)
	if err := s.Remove(surplus); err != nil {
		return err
	}
	if held, err = list(); err != nil {
		return err
	}
	return s.Write(nftnl.Pick(held, surplus, nftnl.Element.Place, true))
}

// tunnelElements lists what the table has of tunnels: the sets that are theirs
// alone, and of the others what names a device of theirs.
func (s *socket) tunnelElements(wanted []nftnl.Element) (all []nftnl.Element, err error) {
	devices := map[string]bool{}
	for _, e := range wanted {
		if e.Set == overlay {
			devices[string(e.Key)] = true
		}
	}
	for _, set := range append(slices.Clone(guards), overlay, ways, inside, tunnelPorts, same, noICC, internal, isolated) {
		there, err := s.List(set)
		if err != nil {
			return nil, err
		}
		for _, e := range there {
			if set == overlay {
				devices[string(e.Key)] = true
			}
			if isGuard(set) || set == inside || set == tunnelPorts || slices.ContainsFunc(names(e.Key), func(n string) bool { return devices[n] }) {
				all = append(all, nftnl.Element{Set: set, Key: e.Key, End: e.End, Lasting: true})
			}
		}
	}
	return all, nil
}

// guards are the sets that only the agent fills, in the order in which their elements go.
var guards = []string{overlays, vteps4, vteps6, inner44, inner46, inner64, inner66}

func isGuard(set string) bool { return slices.Contains(guards, set) }

// names splits a key of interface names.
func names(key []byte) (all []string) {
	for name := range slices.Chunk(key, unix.IFNAMSIZ) {
		all = append(all, string(name))
	}
	return all
}
