package link

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"github.com/berth-cni/berth/pkg/link/ipvlan"
	"github.com/berth-cni/berth/pkg/link/macvlan"
	"github.com/berth-cni/berth/pkg/link/parent"
)

// onMaster makes the steps of a macvlan or an ipvlan.
func (f *finder) onMaster(x *Found, c *iface.Conn, d *rtnl.Link) error {
	inside := !d.Away
	master := f.links[d.Parent]
	if inside {
		var err error
		if master, err = c.LinkByIndex(d.Parent); err != nil {
			return err
		}
	}
	if master == nil {
		return nil // in a namespace that is neither
	}
	x.Link = master.Name
	step := childOn(master, d)
	if inside {
		x.Steps = []attach.Step{step}
		return nil
	}
	if master.Kind == "vlan" && master.Alias == iface.SharedAlias && f.links[master.Parent] != nil {
		s := &parent.Subinterface{Parent: f.links[master.Parent].Name, SharedMAC: d.Kind == "ipvlan"}
		if id, ok := strings.CutPrefix(master.Name, s.Parent+"."); ok {
			if _, err := fmt.Sscan(id, &s.VLAN); err == nil {
				x.Steps = append(x.Steps, s)
			}
		}
	}
	shim := &macvlan.HostShim{Master: master.Name}
	for _, l := range f.links {
		if l.Name != shim.Name() {
			continue
		}
		routes, err := shim.Routes(f.host, l)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(x.Addresses, func(a attach.Address) bool { return slices.Contains(routes, rtnl.HostPrefix(a.Prefix.Addr())) }) {
			x.Steps = append(x.Steps, shim)
		}
	}
	x.Steps = append(x.Steps, step)
	return nil
}

// isChild tells whether a kind of interface is on a master.
func isChild(kind string) bool { return kind == "macvlan" || kind == "ipvlan" }

// childOn is the step that makes an interface on a master.
func childOn(master, d *rtnl.Link) attach.Step {
	mtu := d.MTU
	if mtu == master.MTU {
		mtu = 0
	}
	if d.Kind == "macvlan" {
		return &macvlan.Interface{Master: master.Name, Mode: macvlan.ModeName(d.Mode), MTU: mtu, Inside: !d.Away}
	}
	mode, flag := ipvlan.Words(d)
	return &ipvlan.Interface{Master: master.Name, Mode: mode, Flag: flag, MTU: mtu, Inside: !d.Away}
}

// DeleteChild deletes a container's macvlan or ipvlan of which there is no record: what has the mark
// of the attachment's key, and the host's routes to its addresses by a shim ([macvlan.HostShim]).
// Without a namespace at the attachment's path there is nothing to find.
func DeleteChild(ctx context.Context, a *attach.Attachment) error {
	all, err := Find([]string{a.Netns})
	for _, x := range all {
		if x.Hash != a.Hash() || x.Netns == "" {
			continue
		}
		found := &attach.Attachment{Key: a.Key, Netns: x.Netns, Cookie: x.Cookie, Addresses: x.Addresses}
		for _, s := range slices.Backward(x.Steps) {
			switch s.(type) {
			case *macvlan.Interface, *ipvlan.Interface, *macvlan.HostShim, *parent.Subinterface:
				err = errors.Join(err, s.Del(ctx, found))
			}
		}
	}
	return err
}
