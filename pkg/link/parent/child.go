// Package parent makes what is on an interface of the host, the parent: interfaces of
// containers, which are on its network ([Child]), and an interface in a VLAN for them to be
// on ([Subinterface]). The kinds of children that the kernel has are in the packages macvlan
// and ipvlan.
package parent

import (
	"errors"
	"fmt"
	"io/fs"
	"net"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/proc"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"github.com/berth-cni/berth/pkg/link/netns"
	"golang.org/x/sys/unix"
)

// Child is a container's interface on the network of its parent, the master. The step of a
// kind makes it.
type Child struct {
	*iface.Expectable

	// Kind is the kernel's name of it (IFLA_INFO_KIND).
	Kind   string
	Master string
	MTU    int // bytes; 0: the master's
	// Inside says that the master is in the container's namespace.
	Inside   bool
	DAD      bool // IPv6 duplicate address detection
	AcceptRA bool // the container takes router advertisements
	// OwnMAC says that the child has a MAC of its own, the attachment's. Else it has that of
	// the master, and the attachment gets it.
	OwnMAC bool
	// NoOperState says that the kernel leaves the kind's operational state (RFC 2863)
	// unknown, whatever the master's is.
	NoOperState bool

	// Data is what the kind has in IFLA_INFO_DATA.
	Data func(*netlink.Request)
	// InMode tells whether an interface of the kind is in the mode that is wanted.
	InMode func(*rtnl.Link) error
	// Refused says what the kernel means by EINVAL.
	Refused func(master *rtnl.Link) string
}

// Add makes the interface in the container's namespace, brings it up, and tells the
// master's network the addresses, which may have been at another MAC before.
// [ErrMaster] when the kernel refuses the master, [ErrNoKind] when it does not have the
// kind. It adds the interface to the attachment's.
func (m *Child) Add(a *attach.Adding) error {
	ns, c, done, err := dial(a.Attachment)
	if err != nil {
		return err
	}
	defer done()
	master, err := m.create(ns, c, a.Attachment)
	if err != nil {
		return fmt.Errorf("add %s on %s: %w", m.Kind, m.Master, err)
	}
	d, err := c.LinkByName(FirstName(m.Kind, a.Attachment))
	if err != nil {
		return errors.Join(err, attach.ErrLeft)
	}
	if mac := d.MAC.String(); !m.OwnMAC && a.MAC != mac {
		a.MAC = mac // the master has got another one since it was looked at
		a.Changed()
	}
	if err := m.configure(ns, c, d, master, a); err != nil {
		err = fmt.Errorf("%s on %s: %w", m.Kind, m.Master, err)
		if undo := c.DeleteIndex(d.Index); undo != nil {
			return errors.Join(err, undo, attach.ErrLeft)
		}
		return err
	}
	mtu := m.MTU
	if mtu == 0 {
		mtu = master.MTU
	}
	a.Interfaces = append(a.Interfaces, attach.Interface{Name: a.IfName, MAC: a.MAC, MTU: mtu, Sandbox: a.Netns})
	return nil
}

// dial opens the container's namespace, and a socket in it. done closes both.
func dial(a *attach.Attachment) (ns *netns.Namespace, c *iface.Conn, done func(), err error) {
	if ns, err = netns.Open(a.Netns); err != nil {
		return nil, nil, nil, err
	}
	if c, err = iface.DialNetns(ns); err != nil {
		ns.Close()
		return nil, nil, nil, err
	}
	return ns, c, func() { c.Close(); ns.Close() }, nil
}

// FirstName is the interface's first name. Kernels before 6.15 look in the host's
// namespace whether a new link's name is free, and the host may well have an eth0.
func FirstName(kind string, a *attach.Attachment) string { return kind[:4] + a.Hash() }

// mark is the alias of what is the attachment's and cannot have its name.
func mark(a *attach.Attachment) string { return "berth " + a.Hash() }

// outside is a socket where the master is; inside is the container's. done ends its use.
func (m *Child) outside(inside *iface.Conn) (c *iface.Conn, done func(), err error) {
	if m.Inside {
		return inside, func() {}, nil
	}
	if c, err = iface.Dial(); err != nil {
		return nil, nil, err
	}
	return c, func() { c.Close() }, nil
}

// create makes the interface with one request, under its first name.
func (m *Child) create(ns *netns.Namespace, c *iface.Conn, a *attach.Attachment) (master *rtnl.Link, err error) {
	c, done, err := m.outside(c)
	if err != nil {
		return nil, err
	}
	defer done()
	if master, err = c.LinkByName(m.Master); err != nil {
		return nil, err
	}
	if m.MTU > master.MTU { // the kernel looks at this for macvlans alone
		return nil, fmt.Errorf("MTU %d is larger than the master's, %d: %w", m.MTU, master.MTU, unix.EINVAL)
	}
	req := rtnl.NewLink(FirstName(m.Kind, a), m.Kind, 0, m.Data)
	req.Uint32(unix.IFLA_LINK, uint32(master.Index)).Uint32(unix.IFLA_NET_NS_FD, uint32(ns.FD()))
	if m.OwnMAC {
		mac, err := net.ParseMAC(a.MAC)
		if err != nil {
			return nil, err
		}
		req.Bytes(unix.IFLA_ADDRESS, mac)
	}
	if m.MTU != 0 {
		req.Uint32(unix.IFLA_MTU, uint32(m.MTU))
	}
	return master, m.Explain(c.Send(req), master)
}

