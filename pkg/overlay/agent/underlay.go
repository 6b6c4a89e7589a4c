package agent

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/overlay"
	"golang.org/x/sys/unix"
)

// underlay is the host's interface that VXLAN packets use.
type underlay struct {
	device string
	index  int
	addr   netip.Addr
	mtu    int // bytes
}

// family is the underlay's version of IP.
func (u *underlay) family() overlay.Family { return overlay.FamilyOf(u.addr) }

// findUnderlays looks an address or a device up; the devices of the default routes when
// it is neither. It returns at most one underlay of each family, IPv4 first. Of a
// device's addresses of a family the first is taken that is there to stay; but now, as
// long as the device has it: an address that comes later (IPv6 lists it first) is no
// reason to move.
func findUnderlays(want string, now netip.Addr) ([]underlay, error) {
	if addr, err := netip.ParseAddr(want); err == nil {
		found, err := byAddress(addr.Unmap())
		return []underlay{found}, err
	}
	names := []string{want}
	if want == "" {
		v4, v6, err := link.DefaultDevices()
		if err != nil {
			return nil, err
		}
		names = slices.Compact(slices.DeleteFunc([]string{v4, v6}, func(name string) bool { return name == "" }))
		if len(names) == 0 {
			return nil, errors.New("this host has no default route: want an address or a device")
		}
	}
	found, fleeting := map[overlay.Family]underlay{}, map[overlay.Family]bool{}
	for _, name := range names {
		dev, err := net.InterfaceByName(name)
		if err != nil {
			return nil, fmt.Errorf("%q: want an address or a device of this host: %w", name, err)
		}
		all, err := addresses(dev)
		if err != nil {
			return nil, err
		}
		for _, addr := range all {
			u := underlay{dev.Name, dev.Index, addr.Addr, dev.MTU}
			f := u.family()
			if _, have := found[f]; !have || fleeting[f] && !addr.fleeting && found[f].addr != now || addr.Addr == now {
				found[f], fleeting[f] = u, addr.fleeting
			}
		}
	}
	var all []underlay
	for _, f := range []overlay.Family{overlay.IPv4, overlay.IPv6} {
		if u, ok := found[f]; ok {
			all = append(all, u)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("device %s has no address that other hosts reach", strings.Join(names, ", "))
	}
	return all, nil
}

func byAddress(want netip.Addr) (underlay, error) {
	if err := overlay.ValidUnderlay(want); err != nil {
		return underlay{}, fmt.Errorf("%s: %w", want, err)
	}
	devices, err := net.Interfaces()
	if err != nil {
		return underlay{}, err
	}
	for _, dev := range devices {
		all, err := addresses(&dev)
		if err != nil {
			continue // it has just gone
		}
		for _, addr := range all {
			if addr.Addr == want {
				return underlay{dev.Name, dev.Index, want, dev.MTU}, nil
			}
		}
	}
	return underlay{}, fmt.Errorf("%s: no device of this host has this address", want)
}

// address is one that can be an underlay's.
type address struct {
	netip.Addr
	fleeting bool // it will go: temporary (RFC 8981), or deprecated (RFC 4862, section 5.5.4)
}

// addresses are those of a device that can be an underlay's. One of IPv6 that the kernel
// still looks for a duplicate of, or has found one of, is none yet: nothing is sent from it.
func addresses(dev *net.Interface) ([]address, error) {
	c, err := rtnl.Dial()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	list, err := c.Addresses(dev.Index)
	for tries := 0; errors.Is(err, netlink.ErrInterrupted) && tries < 10; tries++ { // some may be missing
		list, err = c.Addresses(dev.Index)
	}
	if err != nil {
		return nil, fmt.Errorf("addresses of %s: %w", dev.Name, err)
	}
	var all []address
	for _, a := range list {
		v6, addr := a.Prefix.Addr().Is6(), a.Prefix.Addr()
		searching := v6 && (a.Flags&unix.IFA_F_DADFAILED != 0 || a.Flags&unix.IFA_F_TENTATIVE != 0 && a.Flags&unix.IFA_F_OPTIMISTIC == 0)
		if searching || overlay.ValidUnderlay(addr) != nil {
			continue
		}
		// Of IPv4 the bit of temporary says secondary.
		all = append(all, address{addr, a.Flags&unix.IFA_F_DEPRECATED != 0 || v6 && a.Flags&unix.IFA_F_TEMPORARY != 0})
	}
	return all, nil
}
