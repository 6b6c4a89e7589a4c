package link

import (
	"context"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
)

// Gateway is the step that completes what IPAM gave: gateways, default routes and the
// MAC that follows from the address. It makes nothing, and what it completed, the step
// that makes the interface checks. Addresses that are claimed it
// completes before the record is written; those that a delegated IPAM gives when it
// adds, behind the delegation.
type Gateway struct {
	attach.Claiming `json:"-"`

	// Gateway gives each address a gateway, the first of its subnet, where IPAM gave
	// none.
	Gateway bool `json:"gateway,omitempty"`
	// Isolated4 and Isolated6 take the gateway of a family's addresses away, also one that
	// IPAM gave.
	Isolated4 bool `json:"isolated4,omitempty"`
	Isolated6 bool `json:"isolated6,omitempty"`
	// DefaultRoute adds a route to everywhere by each gateway, unless IPAM gave one.
	DefaultRoute bool `json:"defaultRoute,omitempty"`
	// Routed has the container on a network without a bridge ([Routed]): its addresses are
	// single ones, and the rest of their subnets is reached by the gateway. That of IPv6 is
	// the host's end's link-local address.
	Routed bool `json:"routed,omitempty"`
	// NoDefault drops every default route.
	NoDefault bool `json:"internal,omitempty"`
	// Priority, above 0, has the container prefer this network's way out to those of its others
	// of less, and to their default routes: see [preferred].
	Priority int `json:"priority,omitempty"`
	// MAC is that of the interface when nobody asked for one; empty: see [iface.MAC].
	MAC string `json:"-"`
}

// Kind implements [attach.Step].
func (g *Gateway) Kind() string { return "gateway" }

// Claim implements [attach.Claimer].
func (g *Gateway) Claim(_ *attach.Tx, a *attach.Adding) error {
	if !a.Delegated {
		g.complete(a.Attachment)
	}
	g.setMAC(a.Attachment) // before the addresses, if need be: a lease of DHCP is the MAC's
	return nil
}

// Add implements [attach.Step].
func (g *Gateway) Add(_ context.Context, a *attach.Adding) error {
	if a.Delegated {
		g.complete(a.Attachment)
		a.Changed()
	}
	return nil
}

func (g *Gateway) complete(a *attach.Attachment) {
	for i := range a.Addresses {
		addr := &a.Addresses[i]
		if g.Isolated4 && addr.Prefix.Addr().Is4() || g.Isolated6 && addr.Prefix.Addr().Is6() {
			addr.Gateway = netip.Addr{}
			continue
		}
		if !addr.Gateway.IsValid() && g.Gateway {
			addr.Gateway = addr.Prefix.Masked().Addr().Next()
		}
		if g.Routed {
			alone(a, addr)
		}
		if !g.DefaultRoute || !addr.Gateway.IsValid() {
			continue
		}
		def := DefaultRoute(addr.Gateway)
		if !slices.ContainsFunc(a.Routes, func(r attach.Route) bool { return r.Dst.Masked() == def.Dst && r.Table == nil }) {
			a.Routes = append(a.Routes, def)
		}
	}
	if g.Priority > 0 {
		a.Routes = append(a.Routes, preferred(a.Routes, g.Priority)...)
	}
	if g.NoDefault {
		a.Routes = slices.DeleteFunc(a.Routes, func(r attach.Route) bool { return r.Dst.Bits() == 0 })
	}
}

func (g *Gateway) setMAC(a *attach.Attachment) {
	if a.MAC == "" {
		a.MAC = g.MAC
	}
	if a.MAC == "" {
		a.MAC = iface.MAC(a)
	}
}
