package iface

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/proc"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/netns"
	"golang.org/x/sys/unix"
)

// Inside is how an interface in a container is to be.
type Inside struct {
	DAD      bool // IPv6 looks for duplicates of its addresses
	AcceptRA bool // router advertisements are left to the kernel's default, which takes them
	Announce bool // the neighbours are told the IPv4 addresses as the interface comes up
	// SharedMAC says that the MAC is another interface's, and cannot be set here.
	SharedMAC bool
	Late      bool // somebody else may have set the interface up
}

// ConfigureInside gives the attachment's interface in the container its
// addresses, brings it up and adds the routes.
//
// A broadcast on a bridge of a thousand ports costs a thousand deliveries, so that
// nothing is sent that nobody needs. A MAC that follows from the address is known
// already to whoever knew the address; only another MAC is announced (RFC 5227,
// section 3). A container without IPv6 addresses gets no link-local one either, and
// so asks for no routers, unless it is to have addresses from them.
func ConfigureInside(ns *netns.Namespace, a *attach.Adding, o Inside) error {
	var c *Conn
	err := ns.Do(func() error {
		var err error
		if c, err = Dial(); err != nil {
			return err
		}
		return o.Prepare(a)
	})
	if c != nil {
		defer c.Close()
	}
	if err != nil {
		return err
	}
	if cookie, err := c.Cookie(); err != nil || a.Cookie != 0 && cookie != a.Cookie {
		return errors.Join(err, fmt.Errorf("%s became another namespace meanwhile", a.Netns))
	}
	o.Announce = a.MAC != MAC(a.Attachment)
	if err := c.Configure(a.Attachment, o); err != nil || !HasIPv6(a.Attachment) {
		return err
	}
	if err := c.AwaitUp(a.IfName); err != nil { // only when it is up does IPv6 listen
		return err
	}
	if o.DAD {
		if err := c.Settle(a.IfName); err != nil {
			return err
		}
	}
	return c.AwaitLocals(a.Attachment)
}

// AwaitLocals waits until the IPv6 addresses of an interface that is up can be reached: the
// kernel's worker sees to that when it gets the interface lock, and until then the
// container sends to them through the interface, and drops what comes for them.
func (c *Conn) AwaitLocals(a *attach.Attachment) error {
	for _, addr := range a.Addresses {
		if err := c.awaitLocal(addr.Prefix.Addr()); err != nil {
			return err
		}
	}
	return nil
}

// AwaitAddress waits until a link that is up has an IPv6 address and may use it: it is not
// tentative (RFC 4862, section 5.4).
func (c *Conn) AwaitAddress(index int, a netip.Addr) error {
	end := time.Now().Add(carrierWait)
	for wait := 50 * time.Microsecond; time.Now().Before(end); wait = min(2*wait, 50*time.Millisecond) {
		all, err := c.Addresses(index)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(all, func(x rtnl.Address) bool { return x.Prefix.Addr() == a && x.Flags&unix.IFA_F_TENTATIVE == 0 }) {
			return nil
		}
		time.Sleep(wait)
	}
	return fmt.Errorf("address %s is not in use after %s", a, carrierWait)
}

func (c *Conn) awaitLocal(a netip.Addr) error {
	if !a.Is6() || a.IsLinkLocalUnicast() { // those are an interface's, not the host's
		return nil
	}
	end := time.Now().Add(carrierWait)
	for wait := 50 * time.Microsecond; time.Now().Before(end); wait = min(2*wait, 50*time.Millisecond) {
		if local, err := c.IsLocal(a); err != nil || local {
			return err
		}
		time.Sleep(wait)
	}
	return fmt.Errorf("address %s is not in use after %s", a, carrierWait)
}

// Configure is [ConfigureInside]'s requests, on a socket in the container's
// namespace.
func (c *Conn) Configure(a *attach.Attachment, o Inside) error {
	index, err := c.Index(a.IfName)
	if err != nil {
		return err
	}
	var b Batch
	if o.Announce {
		b.Add("announce addresses of "+a.IfName, rtnl.SetInet(index, rtnl.ArpNotify, 1))
	}
	if len(a.Addresses) > 0 && !HasIPv6(a) && !o.AcceptRA {
		b.Try(rtnl.NoLinkLocal(index)) // fails where the interface has no IPv6
	}
	for _, addr := range a.Addresses {
		b.Add(fmt.Sprintf("add address %s to %s", addr.Prefix, a.IfName), NewAddress(index, addr.Prefix, o.DAD))
	}
	b.Add("set up "+a.IfName, rtnl.SetLink(index, unix.IFF_UP))
	if err := b.Run(c); err != nil {
		return err
	}
	if err := c.addRoutes(index, a); err != nil || !o.Late {
		return err
	}
	return c.catchUp(index, a, o)
}

// catchUp does what an interface that was up before it had its addresses has missed: the
// link-local address is not made any more, and the neighbours were told nothing.
func (c *Conn) catchUp(index int, a *attach.Attachment, o Inside) error {
	if o.Announce && !o.SharedMAC {
		if err := c.SetMAC(index, a.MAC); err != nil {
			return err
		}
	}
	if HasIPv6(a) || o.AcceptRA {
		return nil
	}
	have, err := c.Prefixes(index)
	if err != nil {
		return err
	}
	for _, p := range have {
		if !p.Addr().Is6() || !p.Addr().IsLinkLocalUnicast() {
			continue
		}
		if err := c.Send(DeleteAddress(index, p)); err != nil && !IsErrno(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("delete address %s of %s: %w", p, a.IfName, err)
		}
	}
	return nil
}

