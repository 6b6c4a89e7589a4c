package macvlan

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/proc"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"github.com/berth-cni/berth/pkg/link/parent"
	"golang.org/x/sys/unix"
)

// HostShim is the step that lets the host and a macvlan container talk, which the
// kernel keeps apart: the host gets a macvlan of its own on the master, and a route
// through it to each of the container's addresses.
//
// The shim needs no address. IPv4: it answers ARP for the host's addresses, and only
// to those whom it has a route to. IPv6 answers for a device's own addresses only:
// the container gets a route to each of the master's addresses by the shim's
// link-local one.
//
// The shim is shared by all containers on the master. Its routes are its users: it
// goes with the last one.
type HostShim struct {
	Master string `json:"master"`
}

// Kind implements [attach.Step].
func (s *HostShim) Kind() string { return "host-shim" }

// Name is the shim's: one for each master.
func (s *HostShim) Name() string {
	return "shim" + attach.Key{Network: s.Master}.Hash()
}

// Add ensures the shim and adds the routes: the host's to the kernel, the
// container's to the attachment. It goes before the step that makes the container's
// interface.
func (s *HostShim) Add(ctx context.Context, a *attach.Adding) error {
	if a.Addressless() {
		return nil
	}
	c, unlock, err := parent.DialLocked()
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.add(c, a); err != nil {
		err = fmt.Errorf("host shim on %s: %w", s.Master, err)
		if undo := s.remove(c, a.Attachment); undo != nil {
			return errors.Join(err, undo, attach.ErrLeft)
		}
		return err
	}
	return nil
}

func (s *HostShim) add(c *iface.Conn, a *attach.Adding) error {
	master, err := c.LinkByName(s.Master)
	if err != nil {
		return err
	}
	shim, err := s.ensure(c, master)
	if err != nil {
		return err
	}
	sources, err := c.Prefixes(master.Index)
	if err != nil {
		return err
	}
	for _, dst := range hosts(a.Attachment) {
		r := iface.RouteOf(shim.Index, attach.Route{Dst: dst})
		r.Source = source(sources, dst.Addr())
		err := c.Send(r.Add())
		if iface.IsErrno(err, unix.EEXIST) {
			err = s.mine(c, shim, dst, err)
		}
		if err != nil {
			return fmt.Errorf("add route to %s: %w", dst, err)
		}
	}
	if !iface.HasIPv6(a.Attachment) {
		return nil
	}
	var outdated, now []attach.Route
	for _, p := range sources {
		back := attach.Route{Dst: rtnl.HostPrefix(p.Addr()), Gateway: linkLocal(shim.MAC)}
		if p.Addr().Is6() && !p.Addr().IsLinkLocalUnicast() && !slices.Contains(a.Routes, back) {
			// One by another address was for a shim on a master of another MAC.
			a.Routes = slices.DeleteFunc(a.Routes, func(r attach.Route) bool {
				old := r.Dst == back.Dst && r.Gateway.IsLinkLocalUnicast()
				if old {
					outdated, now = append(outdated, r), append(now, back)
				}
				return old
			})
			a.Routes = append(a.Routes, back)
			a.Changed()
		}
	}
	moveRoutes(a.Attachment, outdated, now)
	return nil
}

// moveRoutes gives a container that is there the new one for each outdated route that it
// still has. What it does not have any more somebody has taken out, or is yet to come.
func moveRoutes(a *attach.Attachment, outdated, now []attach.Route) {
	if len(outdated) == 0 {
		return
	}
	c, err := iface.DialIn(a.Netns)
	if err != nil {
		return
	}
	defer c.Close()
	index, err := c.Index(a.IfName)
	if err != nil {
		return
	}
	for i := range outdated {
		if c.Send(iface.RouteOf(index, outdated[i]).Delete()) == nil {
			_ = c.Send(iface.NewRoute(index, now[i]))
		}
	}
}

// ensure returns the shim, up. That it is up says that the rest is done.
func (s *HostShim) ensure(c *iface.Conn, master *rtnl.Link) (*rtnl.Link, error) {
	d, err := c.LinkByName(s.Name())
	if iface.IsErrno(err, unix.ENODEV) {
		// Of the master's MAC, since that is what tells two hosts of one network apart.
		mac := iface.HashMAC("shim", master.MAC.String())
		req := rtnl.NewLink(s.Name(), "macvlan", 0, func(data *netlink.Request) { data.Uint32(unix.IFLA_MACVLAN_MODE, bridge) })
		err = c.Send(req.Uint32(unix.IFLA_LINK, uint32(master.Index)).Bytes(unix.IFLA_ADDRESS, mac))
		if err != nil {
			return nil, (&Interface{}).child().Explain(err, master)
		}
		d, err = c.LinkByName(s.Name())
	}
	if err != nil {
		return nil, err
	}
	if d.Kind != "macvlan" || d.Parent != master.Index {
		return nil, fmt.Errorf("interface %s is not a macvlan on %s: %w", d.Name, s.Master, unix.EEXIST)
	}
	if d.Flags&unix.IFF_UP != 0 {
		return d, nil
	}
	return d, s.setUp(c, d)
}

