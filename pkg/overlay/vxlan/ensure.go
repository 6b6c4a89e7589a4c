package vxlan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ensure brings the device to what it shall be, and tells how many times it changed
// something. What cannot be changed is made again; all entries go with it. With an
// error there may be a device all the same, of use but not as it shall be.
func (c *conn) ensure(d *Device) (*link, int, error) {
	l, err := c.link(d.Name)
	if err != nil {
		return nil, 0, err
	}
	changes := 0
	if l != nil && !l.changeable(d) {
		if err := c.deleteLink(l.index, l.name); err != nil {
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
		todo := l.differences(d)
		if len(todo) == 0 {
			break
		}
		done, refused := c.adjust(l, d, todo)
		changes += done
		if l, err = c.link(d.Name); err != nil {
			return nil, changes, errors.Join(refused, err)
		}
		if l == nil {
			return nil, changes, errors.Join(refused, fmt.Errorf("interface %s went while it was set up", d.Name))
		}
		if refused != nil {
			return l, changes, refused
		}
	}
	if d.ipv6() && !l.ipv6 {
		err = fmt.Errorf("interface %s: the host's kernel has no IPv6, which the network needs", d.Name)
	}
	return l, changes, err
}

// adjustments is how often a device is looked at again after it was changed: an MTU
// that grows brings IPv6 back, with its settings.
const adjustments = 3

// changeable reports whether the device can become what is wanted
// (vxlan_changelink in drivers/net/vxlan/vxlan_core.c).
func (l *link) changeable(d *Device) bool {
	return l.kind == vxlanKind && l.vni == d.VNI && l.port == d.Port && !l.grouped &&
		l.local.Is4() == d.Local.Is4() && l.local.IsValid() && (l.underlay == 0) == (d.Underlay == 0)
}

// create makes the device, down. Of another device that has the VNI and port the
// kernel says that it exists: if it was ours under another name, it goes.
func (c *conn) create(d *Device) (*link, error) {
	err := c.newLink(d)
	if errors.Is(err, unix.EEXIST) {
		if err = c.evict(d, err); err == nil {
			err = c.newLink(d)
		}
	}
	if err != nil {
		return nil, err
	}
	l, err := c.link(d.Name)
	if err == nil && l == nil {
		err = fmt.Errorf("interface %s went as soon as it was made", d.Name)
	}
	return l, err
}

func (c *conn) newLink(d *Device) error {
	var b batch
	b.add(request{verb: "add VXLAN device", thing: d.Name}, unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, ifinfomsg(0, 0)...)
	b.text(unix.IFLA_IFNAME, d.Name)
	b.attr(unix.IFLA_ADDRESS, d.MAC)
	b.uint32(unix.IFLA_MTU, uint32(d.MTU))
	b.vxlanInfo(d, func() {
		b.uint32(nl.IFLA_VXLAN_ID, d.VNI)
		b.attr(nl.IFLA_VXLAN_PORT, binary.BigEndian.AppendUint16(nil, d.Port))
		b.attr(nl.IFLA_VXLAN_UDP_CSUM, []byte{0})
	})
	b.finish()
	return c.run(&b, nil)
}

// vxlanInfo is what can be changed later; fixed adds what cannot.
func (b *batch) vxlanInfo(d *Device, fixed func()) {
	b.nest(unix.IFLA_LINKINFO, func() {
		b.attr(nl.IFLA_INFO_KIND, []byte(vxlanKind))
		b.nest(nl.IFLA_INFO_DATA, func() {
			fixed()
			local := uint16(nl.IFLA_VXLAN_LOCAL)
			if d.Local.Is6() {
				local = nl.IFLA_VXLAN_LOCAL6
			}
			b.addr(local, d.Local)
			b.attr(nl.IFLA_VXLAN_LEARNING, []byte{0})
			if d.Underlay != 0 {
				b.uint32(nl.IFLA_VXLAN_LINK, uint32(d.Underlay))
			}
		})
	})
}

// evict deletes our own device that stands in the way of another, or names the
// foreign one.
func (c *conn) evict(d *Device, exists error) error {
	all, err := c.listLinks()
	if err != nil {
		return err
	}
	for _, l := range all {
		if l.vni == d.VNI && l.port == d.Port && l.name != d.Name {
			if l.alias == ours {
				return c.deleteLink(l.index, l.name)
			}
			return fmt.Errorf("VNI %d on port %d is that of %s: %w", d.VNI, d.Port, l.name, exists)
		}
	}
	return exists
}

func (c *conn) deleteLink(index int, name string) error {
	var b batch
	b.add(request{verb: "delete interface", thing: name, gone: true}, unix.RTM_DELLINK, 0, ifinfomsg(index, 0)...)
	b.finish()
	return c.run(&b, nil)
}

// What differs, in the order in which it is changed: settings come before the device
// is up, so that it neither makes an address nor sends anything.
const (
	diffVTEP    = "VTEP"
	diffMTU     = "MTU"
	diffMAC     = "MAC"
	diffAlias   = "alias"
	diffMaster  = "bridge"
	diffFilter  = "rp_filter"
	diffGenMode = "addr_gen_mode"
	diffRA      = "accept_ra"
	diffIPv6    = "disable_ipv6"
	diffDown    = "down"
)

// differences are what to change of a device that is changeable.
func (l *link) differences(d *Device) []string {
	var all []string
	for _, c := range []struct {
		what string
		is   bool
	}{
		{diffVTEP, l.local != d.Local || l.learning || l.underlay != d.Underlay},
		{diffMTU, l.mtu != d.MTU}, {diffMAC, l.mac != mac(d.MAC)}, {diffAlias, l.alias != ours},
		{diffMaster, l.master != 0}, {diffFilter, l.rpFilter != looseRPFilter},
		{diffGenMode, l.ipv6 && l.genAddr}, {diffRA, l.ipv6 && l.acceptRA},
		{diffIPv6, l.ipv6 && l.noIPv6 && d.ipv6()}, {diffDown, !l.up},
	} {
		if c.is {
			all = append(all, c.what)
		}
	}
	return all
}

// adjust changes in place what differs, and tells how much of it was done.
func (c *conn) adjust(l *link, d *Device, todo []string) (done int, err error) {
	var errs []error
	for _, what := range todo {
		var err error
		switch what {
		case diffRA:
			err = setIPv6(d.Name, "accept_ra", "0")
		case diffIPv6:
			err = setIPv6(d.Name, "disable_ipv6", "0")
		default:
			err = c.set(l.index, d, what)
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
	var b batch
	up := uint32(0)
	if what == diffDown {
		up = unix.IFF_UP
	}
	b.add(request{verb: "mend " + what + " of", thing: d.Name}, unix.RTM_NEWLINK, 0, ifinfomsg(index, up)...)
	switch what {
	case diffVTEP:
		b.vxlanInfo(d, func() {})
	case diffMTU:
		b.uint32(unix.IFLA_MTU, uint32(d.MTU))
	case diffMAC:
		b.attr(unix.IFLA_ADDRESS, d.MAC)
	case diffAlias:
		b.text(unix.IFLA_IFALIAS, ours)
	case diffMaster:
		b.uint32(unix.IFLA_MASTER, 0)
	case diffFilter:
		b.familySetting(unix.AF_INET, func() {
			b.nest(ipv4Conf, func() { b.uint32(ipv4RPFilter, looseRPFilter) })
		})
	case diffGenMode:
		b.familySetting(unix.AF_INET6, func() { b.attr(ipv6AddrGenMode, []byte{addrGenNone}) })
	}
	b.finish()
	return c.run(&b, nil)
}

func (b *batch) familySetting(fam uint16, fill func()) {
	b.nest(unix.IFLA_AF_SPEC, func() { b.nest(fam, fill) })
}

// setIPv6 writes a setting of a device in the calling thread's network namespace,
// which netlink can only read.
func setIPv6(device, setting, value string) error {
	path := "/proc/sys/net/ipv6/conf/" + device + "/" + setting
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return fmt.Errorf("set %s to %s: %w", path, value, err)
	}
	return nil
}
