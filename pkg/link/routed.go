package link

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/proc"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"golang.org/x/sys/unix"
)

// Routed is the step that makes the container's interface on a network without a bridge: a
// veth pair whose host's end is the container's gateway, and on the host a route to each of
// the container's addresses by it. Neighbours reach each other through the host.
//
// The gateway answers ARP with the network's own IPv4 gateway, which each host's end has as
// a single address, and neighbor discovery with the link-local address of the host's end:
// many interfaces with one IPv6 address would cost an ADD time in proportion to their number
// (net/ipv6/addrconf.c goes through all addresses with each that is added).
type Routed struct {
	iface.Expectable

	// Group is the interface group of the network's host's ends ([attach.Group]).
	Group uint32 `json:"group"`
	// Beside is the bridge that containers of the network may be on, which had one when they
	// were added; empty: there are none.
	Beside   string `json:"beside,omitempty"`
	MTU      int    `json:"mtu,omitempty"`      // bytes; 0: that of the way out
	DAD      bool   `json:"dad,omitempty"`      // IPv6 duplicate address detection
	AcceptRA bool   `json:"acceptRA,omitempty"` // the container takes router advertisements
}

// Kind implements [attach.Step].
func (*Routed) Kind() string { return "routed" }

// Add makes the pair, its addresses and routes. It adds both interfaces to the attachment's.
func (r *Routed) Add(_ context.Context, a *attach.Adding) error {
	c, err := dialEnds(a.Attachment)
	if err != nil {
		return err
	}
	defer c.Close()
	mtu, err := r.mtu(c.Conn)
	if err != nil {
		return err
	}
	mac, err := net.ParseMAC(a.MAC)
	if err == nil {
		err = taken(c.Conn, a.Attachment, c.Send(pair(c.container, a.Attachment, mac, mtu, 0).Uint32(unix.IFLA_GROUP, r.Group)))
	}
	if err != nil {
		return fmt.Errorf("add veth %s: %w", a.HostIfName(), err)
	}
	if a.Addressless() {
		err = c.container.Do(func() error { return r.inside().Prepare(a) })
	} else {
		err = r.bringUp(c, a, false)
	}
	if err != nil {
		return c.undo(a.Attachment, err)
	}
	made(a, mtu)
	return nil
}

// Address does what Add has left out.
func (r *Routed) Address(_ context.Context, a *attach.Adding) error {
	c, err := dialEnds(a.Attachment)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := r.bringUp(c, a, true); err != nil {
		return fmt.Errorf("veth %s: %w", a.HostIfName(), err)
	}
	return nil
}

// mtu is the configured one, or that of the way out; Ethernet's where there is none.
func (r *Routed) mtu(c *iface.Conn) (int, error) {
	mtu, err := (&Bridge{MTU: r.MTU}).wantedMTU(c)
	if mtu == 0 {
		mtu = 1500
	}
	return mtu, err
}

func (r *Routed) inside() iface.Inside { return iface.Inside{DAD: r.DAD, AcceptRA: r.AcceptRA} }

// bringUp has the host's end up, then the container's, and last the routes to it.
func (r *Routed) bringUp(c *ends, a *attach.Adding, late bool) error {
	index, err := r.hostEnd(c.Conn, a)
	if err != nil {
		return err
	}
	o := r.inside()
	o.Late = late
	if err := iface.ConfigureInside(c.container, a, o); err != nil {
		return err
	}
	if err := c.AwaitUp(a.HostIfName()); err != nil {
		return err
	}
	if err := r.route(c.Conn, index, a.Attachment); err != nil {
		return err
	}
	return r.beside(c.Conn, a.Attachment)
}

// hostEnd gives the host's end its settings and addresses, and has it up.
func (r *Routed) hostEnd(c *iface.Conn, a *attach.Adding) (index int, err error) {
	if index, err = c.Index(a.HostIfName()); err != nil {
		return 0, err
	}
	var b iface.Batch
	if iface.HasIPv6(a.Attachment) { // before it is up
		b.Add("make a link-local address of "+a.HostIfName(), rtnl.LinkLocalOfMAC(index))
	} else {
		b.Try(rtnl.NoLinkLocal(index)) // fails where the host has no IPv6
	}
	if err := b.Run(c); err != nil {
		return 0, err
	}
	for _, s := range r.settings(a.Attachment) {
		if err := s.set(c, index, a.Warn); err != nil {
			return 0, err
		}
	}
	if _, err := putGateways(c, &rtnl.Link{Index: index, Name: a.HostIfName()}, gateways4(a.Attachment)); err != nil {
		return 0, err
	}
	if err := c.Send(rtnl.SetLink(index, unix.IFF_UP)); err != nil {
		return 0, fmt.Errorf("set up %s: %w", a.HostIfName(), err)
	}
	return index, nil
}

// Del deletes the host's end, and so both, and the routes.
func (r *Routed) Del(_ context.Context, a *attach.Attachment) error {
	return errors.Join(r.alone(a), Delete(a.HostIfName()))
}

// Check tells whether both ends are up, with their addresses and routes.
func (r *Routed) Check(_ context.Context, a *attach.Attachment) error {
	c, err := iface.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	host, err := c.LinkByName(a.HostIfName())
	if err != nil {
		return err
	}
	switch {
	case !host.Up():
		return fmt.Errorf("interface %s is down", host.Name)
	case host.Group != r.Group:
		return fmt.Errorf("interface %s is in the interface group %d, not in that of its network, %d", host.Name, host.Group, r.Group)
	}
	if err := errors.Join(r.checkSettings(a), r.checkRoutes(c, host, a)); err != nil || r.OnlyThere() {
		return err
	}
	return checkContainer(&r.Expectable, a, true)
}

// Repair implements [attach.Repairer]: it puts back what is the host's. The container keeps
// its interface.
func (r *Routed) Repair(_ context.Context, a *attach.Adding) error {
	c, err := iface.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	host, err := c.LinkByName(a.HostIfName())
	if err != nil {
		return err
	}
	if host.Group != r.Group {
		if err := c.Send(rtnl.SetLink(host.Index, 0).Uint32(unix.IFLA_GROUP, r.Group)); err != nil {
			return fmt.Errorf("put %s into its interface group: %w", host.Name, err)
		}
	}
	if _, err := r.hostEnd(c, a); err != nil {
		return fmt.Errorf("veth %s: %w", host.Name, err)
	}
	for _, path := range forwardingOf(host.Name, a.Attachment) {
		if _, err := proc.Set(path, "1"); err != nil {
			return err
		}
	}
	if c.AwaitUp(host.Name) != nil {
		return nil // without a carrier where the container's end is down
	}
	if err := r.restoreLinkLocal(c, host.Index, a.Attachment); err != nil {
		return err
	}
	if err := r.route(c, host.Index, a.Attachment); err != nil {
		return err
	}
	return r.beside(c, a.Attachment)
}
