// Package macvlan makes the interfaces of containers that are on the network of an interface
// of the host, with MACs of their own ([Interface]), and what they need of the host: a
// macvlan for the host to talk to them ([HostShim]), and an interface in a VLAN for them
// to be on ([Subinterface]).
package macvlan

import (
	"context"
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

// ErrMaster: the kernel makes no macvlan on this interface.
var ErrMaster = errors.New("cannot be the master of this macvlan")

// Interface is the step that makes the container's interface: a child of a host's
// interface, with a MAC and addresses of its own on the network that the master is
// on.
type Interface struct {
	iface.Expectable

	Master string `json:"master"`
	// Mode says who the child can talk to: bridge, the master's other children, too;
	// private, none of them; vepa, them by way of the switch; passthru, the only
	// child, with the master promiscuous and of the child's MAC.
	Mode string `json:"mode"`
	MTU  int    `json:"mtu,omitempty"` // bytes; 0: the master's
	// QueueLen is how many broadcast packets wait for delivery, of all children of
	// the master together (kernel 5.11); 0: the kernel's default, 1000.
	QueueLen uint32 `json:"queueLen,omitempty"`
	// Inside says that the master is in the container's namespace.
	Inside bool `json:"inside,omitempty"`
	DAD    bool `json:"dad,omitempty"` // IPv6 duplicate address detection
	// AcceptRA has the container take router advertisements.
	AcceptRA bool `json:"acceptRA,omitempty"`
}

// MACVLAN_MODE_* of linux/if_link.h.
const private, vepa, bridge, passthru = 1, 2, 4, 8

// ModeNumber is the kernel's number of a mode; 0 when there is none of that name.
func ModeNumber(name string) uint32 {
	switch name {
	case "bridge":
		return bridge
	case "private":
		return private
	case "vepa":
		return vepa
	case "passthru":
		return passthru
	}
	return 0
}

// Kind implements [attach.Step].
func (m *Interface) Kind() string { return "macvlan" }

// Add makes the interface in the container's namespace, brings it up, and tells the
// master's network the addresses, which may have been at another MAC before.
// [ErrMaster] when the kernel refuses the master. It adds the interface to the
// attachment's.
func (m *Interface) Add(_ context.Context, a *attach.Adding) error {
	ns, err := netns.Open(a.Netns)
	if err != nil {
		return err
	}
	defer ns.Close()
	c, err := iface.DialNetns(ns)
	if err != nil {
		return err
	}
	defer c.Close()
	master, err := m.create(ns, c, a.Attachment)
	if err != nil {
		return fmt.Errorf("add macvlan on %s: %w", m.Master, err)
	}
	d, err := c.LinkByName(firstName(a.Attachment))
	if err != nil {
		return errors.Join(err, attach.ErrLeft)
	}
	if err := m.configure(ns, c, d, master, a); err != nil {
		err = fmt.Errorf("macvlan on %s: %w", m.Master, err)
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

// firstName is the interface's first name. Kernels before 6.15 look in the host's
// namespace whether a new link's name is free, and the host may well have an eth0.
func firstName(a *attach.Attachment) string { return "macv" + a.Hash() }

// mark is the alias of what is the attachment's and cannot have its name.
func mark(a *attach.Attachment) string { return "berth " + a.Hash() }

// outside is a socket where the master is; inside is the container's. done ends its use.
func (m *Interface) outside(inside *iface.Conn) (c *iface.Conn, done func(), err error) {
	if m.Inside {
		return inside, func() {}, nil
	}
	if c, err = iface.Dial(); err != nil {
		return nil, nil, err
	}
	return c, func() { c.Close() }, nil
}

// create makes the interface with one request, under its first name.
func (m *Interface) create(ns *netns.Namespace, c *iface.Conn, a *attach.Attachment) (master *rtnl.Link, err error) {
	c, done, err := m.outside(c)
	if err != nil {
		return nil, err
	}
	defer done()
	if master, err = c.LinkByName(m.Master); err != nil {
		return nil, err
	}
	mac, err := net.ParseMAC(a.MAC)
	if err != nil {
		return nil, err
	}
	req := rtnl.NewLink(firstName(a), "macvlan", 0, func(data *netlink.Request) {
		data.Uint32(unix.IFLA_MACVLAN_MODE, ModeNumber(m.Mode))
		if m.QueueLen != 0 {
			data.Uint32(unix.IFLA_MACVLAN_BC_QUEUE_LEN, m.QueueLen)
		}
	})
	req.Uint32(unix.IFLA_LINK, uint32(master.Index)).Uint32(unix.IFLA_NET_NS_FD, uint32(ns.FD())).Bytes(unix.IFLA_ADDRESS, mac)
	if m.MTU != 0 {
		req.Uint32(unix.IFLA_MTU, uint32(m.MTU))
	}
	err = c.Send(req)
	return master, m.explain(err, master)
}

// explain says what the kernel means by its bare numbers.
func (m *Interface) explain(err error, master *rtnl.Link) error {
	switch {
	case iface.IsErrno(err, unix.EBUSY):
		return fmt.Errorf("%s %w: it is a port of a bridge or a bond, or has children of another kind: %w", master.Name, ErrMaster, err)
	case iface.IsErrno(err, unix.EINVAL) && m.MTU > master.MTU:
		return fmt.Errorf("MTU %d is larger than the master's, %d: %w", m.MTU, master.MTU, err)
	case iface.IsErrno(err, unix.EINVAL) && m.Mode == "passthru":
		return fmt.Errorf("%s %w: passthru wants an Ethernet interface without other children: %w", master.Name, ErrMaster, err)
	case iface.IsErrno(err, unix.EINVAL):
		return fmt.Errorf("%s %w: it is not an Ethernet interface, or has a child in mode passthru: %w", master.Name, ErrMaster, err)
	case iface.IsErrno(err, unix.EEXIST):
		return fmt.Errorf("left over from an attachment that is not on record; a DEL removes it: %w", err)
	}
	return err
}

// configure gives the new interface its name, addresses and routes. The last
// request sets the MAC once more. Its effect is that the addresses are announced
// (RFC 5227 section 3, RFC 4861 section 7.2.6); and in passthru mode, where the
// child begins with the master's MAC, that the master changes to the child's. The
// kernel gives the master's own back when the child goes.
func (m *Interface) configure(ns *netns.Namespace, c *iface.Conn, d, master *rtnl.Link, a *attach.Adding) error {
	err := c.Send(rtnl.SetLink(d.Index, 0).Text(unix.IFLA_IFNAME, a.IfName).Bytes(unix.IFLA_IFALIAS, []byte(mark(a.Attachment))))
	if iface.IsErrno(err, unix.EEXIST) {
		return fmt.Errorf("the container has an interface %s already: %w", a.IfName, err)
	}
	if err != nil {
		return fmt.Errorf("name it %s: %w", a.IfName, err)
	}
	if a.Addressless() {
		if err := ns.Do(func() error { return m.inside().Prepare(a) }); err != nil {
			return err
		}
		return c.SetMAC(d.Index, a.MAC)
	}
	return m.bringUp(ns, c, d, master, a, false)
}

func (m *Interface) inside() iface.Inside { return iface.Inside{DAD: m.DAD, AcceptRA: m.AcceptRA} }

// bringUp is the part of configure that needs the addresses. late says that a delegated
// IPAM has had the interface, and may have set it up.
func (m *Interface) bringUp(ns *netns.Namespace, c *iface.Conn, d, master *rtnl.Link, a *attach.Adding, late bool) error {
	o := m.inside()
	o.Late = late
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
	// Before 6.9 the operational state follows the carrier up to a second later.
	if v6 && master.Oper == rtnl.OperUp && master.Flags&unix.IFF_LOWER_UP != 0 {
		if err := c.AwaitUp(a.IfName); err != nil {
			return err
		}
		if !o.DAD {
			if err := c.AwaitLocals(a.Attachment); err != nil {
				return err
			}
		}
	}
	return c.SetMAC(d.Index, a.MAC)
}

// Del deletes the interface if the namespace is there and is the one of ADD; else
// the interface has gone with it, and the path is somebody else's.
func (m *Interface) Del(_ context.Context, a *attach.Attachment) error {
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
	return deleteMacvlan(c, a)
}

// deleteMacvlan deletes the attachment's interface, whichever name it has got to;
// nil when there is none. One of the same name that is another's stays.
func deleteMacvlan(c *iface.Conn, a *attach.Attachment) error {
	d, err := c.LinkByName(a.IfName)
	if err == nil && d.Kind == "macvlan" && d.Alias == mark(a) {
		return c.DeleteIndex(d.Index)
	}
	if err != nil && !iface.NotExist(err) {
		return err
	}
	return c.DeleteLink(firstName(a))
}

// Check tells whether the interface is up, on its master and in its mode, with its
// MAC, addresses and routes, or as is expected.
func (m *Interface) Check(_ context.Context, a *attach.Attachment) error {
	c, err := iface.DialIn(a.Netns)
	if err != nil {
		return err
	}
	defer c.Close()
	d, err := m.find(c, a)
	if err != nil {
		return fmt.Errorf("in the container: %w", err)
	}
	outside, done, err := m.outside(c)
	if err != nil {
		return err
	}
	defer done()
	master, err := outside.LinkByName(m.Master)
	switch {
	case err != nil:
		return err
	case d.Kind != "macvlan" || d.Alias != mark(a):
		return fmt.Errorf("interface %s in the container is not the attachment's macvlan", a.IfName)
	case d.Parent != master.Index:
		return fmt.Errorf("interface %s in the container is not on %s", a.IfName, m.Master)
	case d.Mode != ModeNumber(m.Mode):
		return fmt.Errorf("interface %s in the container is not in mode %s", a.IfName, m.Mode)
	case m.AsRecorded() && d.MAC.String() != a.MAC:
		return fmt.Errorf("interface %s in the container has the MAC %s, not %s", a.IfName, d.MAC, a.MAC)
	}
	return m.CheckInside(c, d, a, true)
}

// find returns the interface; by its mark, whatever the container calls it, where no more
// than its being there is expected.
func (m *Interface) find(c *iface.Conn, a *attach.Attachment) (*rtnl.Link, error) {
	d, err := c.LinkByName(a.IfName)
	if err == nil && d.Alias == mark(a) || !m.OnlyThere() {
		return d, err
	}
	all, listed := c.Links()
	for _, other := range all {
		if other.Alias == mark(a) && other.Kind == "macvlan" {
			return other, nil
		}
	}
	return d, errors.Join(err, listed)
}

// Address configures the interface.
func (m *Interface) Address(_ context.Context, a *attach.Adding) error {
	ns, err := netns.Open(a.Netns)
	if err != nil {
		return err
	}
	defer ns.Close()
	c, err := iface.DialNetns(ns)
	if err != nil {
		return err
	}
	defer c.Close()
	d, err := c.LinkByName(a.IfName)
	if err != nil {
		return fmt.Errorf("in the container: %w", err)
	}
	outside, done, err := m.outside(c)
	if err != nil {
		return err
	}
	defer done()
	master, err := outside.LinkByName(m.Master)
	if err == nil {
		err = m.bringUp(ns, c, d, master, a, true)
	}
	if err != nil {
		return fmt.Errorf("macvlan on %s: %w", m.Master, err)
	}
	return nil
}
