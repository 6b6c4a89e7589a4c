package vxlan

import (
	"errors"
	"fmt"
	"slices"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/proc"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"golang.org/x/sys/unix"
)

// ensure brings the device to what it shall be, and tells how many times it changed
// something. What cannot be changed is made again; all entries go with it. With an
// error there may be a device all the same, of use but not as it shall be.
func (c *conn) ensure(d *Device) (*rtnl.VXLAN, int, error) {
	l, err := c.VXLAN(d.Name)
	if err != nil {
		return nil, 0, err
	}
	changes := 0
	if l != nil && !changeable(l, d) {
		if err := c.deleteLink(&l.Link); err != nil {
			return nil, 0, err
		}
		changes++
		l = nil
	}
	if l == nil {
		if l, err = c.create(d); err != nil {
			return nil, changes, err
		}
		changes++
	}
	for range adjustments {
		todo := differences(l, d)
		if len(todo) == 0 {
			break
		}
		done, refused := c.adjust(l, d, todo)
		changes += done
		if l, err = c.VXLAN(d.Name); err != nil {
			return nil, changes, errors.Join(refused, err)
		}
		if l == nil {
			return nil, changes, errors.Join(refused, fmt.Errorf("interface %s went while it was set up", d.Name))
		}
		if refused != nil {
			return l, changes, refused
		}
	}
	if d.ipv6() && !l.IPv6 {
		err = fmt.Errorf("interface %s: the host's kernel has no IPv6, which the network needs", d.Name)
	}
	return l, changes, err
}

// adjustments is how often a device is looked at again after it was changed: an MTU
// that grows brings IPv6 back, with its settings.
const adjustments = 3

// changeable reports whether the device can become what is wanted
// (vxlan_changelink in drivers/net/vxlan/vxlan_core.c).
func changeable(l *rtnl.VXLAN, d *Device) bool {
	if d.Tunnel != nil {
		return d.Tunnel.Works(l.Name, l.Kind)
	}
	return l.IsVXLAN() && l.VNI == d.VNI && l.Port == d.Port && !l.Grouped &&
		l.Local.Is4() == d.Local.Is4() && l.Local.IsValid() && (l.Underlay == 0) == (d.Underlay == 0)
}

// create makes the device, down. Of another device that has the VNI and port the
// kernel says that it exists: if it was ours under another name, it goes.
func (c *conn) create(d *Device) (*rtnl.VXLAN, error) {
	err := c.add(d)
	if errors.Is(err, unix.EEXIST) && d.Tunnel == nil {
		if err = c.evict(d, err); err == nil {
			err = c.add(d)
		}
	}
	if err != nil {
		return nil, err
	}
	l, err := c.VXLAN(d.Name)
	if err == nil && l == nil {
		err = fmt.Errorf("interface %s went as soon as it was made", d.Name)
	}
	return l, err
}

func (c *conn) add(d *Device) error {
	if d.Tunnel != nil {
		return d.Tunnel.Make(d.Name, d.MTU)
	}
	if err := c.Send(d.wanted().New()); err != nil {
		return fmt.Errorf("add VXLAN device %s: %w", d.Name, err)
	}
	return nil
}

// wanted is the device as the kernel should have it.
func (d *Device) wanted() *rtnl.VXLAN {
	return &rtnl.VXLAN{Link: rtnl.Link{Name: d.Name, MAC: d.MAC, MTU: d.MTU},
		VNI: d.VNI, Port: d.Port, Local: d.Local, Underlay: d.Underlay}
}

// evict deletes our own device that stands in the way of another, or names the
// foreign one.
func (c *conn) evict(d *Device, exists error) error {
	all, err := c.VXLANs()
	if err := readable(err); err != nil {
		return err
	}
	for _, l := range all {
		if l.VNI == d.VNI && l.Port == d.Port && l.Name != d.Name {
			if l.Alias == Alias {
				return c.deleteLink(&l.Link)
			}
			return fmt.Errorf("VNI %d on port %d is that of %s: %w", d.VNI, d.Port, l.Name, exists)
		}
	}
	return exists
}

