package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/berth-cni/berth/pkg/attach"
)

// Leaser is what the policy needs of the store; [*attach.Tx] is one.
type Leaser interface {
	// Holder returns who leases the address on the network.
	Holder(network string, addr netip.Addr) (attach.Key, bool)
	// Lease gives the address to k, on k's network. An [*attach.HeldError] when it
	// is taken.
	Lease(addr netip.Addr, k attach.Key) error
	// FirstFree returns the lowest address of [from, to] without a lease.
	FirstFree(network string, from, to netip.Addr) (netip.Addr, bool)
	// Cursor is the address leased last from a pool, SetCursor remembers it.
	Cursor(network, pool string) netip.Addr
	SetCursor(network, pool string, addr netip.Addr) error

	Keeper
}

// ExhaustedError says that every address of a range set is leased.
type ExhaustedError struct {
	Network string
	Pool    string // the set's ranges: "10.88.0.1-10.88.0.254"
	// Grows says that there will be more: see [Config].
	Grows bool
}

func (e *ExhaustedError) Error() string {
	remedy := "widen the ranges of ipam"
	if e.Grows {
		remedy = "try again when this host's agent has got another block"
	}
	return fmt.Sprintf("no free address in %s of network %q: containers lease all of them; %s", e.Pool, e.Network, remedy)
}

// Allocate leases one address from each range set for k, in the order of the
// sets. A requested address counts for the set whose subnet it is in; one that
// cannot be had is an error, and so are two for one set, as in host-local.
//
// The search goes on behind the address that was leased last (next-fit), so that
// a freed address rests while others are free. It costs one lookup for every 256
// leases that it passes.
//
// Errors: [*ExhaustedError], [*attach.HeldError] for a requested address; both
// wrapped. Leases that were made before an error are for the caller's transaction
// to undo.
//
// In a sticky network name is the one that addresses are kept for: see [Config.Sticky].
func (c *Config) Allocate(tx Leaser, k attach.Key, name string, requested []netip.Addr) ([]attach.Address, error) {
	got, err := c.assign(requested)
	if err != nil {
		return nil, err
	}
	for _, a := range got {
		if !a.Prefix.IsValid() {
			continue
		}
		// Before any other: the search must not take what was asked for.
		if err := tx.Lease(a.Prefix.Addr(), k); err != nil {
			return nil, fmt.Errorf("lease the requested address: %w", err)
		}
	}
	gateways := c.gateways()
	for i, set := range c.Ranges {
		if got[i].Prefix.IsValid() {
			continue
		}
		addr, r, next, err := c.choose(tx, k, name, i, set.spans(gateways))
		if err != nil {
			return nil, fmt.Errorf("look for an address in %s: %w", set, err)
		}
		if r == nil {
			return nil, &ExhaustedError{k.Network, set.String(), c.Grows}
		}
		if err := tx.Lease(addr, k); err != nil {
			return nil, fmt.Errorf("lease %s: %w", addr, err)
		}
		if next {
			err = tx.SetCursor(k.Network, poolName(i), addr)
		}
		if err != nil {
			return nil, fmt.Errorf("remember %s as leased last: %w", addr, err)
		}
		got[i] = r.address(addr)
	}
	return got, nil
}

// Free returns nil when each range set has a free address, else an
// [*ExhaustedError] for each that has none.
func (c *Config) Free(tx Leaser, network string) error {
	var errs []error
	gateways := c.gateways()
	for _, set := range c.Ranges {
		if _, _, ok := firstOf(set.spans(gateways), func(s span) (netip.Addr, bool) { return tx.FirstFree(network, s.from, s.to) }); !ok {
			errs = append(errs, &ExhaustedError{network, set.String(), c.Grows})
		}
	}
	return errors.Join(errs...)
}

// poolName is the name of a range set's cursor.
func poolName(set int) string { return strconv.Itoa(set) }

func firstOf(spans []span, first func(span) (netip.Addr, bool)) (netip.Addr, *Range, bool) {
	for _, s := range spans {
		if addr, ok := first(s); ok {
			return addr, s.in, true
		}
	}
	return netip.Addr{}, nil, false
}

// behind returns the spans in the order in which next-fit searches them: what
// follows the cursor, then all from the beginning up to it. A cursor outside (the
// configuration has changed) leaves the order as it is.
func behind(spans []span, cursor netip.Addr) []span {
	for i, s := range spans {
		if !s.contains(cursor) {
			continue
		}
		order := make([]span, 0, len(spans)+1)
		if cursor != s.to {
			order = append(order, span{cursor.Next(), s.to, s.in})
		}
		order = append(order, spans[i+1:]...)
		order = append(order, spans[:i]...)
		return append(order, span{s.from, cursor, s.in})
	}
	return spans
}
