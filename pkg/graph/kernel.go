package graph

import (
	"net"
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
	addresses map[string][]netip.Prefix
	now       time.Time
}

func newHostKernel(now time.Time) (*hostKernel, error) {
	k := &hostKernel{addresses: map[string][]netip.Prefix{}, now: now}
	var err error
	k.links, err = host.ListLinks()
	return k, err
}

// Device implements [Kernel]. Only interfaces with addresses of the host are
// asked for them: not the ends of pairs.
func (k *hostKernel) Device(name string) (Device, bool) {
	l, ok := k.links[name]
	if !ok {
		return Device{}, false
	}
	d := Device{Name: name, Up: l.Up, MTU: l.MTU}
	if l.Kind != "veth" || l.Master == 0 {
		d.Addresses = k.addressesOf(name)
	}
	return d, true
}

func (k *hostKernel) addressesOf(name string) []netip.Prefix {
	if known, ok := k.addresses[name]; ok {
		return known
	}
	all := []netip.Prefix{}
	if i, err := net.InterfaceByName(name); err == nil {
		addrs, _ := i.Addrs() // it has gone
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err == nil && !p.Addr().IsLinkLocalUnicast() {
				all = append(all, p)
			}
		}
	}
	k.addresses[name] = all
	return all
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