func (c *conn) deleteLink(l *rtnl.Link) error {
	if err := c.Send(rtnl.DeleteLink(l.Index)); err != nil && !rtnl.IsGone(err) {
		return fmt.Errorf("delete interface %s: %w", l.Name, err)
	}
	return nil
}

// What differs, in the order in which it is changed: settings come before the device
// is up, so that it neither makes an address nor sends anything.
const (
	diffVTEP    = "VTEP"
	diffMTU     = "MTU"
	diffMAC     = "MAC"
	diffAlias   = "alias"
	diffMaster  = "bridge"
	diffGroup   = "group"
	diffFilter  = "rp_filter"
	diffGenMode = "addr_gen_mode"
	diffRA      = "accept_ra"
	diffIPv6    = "disable_ipv6"
	diffDown    = "down"
)

// differences are what to change of a device that is changeable.
func differences(l *rtnl.VXLAN, d *Device) []string {
	var all []string
	for _, c := range []struct {
		what string
		is   bool
	}{
		{diffVTEP, d.Tunnel == nil && (l.Local != d.Local || l.Learning || l.Underlay != d.Underlay)},
		{diffMTU, l.MTU != d.MTU}, {diffMAC, d.Tunnel == nil && !slices.Equal(l.MAC, d.MAC)}, {diffAlias, l.Alias != Alias},
		{diffMaster, l.Master != 0}, {diffGroup, d.Group != 0 && l.Group != d.Group}, {diffFilter, l.RPFilter != looseRPFilter},
		{diffGenMode, l.IPv6 && l.GenAddr}, {diffRA, l.IPv6 && l.AcceptRA},
		{diffIPv6, l.IPv6 && l.NoIPv6 && d.ipv6()}, {diffDown, !l.Up()},
	} {
		if c.is {
			all = append(all, c.what)
		}
	}
	return all
}

// adjust changes in place what differs, and tells how much of it was done.
func (c *conn) adjust(l *rtnl.VXLAN, d *Device, todo []string) (done int, err error) {
	var errs []error
	for _, what := range todo {
		var err error
		switch what {
		case diffRA:
			_, err = proc.Protect(proc.Net("ipv6", "conf", d.Name, "accept_ra"), "0")
		case diffIPv6:
			_, err = proc.Set(proc.Net("ipv6", "conf", d.Name, "disable_ipv6"), "0")
		default:
			err = c.set(l.Index, d, what)
		}
		if err == nil {
			done++
		}
		errs = append(errs, err)
	}
	return done, errors.Join(errs...)
}

// set changes by netlink one thing that differs.
func (c *conn) set(index int, d *Device, what string) error {
	var req *netlink.Request
	switch what {
	case diffVTEP:
		req = d.wanted().Change(index)
	case diffMTU:
		req = rtnl.SetLink(index, 0).Uint32(unix.IFLA_MTU, uint32(d.MTU))
	case diffMAC:
		req = rtnl.SetLink(index, 0).Bytes(unix.IFLA_ADDRESS, d.MAC)
	case diffAlias:
		req = rtnl.SetLink(index, 0).Text(unix.IFLA_IFALIAS, Alias)
	case diffGroup:
		req = rtnl.SetLink(index, 0).Uint32(unix.IFLA_GROUP, d.Group)
	case diffMaster:
		req = rtnl.SetLink(index, 0).Uint32(unix.IFLA_MASTER, 0)
	case diffFilter:
		req = rtnl.SetInet(index, rtnl.RPFilter, looseRPFilter)
	case diffGenMode:
		req = rtnl.NoLinkLocal(index)
	case diffDown:
		req = rtnl.SetLink(index, unix.IFF_UP)
	}
	if err := c.Send(req); err != nil {
		return fmt.Errorf("mend %s of %s: %w", what, d.Name, err)
	}
	return nil
}

// Alias is the alias (IFLA_IFALIAS) that marks a device of ours, for [Host.Sweep].
const Alias = "berth overlay"

// looseRPFilter takes a packet from where the host has no way back by the device
// (rp_filter in Documentation/networking/ip-sysctl.rst).
const looseRPFilter = 2