// addRoutes adds the attachment's routes. Where another network of the container
// has a route to the same place, this one comes behind it: the first network stays
// the default.
func (c *Conn) addRoutes(index int, a *attach.Attachment) error {
	if len(a.Routes) == 0 {
		return nil
	}
	routes := make([]attach.Route, len(a.Routes))
	reqs := make([]*netlink.Request, len(a.Routes))
	for i, r := range a.Routes {
		routes[i] = withGateway(r, a.Addresses)
		reqs[i] = NewRoute(index, routes[i])
	}
	err := c.Send(reqs...)
	refused := netlink.Refusals(err)
	if refused == nil {
		return err
	}
	for _, e := range refused {
		r, err := routes[e.Index], error(e)
		if e.Errno == unix.EEXIST && (r.Priority == 0 || r.Priority >= PreferredMetric) {
			err = c.addRouteBehind(index, r)
		}
		if err != nil {
			return fmt.Errorf("add route to %s by %s: %w", r.Dst, r.Gateway, err)
		}
	}
	return nil
}

// MostNetworks is how many networks of one container can have a route to the same place, one
// behind the other.
const MostNetworks = 64

// PreferredMetric is the lowest metric of routes that a person has given a priority. Each
// priority has [MostNetworks] metrics.
const PreferredMetric = 1 << 30

// addRouteBehind adds a route with the first priority that is free.
func (c *Conn) addRouteBehind(index int, r attach.Route) error {
	if r.Priority == 0 && r.Dst.Addr().Is6() {
		r.Priority = 1024 // IP6_RT_PRIO_USER, what 0 stands for
	}
	var err error
	for range MostNetworks {
		r.Priority++
		if err = c.Send(NewRoute(index, r)); !IsErrno(err, unix.EEXIST) {
			break
		}
	}
	return err
}

// Settle waits until no address of the interface is tentative any more (RFC 4862,
// section 5.4). A duplicate is an error.
func (c *Conn) Settle(name string) error {
	index, err := c.Index(name)
	if err != nil {
		return err
	}
	const limit, pause = 10 * time.Second, 20 * time.Millisecond
	for start := time.Now(); time.Since(start) < limit; time.Sleep(pause) {
		all, err := c.Addresses(index)
		if err != nil {
			return err
		}
		waiting := false
		for _, addr := range all {
			if addr.Flags&unix.IFA_F_DADFAILED != 0 {
				return fmt.Errorf("another host has the address %s (duplicate address detection)", addr.Prefix)
			}
			waiting = waiting || addr.Flags&unix.IFA_F_TENTATIVE != 0
		}
		if !waiting {
			return nil
		}
	}
	return fmt.Errorf("addresses of %s are still tentative after %s", name, limit)
}

// withGateway fills the gateway of a route that has none from the address of its
// family. A route whose scope is link or host (or narrower) has none.
func withGateway(r attach.Route, addrs []attach.Address) attach.Route {
	if r.Gateway.IsValid() || r.Scope != nil && *r.Scope >= unix.RT_SCOPE_LINK {
		return r
	}
	for _, addr := range addrs {
		if addr.Gateway.IsValid() && addr.Gateway.Is4() == r.Dst.Addr().Is4() {
			r.Gateway = addr.Gateway
			break
		}
	}
	return r
}

// HasIPv6 tells whether the attachment has an IPv6 address.
func HasIPv6(a *attach.Attachment) bool {
	return slices.ContainsFunc(a.Addresses, func(x attach.Address) bool { return x.Prefix.Addr().Is6() })
}

// Prepare sets, from inside the namespace, what has to be set before the interface is
// up.
func (o Inside) Prepare(a *attach.Adding) error {
	if o.AcceptRA && !HasIPv6(a.Attachment) {
		return nil
	}
	fs := proc.Own()
	defer fs.Close()
	if !o.AcceptRA {
		refuseAdvertisements(fs, a)
	}
	if !HasIPv6(a.Attachment) {
		return nil
	}
	return allowIPv6(fs, a.Attachment, o.DAD)
}

// allowIPv6 prepares the interface, from inside the namespace, for an IPv6
// address: the family on, and duplicate address detection off unless asked for,
// which would have the link-local address wait too.
func allowIPv6(fs proc.FS, a *attach.Attachment, dad bool) error {
	value := "0"
	if dad {
		value = "1"
	}
	_, err := fs.Set(proc.Net("ipv6", "conf", a.IfName, "disable_ipv6"), "0")
	_, errDAD := fs.Protect(proc.Net("ipv6", "conf", a.IfName, "accept_dad"), value)
	if dad { // RFC 7527: a looped-back probe is no duplicate
		_, errEnhanced := fs.Protect(proc.Net("ipv6", "conf", a.IfName, "enhanced_dad"), "1")
		err = errors.Join(err, errEnhanced)
	}
	return errors.Join(err, errDAD)
}

// MAC returns the MAC of a container's interface that was given none: 02:42 and
// the IPv4 address, so that an address never moves to another MAC and no
// neighbour's cache goes stale; else 02:42 and a hash of the IPv6 address, or of
// the attachment when it has no address.
func MAC(a *attach.Attachment) string {
	for _, addr := range a.Addresses {
		if ip := addr.Prefix.Addr(); ip.Is4() {
			b := ip.As4()
			return net.HardwareAddr{0x02, 0x42, b[0], b[1], b[2], b[3]}.String()
		}
	}
	seed := a.Hash()
	if len(a.Addresses) > 0 {
		seed = a.Addresses[0].Prefix.Addr().String()
	}
	mac := HashMAC("container", seed)
	mac[0], mac[1] = 0x02, 0x42
	return mac.String()
}
