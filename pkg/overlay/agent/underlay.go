package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

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

// findUnderlay looks an address or a device up; the default route's device when it is
// neither. Of a device's addresses the first IPv4 one is taken, else the first IPv6
// one; but now, as long as the device has it: an address that comes later (IPv6 lists
// it first) is no reason to move.
func findUnderlay(want string, now netip.Addr) (underlay, error) {
	if want == "" {
		i, _, _, err := link.Uplink()
		if err != nil {
			return underlay{}, err
		}
		if i.Name == "lo" {
			return underlay{}, errors.New("this host has no default route: want an address or a device")
		}
		want = i.Name
	}
	addr, err := netip.ParseAddr(want)
	if err == nil {
		return byAddress(addr.Unmap())
	}
	dev, err := net.InterfaceByName(want)
	if err != nil {
		return underlay{}, fmt.Errorf("%q: want an address or a device of this host: %w", want, err)
	}
	all, err := addresses(dev)
	if err != nil {
		return underlay{}, err
	}
	var found netip.Addr
	for _, addr := range all {
		if addr == now {
			found = addr
			break
		}
		if !found.IsValid() || found.Is6() && addr.Is4() {
			found = addr
		}
	}
	if !found.IsValid() {
		return underlay{}, fmt.Errorf("device %s has no address that other hosts reach", want)
	}
	return underlay{dev.Name, dev.Index, found, dev.MTU}, nil
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

// awaitUnderlay waits for the network that the host may not have yet as it boots. It
// reports whether it came before the context ended.
func (a *Agent) awaitUnderlay(ctx context.Context) bool {
	told := ""
	for {
		var err error
		if a.underlay, err = findUnderlay(a.Underlay, netip.Addr{}); err == nil {
			return true
		}
		if err.Error() != told {
			told = err.Error()
			a.Log.Error("waiting for the underlay", "error", err)
		}
		if sleep(ctx, time.Second); ctx.Err() != nil {
			return false
		}
	}
}

// checkUnderlay follows a change of the host's address, device or MTU.
func (a *Agent) checkUnderlay() {
	now, err := findUnderlay(a.Config.Underlay, a.underlay.addr)
	if err != nil {
		a.Log.Debug("underlay", "error", err) // cut off for now: what was goes on
		return
	}
	if now == a.underlay {
		return
	}
	a.Log.Info("the underlay changed", "device", now.device, "address", now.addr, "mtu", now.mtu, "was", a.underlay.addr)
	a.underlay = now
	a.reregister()
	a.reconcile()
}
