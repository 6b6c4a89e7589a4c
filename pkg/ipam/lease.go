package ipam

import (
	"context"
	"net/netip"

	"github.com/berth-cni/berth/pkg/attach"
)

// Lease is the step that has the policy of this package give the addresses, and the
// routes of the configuration.
type Lease struct {
	attach.Claiming
	Conf   *Config
	Wanted []netip.Addr // what the runtime asks for
	Sticky string       // the name that the addresses are kept for; empty: none
}

// Kind implements [attach.Step].
func (l *Lease) Kind() string { return "lease" }

// Claim implements [attach.Claimer]: see [Config.Allocate] for its errors.
func (l *Lease) Claim(tx *attach.Tx, a *attach.Adding) error {
	var err error
	if a.Addresses, err = l.Conf.Allocate(tx, a.Key, l.Sticky, l.Wanted); err != nil {
		return err
	}
	a.Leases, a.Sticky = nil, l.Sticky
	for _, addr := range a.Addresses {
		a.Leases = append(a.Leases, addr.Prefix.Addr())
	}
	a.Routes = append([]attach.Route(nil), l.Conf.Routes...)
	return nil
}

// Status implements [attach.Statuser]: whether there is a free address.
func (l *Lease) Status(ctx context.Context, s *attach.Store, network string) error {
	return s.View(ctx, func(tx *attach.Tx) error { return l.Conf.Free(tx, network) })
}
