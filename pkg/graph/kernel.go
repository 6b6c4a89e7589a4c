package graph

import (
	"net/netip"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/host"
	"github.com/berth-cni/berth/pkg/link"
)

// hostKernel is the kernel as a picture asks for it: interfaces and addresses are
// listed once.
type hostKernel struct {
	links     host.Links
	addresses map[int][]netip.Prefix // by index; those that are not link-local
	now       time.Time
}

func newHostKernel(now time.Time) (*hostKernel, error) {
	k := &hostKernel{now: now}
	var err error
	if k.links, err = host.ListLinks(); err != nil {
		return nil, err
	}
	k.addresses, err = link.ListAddresses()
	for index, all := range k.addresses {
		k.addresses[index] = slices.DeleteFunc(all, func(p netip.Prefix) bool { return p.Addr().IsLinkLocalUnicast() })
	}
	return k, err
}

// Device implements [Kernel].
func (k *hostKernel) Device(name string) (Device, bool) {
	l, ok := k.links[name]
	if !ok {
		return Device{}, false
	}
	return Device{Name: name, Up: l.Up, MTU: l.MTU, Addresses: k.addresses[l.Index]}, true
}

// Uplink implements [Kernel].
func (k *hostKernel) Uplink() (Device, bool) {
	i, _, routes, err := link.Uplink()
	if err != nil || len(routes) == 0 {
		return Device{}, false
	}
	d, ok := k.Device(i.Name)
	for _, r := range routes {
		d.Gateways = append(d.Gateways, r.Gateway)
	}
	return d, ok
}

// Ports implements [Kernel].
func (k *hostKernel) Ports(bridge string) (all []Device) {
	b, ok := k.links[bridge]
	if !ok {
		return nil
	}
	for name, l := range k.links {
		if l.Master == b.Index {
			all = append(all, Device{Name: name, Up: l.Up, MTU: l.MTU})
		}
	}
	slices.SortFunc(all, func(x, y Device) int { return host.Natural(x.Name, y.Name) })
	return all
}

// Netns implements [Kernel].
func (k *hostKernel) Netns(a *attach.Attachment) string {
	if what, why := host.StateOf(a, k.links, k.now); what != host.Alive {
		return why
	}
	return ""
}
