package link

import (
	"errors"
	"fmt"
	"net"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"github.com/berth-cni/berth/pkg/link/netns"
	"golang.org/x/sys/unix"
)

// ends is what a veth pair is made with: the host, and the namespace of the container.
type ends struct {
	*iface.Conn
	container *netns.Namespace
}

func dialEnds(a *attach.Attachment) (*ends, error) {
	c, err := iface.Dial()
	if err != nil {
		return nil, err
	}
	ns, err := netns.Open(a.Netns)
	if err != nil {
		c.Close()
		return nil, err
	}
	return &ends{c, ns}, nil
}

func (e *ends) Close() {
	e.container.Close()
	e.Conn.Close()
}

// undo deletes a pair that could not be set up for a reason, which it returns.
func (e *ends) undo(a *attach.Attachment, err error) error {
	err = fmt.Errorf("veth %s: %w", a.HostIfName(), err)
	if undo := e.DeleteLink(a.HostIfName()); undo != nil {
		return errors.Join(err, undo, attach.ErrLeft)
	}
	return err
}

// made adds both ends to the attachment's interfaces; the MTU is in bytes.
func made(a *attach.Adding, mtu int) {
	a.Interfaces = append(a.Interfaces,
		attach.Interface{Name: a.HostIfName(), MAC: hostMAC(a.Key).String(), MTU: mtu},
		attach.Interface{Name: a.IfName, MAC: a.MAC, MTU: mtu, Sandbox: a.Netns})
}

// checkContainer tells whether the container's end is as it is expected.
func checkContainer(x *iface.Expectable, a *attach.Attachment, up bool) error {
	c, err := iface.DialIn(a.Netns)
	if err != nil {
		return err
	}
	defer c.Close()
	d, err := c.LinkByName(a.IfName)
	if err != nil {
		return fmt.Errorf("in the container: %w", err)
	}
	return x.CheckInside(c, d, a, up)
}

// pair is the request that makes the attachment's veth pair: the host's end with its MAC and
// flags, and the container's in its namespace.
func pair(ns *netns.Namespace, a *attach.Attachment, mac net.HardwareAddr, mtu int, flags uint32) *netlink.Request {
	req := rtnl.NewLink(a.HostIfName(), "veth", flags, func(data *netlink.Request) {
		vethPeer(data, a.IfName, mac, uint32(mtu), func() { data.Uint32(unix.IFLA_NET_NS_FD, uint32(ns.FD())) })
	})
	return req.Bytes(unix.IFLA_ADDRESS, hostMAC(a.Key)).Uint32(unix.IFLA_MTU, uint32(mtu))
}

// taken says which of the names of a pair is taken, when that is why it was not made.
func taken(c *iface.Conn, a *attach.Attachment, err error) error {
	if !iface.IsErrno(err, unix.EEXIST) {
		return err
	}
	if _, err := c.LinkByName(a.HostIfName()); err == nil {
		return fmt.Errorf("left over from an attachment that is not on record; a DEL removes it: %w", unix.EEXIST)
	}
	return fmt.Errorf("the container has an interface %s already: %w", a.IfName, unix.EEXIST)
}

// vethPeer appends what the other end of a pair is; more, if any, what else.
func vethPeer(data *netlink.Request, name string, mac net.HardwareAddr, mtu uint32, more func()) {
	const peer = 1 // VETH_INFO_PEER of linux/veth.h
	data.Nest(peer, func() {
		data.Raw(rtnl.Ifinfomsg(unix.AF_UNSPEC, 0, 0))
		data.Text(unix.IFLA_IFNAME, name).Bytes(unix.IFLA_ADDRESS, mac).Uint32(unix.IFLA_MTU, mtu)
		if more != nil {
			more()
		}
	})
}

// hostMAC is derived from the key, so that no daemon on the host gives the
// interface another. It begins with fe, the last that a unicast address can begin with: a
// bridge whose MAC nobody has set takes the lowest of its ports', which is to stay that of
// the host's own network card (libvirt's tap devices have fe for the same reason).
func hostMAC(k attach.Key) net.HardwareAddr {
	mac := iface.HashMAC("host", k.Hash())
	mac[0] = 0xfe
	return mac
}
