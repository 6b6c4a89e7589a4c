package link

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"github.com/berth-cni/berth/pkg/link/netns"
	"golang.org/x/sys/unix"
)

// Foreign is a container's interface that somebody else made.
type Foreign struct {
	Netns  string // path
	Cookie uint64 // of the namespace
	IfName string
	MAC    string
}

// ForeignKind is what interfaces of a configuration are, whoever made them: what other
// suites give a container of the same namespace is none of them.
type ForeignKind struct {
	Child  string // macvlan or ipvlan; otherwise a veth whose other end is a port of a bridge of this host
	On     string // the bridge, or the child's master; empty: any
	Inside bool   // the master is in the container's namespace, not in the host's
}

// FindForeign looks for such an interface in a namespace; nil when there is none, when the
// namespace is gone, and when it is the host's own.
func FindForeign(path, ifName string, kind ForeignKind) (*Foreign, error) {
	f := &Foreign{Netns: path, IfName: ifName}
	ns, err := netns.Open(path)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, netns.ErrNotNetns) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	if own, err := ns.IsOwn(); err != nil || own {
		return nil, err
	}
	c, err := iface.DialNetns(ns)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	l, err := c.LinkByName(ifName)
	if iface.NotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for %s in %s: %w", ifName, path, err)
	}
	if f.Cookie, err = c.Cookie(); err != nil {
		return nil, err
	}
	f.MAC = l.MAC.String()
	if is, err := kind.is(l, c); err != nil || !is {
		return nil, err
	}
	return f, nil
}

// is tells whether a container's interface is of the kind.
func (k ForeignKind) is(inside *rtnl.Link, container *iface.Conn) (bool, error) {
	if inside.Kind != cmp.Or(k.Child, "veth") || inside.Away == k.Inside {
		return false, nil
	}
	c := container
	if !k.Inside {
		host, err := iface.Dial()
		if err != nil {
			return false, err
		}
		defer host.Close()
		c = host
	}
	on := inside.Parent
	if k.Child == "" {
		l, err := c.LinkByIndex(inside.Parent)
		if iface.IsErrno(err, unix.ENODEV) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("look for the other end of %s: %w", inside.Name, err)
		}
		if l.Kind != "veth" || !l.Away || l.Parent != inside.Index || l.Master == 0 {
			return false, nil
		}
		on = l.Master
	}
	if k.On == "" {
		return true, nil
	}
	l, err := c.LinkByName(k.On)
	if iface.NotExist(err) {
		return false, nil
	}
	return err == nil && l.Index == on, err
}

// Alone tells whether a container has no interface beside lo and one of that name, or is
// gone. Those that are down, as the kernel's tunnel modules make one in every namespace, do
// not count. The host's own namespace has others.
func Alone(path, ifName string) (bool, error) {
	ns, err := netns.Open(path)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, netns.ErrNotNetns) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer ns.Close()
	if own, err := ns.IsOwn(); err != nil || own {
		return false, err
	}
	c, err := iface.DialNetns(ns)
	if err != nil {
		return false, err
	}
	defer c.Close()
	all, err := c.Links()
	if err != nil {
		return false, fmt.Errorf("list interfaces of %s: %w", path, err)
	}
	return !slices.ContainsFunc(all, func(l *rtnl.Link) bool {
		return l.Up() && l.Name != "lo" && l.Name != ifName
	}), nil
}

// Delete deletes the interface, and with it the other end.
func (f *Foreign) Delete() error {
	c, err := iface.DialIn(f.Netns)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.DeleteLink(f.IfName)
}

// Check tells whether the interface is as is expected.
func (f *Foreign) Check(e *iface.Expected) error {
	c, err := iface.DialIn(f.Netns)
	if err != nil {
		return err
	}
	defer c.Close()
	d, err := c.LinkByName(f.IfName)
	if err != nil {
		return fmt.Errorf("look for %s in %s: %w", f.IfName, f.Netns, err)
	}
	var x iface.Expectable
	x.Expect(e)
	return x.CheckInside(c, d, &attach.Attachment{Key: attach.Key{IfName: f.IfName}}, true)
}
