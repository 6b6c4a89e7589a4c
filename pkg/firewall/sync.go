package firewall

import (
	"context"
	"fmt"
	"slices"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/sys/unix"
)

func (nft) syncTunnels(ctx context.Context, tunnels []Tunnel, all records) error {
	var wanted []element
	for i := range tunnels {
		wanted = append(wanted, tunnels[i].guardElements()...)
		wanted = append(wanted, tunnels[i].networkElements()...)
	}
	return syncElements(ctx, wanted, all)
}

func syncElements(ctx context.Context, wanted []element, all records) error {
	s, err := dial()
	if err != nil {
		return err
	}
	return withTable(func() error {
		err := s.undamaged()
		if err == nil {
			err = s.sync(ctx, wanted, all)
		}
		return err
	}, func(replace bool) error { return s.restore(ctx, all, replace) })
}

// sync adds what is missing before it removes what is too much: peers have their
// packets accepted without a gap.
func (s *socket) sync(ctx context.Context, wanted []element, all records) error {
	there, err := s.tunnelElements(wanted)
	if err != nil {
		return err
	}
	if err := s.write(pick(wanted, there, element.place, false)); err != nil {
		return err
	}
	surplus := pick(there, wanted, element.place, false)
	// In the order of the list: a port and VNI that is not filtered any more goes
	// before its peers.
	guard := slices.IndexFunc(surplus, func(e element) bool { return !isGuard(e.set) })
	if guard < 0 {
		guard = len(surplus)
	}
	if err := s.remove(surplus[:guard]); err != nil {
		return err
	}
	return s.removeNetworks(ctx, surplus[guard:], all)
}

// removeNetworks removes what no record asks for. A container that comes meanwhile
// has its record from before it adds: what it found there is put back.
func (s *socket) removeNetworks(ctx context.Context, surplus []element, all records) error {
	if len(surplus) == 0 {
		return nil
	}
	list := func() ([]element, error) {
		if all == nil {
			return nil, nil
		}
		attachments, err := all(ctx)
		return elementsOf(attachments), err
	}
	held, err := list()
	if err != nil {
		return err
	}
	surplus = pick(surplus, held, element.place, false)
	if err := s.remove(surplus); err != nil {
		return err
	}
	if held, err = list(); err != nil {
		return err
	}
	return s.write(pick(held, surplus, element.place, true))
}

// tunnelElements lists what the table has of tunnels: the sets that are theirs
// alone, and of the others what names a device of theirs.
func (s *socket) tunnelElements(wanted []element) (all []element, err error) {
	devices := map[string]bool{}
	for _, e := range wanted {
		if e.set == overlay {
			devices[string(e.key)] = true
		}
	}
	for _, set := range []string{overlays, vteps4, vteps6, overlay, ways, same, noICC, internal, isolated} {
		keys, err := s.list(set)
		if err != nil {
			return nil, err
		}
		for _, key := range keys {
			if set == overlay {
				devices[string(key)] = true
			}
			if isGuard(set) || slices.ContainsFunc(names(key), func(n string) bool { return devices[n] }) {
				all = append(all, element{set: set, key: key, tunnel: true})
			}
		}
	}
	return all, nil
}

func isGuard(set string) bool { return set == overlays || set == vteps4 || set == vteps6 }

// names splits a key of interface names.
func names(key []byte) (all []string) {
	for name := range slices.Chunk(key, unix.IFNAMSIZ) {
		all = append(all, string(name))
	}
	return all
}

// undamaged is whole for all chains.
func (s *socket) undamaged() error {
	all := chains()
	users, err := s.chainUsers(all)
	for i, c := range all {
		if err == nil && users[i] < c.users() {
			err = errNotWhole
		}
	}
	return err
}

// list returns the keys of a set. What it misses, where others change the table all
// the time, is added again; what it has too much is removed by the next one.
func (s *socket) list(set string) ([][]byte, error) {
	req := question(getElement, inetTable)
	req.Text(unix.NFTA_SET_ELEM_LIST_TABLE, TableName).Text(unix.NFTA_SET_ELEM_LIST_SET, set)
	some, err := list(s, req, func(m netlink.Message) (keys [][]byte, ok bool) {
		for _, e := range netlink.Attrs(m.Find(headerLen, unix.NFTA_SET_ELEM_LIST_ELEMENTS)) {
			keys = append(keys, slices.Clone(netlink.Find(e, unix.NFTA_SET_ELEM_KEY, unix.NFTA_DATA_VALUE)))
		}
		return keys, true
	})
	if err != nil {
		return nil, fmt.Errorf("list nftables set %s of table inet %s: %w", set, TableName, err)
	}
	return slices.Concat(some...), nil
}