// setUp keeps the shim out of what is not between the host and its containers: the
// master's network has many who send to all, and the master hears them, too. With
// rp_filter what comes from where the host has another way to is dropped, ARP requests
// included.
func (s *HostShim) setUp(c *iface.Conn, d *rtnl.Link) error {
	for _, setting := range []string{"accept_ra", "autoconf", "accept_dad"} {
		if _, err := proc.Protect(proc.Net("ipv6", "conf", d.Name, setting), "0"); err != nil {
			return err
		}
	}
	if _, err := proc.Set(proc.Net("ipv6", "conf", d.Name, "disable_ipv6"), "0"); err != nil {
		return err
	}
	var b iface.Batch
	b.Add("accept only what is routed back", rtnl.SetInet(d.Index, rtnl.RPFilter, 1))
	b.Try(rtnl.NoLinkLocal(d.Index)) // these two fail where there is no IPv6
	b.Try(iface.NewAddress(d.Index, netip.PrefixFrom(linkLocal(d.MAC), 64), false))
	b.Add("set up "+d.Name, rtnl.SetLink(d.Index, unix.IFF_UP))
	return b.Run(c)
}

// mine tells whether a route that is there already is one of the shim's, left over
// from an ADD that was killed; else it returns why it is refused.
func (s *HostShim) mine(c *iface.Conn, shim *rtnl.Link, dst netip.Prefix, refused error) error {
	all, err := s.Routes(c, shim)
	if err != nil || slices.Contains(all, dst) {
		return err
	}
	return refused
}

// Routes are the destinations that the host reaches through the shim.
func (s *HostShim) Routes(c *iface.Conn, shim *rtnl.Link) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, f := range rtnl.Families {
		routes, err := c.ListRoutes(f, shim.Index)
		if err != nil {
			return nil, err
		}
		for _, r := range routes {
			if r.Index == shim.Index && r.Table == unix.RT_TABLE_MAIN && r.Dst.IsSingleIP() {
				all = append(all, r.Dst)
			}
		}
	}
	return all, nil
}

// Del removes the routes to the container, and the shim if it has no others.
func (s *HostShim) Del(_ context.Context, a *attach.Attachment) error {
	c, unlock, err := parent.DialLocked()
	if err != nil {
		return err
	}
	defer unlock()
	return s.remove(c, a)
}

func (s *HostShim) remove(c *iface.Conn, a *attach.Attachment) error {
	shim, err := c.LinkByName(s.Name())
	if iface.NotExist(err) {
		return nil
	}
	if err != nil || shim.Kind != "macvlan" {
		return err
	}
	for _, dst := range hosts(a) {
		if err := c.Send(iface.RouteOf(shim.Index, attach.Route{Dst: dst}).Delete()); err != nil && !iface.IsErrno(err, unix.ESRCH) {
			return fmt.Errorf("delete route to %s: %w", dst, err)
		}
	}
	users, err := s.Routes(c, shim)
	if err != nil || len(users) > 0 {
		return err
	}
	return c.DeleteLink(s.Name())
}

// Check tells whether the shim is up, on its master, with the container's routes.
func (s *HostShim) Check(_ context.Context, a *attach.Attachment) error {
	c, err := iface.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	shim, err := c.LinkByName(s.Name())
	if err != nil {
		return err
	}
	master, err := c.LinkByName(s.Master)
	if err != nil {
		return err
	}
	if shim.Parent != master.Index {
		return fmt.Errorf("interface %s is not on %s", shim.Name, s.Master)
	}
	if shim.Flags&unix.IFF_UP == 0 {
		return fmt.Errorf("interface %s is down", shim.Name)
	}
	have, err := s.Routes(c, shim)
	if err != nil {
		return err
	}
	for _, dst := range hosts(a) {
		if !slices.Contains(have, dst) {
			return fmt.Errorf("the host lacks its route to %s by %s", dst, shim.Name)
		}
	}
	return nil
}

// hosts are the attachment's addresses as destinations.
func hosts(a *attach.Attachment) []netip.Prefix {
	var all []netip.Prefix
	for _, addr := range a.Addresses {
		all = append(all, rtnl.HostPrefix(addr.Prefix.Addr()))
	}
	return all
}

// source chooses the address that the host talks to dst from: one of dst's subnet,
// else the first of its family. The zero Addr leaves it to the kernel.
func source(have []netip.Prefix, dst netip.Addr) netip.Addr {
	var first netip.Addr
	for _, p := range have {
		if p.Addr().Is4() != dst.Is4() || p.Addr().IsLinkLocalUnicast() {
			continue
		}
		if p.Contains(dst) {
			return p.Addr()
		}
		if !first.IsValid() {
			first = p.Addr()
		}
	}
	return first
}

// linkLocal is the address of RFC 4291, appendix A, for a MAC.
func linkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
}

// Address adds what [HostShim.Add] leaves out while the addresses are not known.
func (s *HostShim) Address(ctx context.Context, a *attach.Adding) error { return s.Add(ctx, a) }