// configure gives the new interface its name, addresses and routes. The last
// request sets a MAC of its own once more. Its effect is that the addresses are announced
// (RFC 5227 section 3, RFC 4861 section 7.2.6); and in a macvlan's passthru mode, where the
// child begins with the master's MAC, that the master changes to the child's. The
// kernel gives the master's own back when the child goes.
func (m *Child) configure(ns *netns.Namespace, c *iface.Conn, d, master *rtnl.Link, a *attach.Adding) error {
	err := c.Send(rtnl.SetLink(d.Index, 0).Text(unix.IFLA_IFNAME, a.IfName).Bytes(unix.IFLA_IFALIAS, []byte(mark(a.Attachment))))
	if iface.IsErrno(err, unix.EEXIST) {
		return fmt.Errorf("the container has an interface %s already: %w", a.IfName, err)
	}
	if err != nil {
		return fmt.Errorf("name it %s: %w", a.IfName, err)
	}
	if a.Addressless() {
		if err := ns.Do(func() error { return m.inside(false).Prepare(a) }); err != nil {
			return err
		}
		return m.announce(c, d, a)
	}
	return m.bringUp(ns, c, d, master, a, false)
}

// inside is how the interface is to be. late says that a delegated IPAM has had it, and may
// have set it up. Addresses at the master's MAC are announced as the interface comes up.
func (m *Child) inside(late bool) iface.Inside {
	return iface.Inside{DAD: m.DAD, AcceptRA: m.AcceptRA, Announce: !m.OwnMAC, SharedMAC: !m.OwnMAC, Late: late}
}

// announce has the neighbours told the addresses of a MAC of the child's own.
func (m *Child) announce(c *iface.Conn, d *rtnl.Link, a *attach.Adding) error {
	if !m.OwnMAC {
		return nil
	}
	return c.SetMAC(d.Index, a.MAC)
}

// bringUp is the part of configure that needs the addresses.
func (m *Child) bringUp(ns *netns.Namespace, c *iface.Conn, d, master *rtnl.Link, a *attach.Adding, late bool) error {
	o := m.inside(late)
	v6 := iface.HasIPv6(a.Attachment)
	if v6 || !o.AcceptRA {
		err := ns.Do(func() error {
			var err error
			if v6 {
				_, err = proc.Protect(proc.Net("ipv6", "conf", a.IfName, "ndisc_notify"), "1")
			}
			return errors.Join(err, o.Prepare(a))
		})
		if err != nil {
			return err
		}
	}
	if err := c.Configure(a.Attachment, o); err != nil {
		return err
	}
	if v6 && master.Oper == rtnl.OperUp && master.Flags&unix.IFF_LOWER_UP != 0 {
		if err := m.await6(c, a); err != nil {
			return err
		}
	}
	return m.announce(c, d, a)
}

// await6 waits until the IPv6 addresses can be used.
func (m *Child) await6(c *iface.Conn, a *attach.Adding) error {
	// Before 6.9 the operational state follows the carrier up to a second later.
	if !m.NoOperState {
		if err := c.AwaitUp(a.IfName); err != nil {
			return err
		}
	}
	if m.DAD {
		return c.Settle(a.IfName)
	}
	return c.AwaitLocals(a.Attachment)
}

// Del deletes the interface if the namespace is there and is the one of ADD; else
// the interface has gone with it, and the path is somebody else's.
func Del(kind string, a *attach.Attachment) error {
	ns, err := netns.Open(a.Netns)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, netns.ErrNotNetns) {
		return nil
	}
	if err != nil {
		return err
	}
	defer ns.Close()
	if own, err := ns.IsOwn(); err != nil || own {
		return err
	}
	cookie, err := ns.Cookie()
	if errors.Is(err, netns.ErrNotNetns) {
		return nil // an unmounted path or a process that has ended
	}
	if err != nil || a.Cookie != 0 && cookie != a.Cookie {
		return err
	}
	c, err := iface.DialNetns(ns)
	if err != nil {
		return err
	}
	defer c.Close()
	return deleteChild(kind, c, a)
}

// deleteChild deletes the attachment's interface, whichever name it has got to;
// nil when there is none. One of the same name that is another's stays.
func deleteChild(kind string, c *iface.Conn, a *attach.Attachment) error {
	d, err := c.LinkByName(a.IfName)
	if err == nil && d.Kind == kind && d.Alias == mark(a) {
		return c.DeleteIndex(d.Index)
	}
	if err != nil && !iface.NotExist(err) {
		return err
	}
	return c.DeleteLink(FirstName(kind, a))
}

// Address configures the interface.
func (m *Child) Address(a *attach.Adding) error {
	ns, c, done, err := dial(a.Attachment)
	if err != nil {
		return err
	}
	defer done()
	d, err := c.LinkByName(a.IfName)
	if err != nil {
		return fmt.Errorf("in the container: %w", err)
	}
	outside, hangUp, err := m.outside(c)
	if err != nil {
		return err
	}
	defer hangUp()
	master, err := outside.LinkByName(m.Master)
	if err == nil {
		err = m.bringUp(ns, c, d, master, a, true)
	}
	if err != nil {
		return fmt.Errorf("%s on %s: %w", m.Kind, m.Master, err)
	}
	return nil
}
