package agent

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/link"
	"github.com/berth-cni/berth/pkg/overlay"
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
// device's addresses of a family the first is taken; but now, as long as the device has
// it: an address that comes later (IPv6 lists it first) is no reason to move.
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
	found := map[overlay.Family]underlay{}
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
			u := underlay{dev.Name, dev.Index, addr, dev.MTU}
			if _, have := found[u.family()]; !have || addr == now {
				found[u.family()] = u
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
			if addr == want {
				return underlay{dev.Name, dev.Index, addr, dev.MTU}, nil
			}
		}
	}
	return underlay{}, fmt.Errorf("%s: no device of this host has this address", want)
}

// addresses are those of a device that can be an underlay's.
func addresses(dev *net.Interface) ([]netip.Addr, error) {
	list, err := dev.Addrs()
	if err != nil {
		return nil, fmt.Errorf("addresses of %s: %w", dev.Name, err)
	}
	var all []netip.Addr
	for _, a := range list {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		addr, _ := netip.AddrFromSlice(n.IP)
		if addr = addr.Unmap(); overlay.ValidUnderlay(addr) == nil {
			all = append(all, addr)
		}
	}
	return all, nil
}
