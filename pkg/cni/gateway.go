package cni

import (
	"context"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/ipam"
	"github.com/berth-cni/berth/pkg/link"
)

// gateway completes what IPAM gave: gateways, default routes and the MAC that
// follows from the address. It makes nothing. The built-in IPAM's addresses are
// completed before the record is written; those of a delegated IPAM by this step,
// behind the delegation.
type gateway struct {
	Gateway      bool `json:"gateway,omitempty"`
	DefaultRoute bool `json:"defaultRoute,omitempty"`
	NoDefault    bool `json:"internal,omitempty"` // drops every default route
}

func (g *gateway) Kind() string { return "gateway" }

func (g *gateway) Add(_ context.Context, a *attach.Adding) error {
	g.complete(a.Attachment)
	a.Changed()
	return nil
}

func (g *gateway) Del(context.Context, *attach.Attachment) error   { return nil }
func (g *gateway) Check(context.Context, *attach.Attachment) error { return nil }

func (g *gateway) complete(a *attach.Attachment) {
	for i := range a.Addresses {
		addr := &a.Addresses[i]
		if !addr.Gateway.IsValid() && g.Gateway {
			addr.Gateway = addr.Prefix.Masked().Addr().Next()
		}
		if !g.DefaultRoute || !addr.Gateway.IsValid() {
			continue
		}
		def := link.DefaultRoute(addr.Gateway)
		if !slices.ContainsFunc(a.Routes, func(r attach.Route) bool { return r.Dst.Masked() == def.Dst && r.Table == nil }) {
			a.Routes = append(a.Routes, def)
		}
	}
	if g.NoDefault {
		a.Routes = slices.DeleteFunc(a.Routes, func(r attach.Route) bool { return r.Dst.Bits() == 0 })
	}
	if a.MAC == "" {
		a.MAC = link.MAC(a)
	}
}

// delegated reports whether another plugin gives the addresses.
func delegated(c *ipam.Config) bool { return !c.BuiltIn() && !c.Empty() }

// families tells which address families a network's containers have.
func families(subnets []netip.Prefix) (v4, v6 bool) {
	for _, s := range subnets {
		v4 = v4 || s.Addr().Is4()
		v6 = v6 || s.Addr().Is6()
	}
	return v4, v6
}
