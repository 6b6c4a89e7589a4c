package iface

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"golang.org/x/sys/unix"
)

// Expected is how a container's interface has to be for a Check where others may have
// changed on purpose what ADD gave it: the plugins behind this one in a chain, Multus, or
// a person. The zero value wants no more than that it is there.
type Expected struct {
	Up        bool
	MAC       string // empty: any
	Addresses []netip.Prefix
	// Routes may be through any of the container's interfaces and in any table: sbr and
	// vrf move them. One without a gateway stands for one by any.
	Routes []attach.Route
}

// none tells that nothing of the interface matters but that it is there.
func (e *Expected) none() bool {
	return !e.Up && e.MAC == "" && len(e.Addresses) == 0 && len(e.Routes) == 0
}

// Expectable is embedded by a step that makes a container's interface.
type Expectable struct{ expected *Expected }

// Expect has Check hold the container against this, in place of what the record says.
func (x *Expectable) Expect(e *Expected) { x.expected = e }

// AsRecorded tells that nothing else is expected than what the record says.
func (x *Expectable) AsRecorded() bool { return x.expected == nil }

// OnlyThere tells that no more is expected of the interface than that it is there.
func (x *Expectable) OnlyThere() bool { return x.expected != nil && x.expected.none() }

// CheckInside tells whether the container's interface is as the record says, or as is
// expected in its place.
func (x *Expectable) CheckInside(c *Conn, d *rtnl.Link, a *attach.Attachment, up bool) error {
	want := Expected{Up: up, Routes: a.Routes}
	for _, addr := range a.Addresses {
		want.Addresses = append(want.Addresses, addr.Prefix)
	}
	through := d.Index
	if x.expected != nil {
		want, through = *x.expected, 0
		want.Up = want.Up && up
	}
	switch {
	case want.Up && d.Flags&unix.IFF_UP == 0:
		return fmt.Errorf("interface %s in the container is down", a.IfName)
	case want.MAC != "" && d.MAC.String() != want.MAC:
		return fmt.Errorf("interface %s in the container has the MAC %s, not %s", a.IfName, d.MAC, want.MAC)
	}
	if len(want.Addresses) > 0 {
		have, err := c.Prefixes(d.Index)
		if err != nil {
			return err
		}
		for _, p := range want.Addresses {
			if !slices.Contains(have, p) {
				return fmt.Errorf("interface %s in the container lacks its address %s", a.IfName, p)
			}
		}
	}
	return c.checkRoutes(want.Routes, a, through)
}

// checkRoutes looks for the routes in every table; through one interface alone if its
// index is not 0.
func (c *Conn) checkRoutes(wanted []attach.Route, a *attach.Attachment, through int) error {
	have := map[bool][]rtnl.Route{}
	for _, want := range wanted {
		if through != 0 {
			want = withGateway(want, a.Addresses)
		}
		v4 := want.Dst.Addr().Is4()
		if have[v4] == nil {
			all, err := c.ListRoutes(rtnl.Family(want.Dst.Addr()), 0)
			if err != nil {
				return err
			}
			have[v4] = all
		}
		gateway := RouteOf(0, want).Gateway
		found := slices.ContainsFunc(have[v4], func(r rtnl.Route) bool {
			if through == 0 && !want.Gateway.IsValid() {
				return r.Dst == want.Dst.Masked()
			}
			return r.Dst == want.Dst.Masked() && r.Gateway == gateway && (r.Index == through || through == 0)
		})
		if !found {
			by := ""
			if want.Gateway.IsValid() {
				by = " by " + want.Gateway.String()
			}
			return fmt.Errorf("the container lacks its route to %s%s on %s", want.Dst, by, a.IfName)
		}
	}
	return nil
}
