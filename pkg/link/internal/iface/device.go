package iface

import (
	"fmt"
	"net"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"golang.org/x/sys/unix"
)

// DeleteLink deletes a link by name; nil when there is none. A veth takes its
// other end with it.
func (c *Conn) DeleteLink(name string) error {
	if err := c.Send(rtnl.DeleteLinkNamed(name)); err != nil && !IsErrno(err, unix.ENODEV) {
		return fmt.Errorf("delete interface %s: %w", name, err)
	}
	return nil
}

// DeleteIndex deletes a link by its index: by its name it could be another's by now.
func (c *Conn) DeleteIndex(index int) error {
	if err := c.Send(rtnl.DeleteLink(index)); err != nil && !IsErrno(err, unix.ENODEV) {
		return fmt.Errorf("delete interface %d: %w", index, err)
	}
	return nil
}

// SetMAC gives a link its MAC. One that it has already has the kernel tell the
// neighbours the link's addresses, where arp_notify and ndisc_notify say so.
func (c *Conn) SetMAC(index int, mac string) error {
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return err
	}
	if err := c.Send(rtnl.SetLink(index, 0).Bytes(unix.IFLA_ADDRESS, hw)); err != nil {
		return fmt.Errorf("set MAC %s: %w", mac, err)
	}
	return nil
}

// carrierWait is how long awaitUp waits. Before 6.9 the kernel looks at carriers once a
// second (net/core/link_watch.c), and at those of its own kinds of interfaces mostly at once.
const carrierWait = 5 * time.Second

// AwaitUp waits for the operational state up: only then does the bridge forward
// for the port. The kernel settles the state while it answers (6.9), or soon
// after, when its worker gets the interface lock.
func (c *Conn) AwaitUp(name string) error {
	end := time.Now().Add(carrierWait)
	for wait := 200 * time.Microsecond; time.Now().Before(end); wait = min(2*wait, 50*time.Millisecond) {
		d, err := c.LinkByName(name)
		if err != nil {
			return err
		}
		if d.Oper == rtnl.OperUp {
			return nil
		}
		time.Sleep(wait)
	}
	return fmt.Errorf("interface %s has no carrier after %s", name, carrierWait)
}

// HashMAC is a locally administered unicast MAC made of a name.
func HashMAC(kind, name string) net.HardwareAddr {
	mac := net.HardwareAddr(attach.Digest([]byte(kind + "\x00" + name))[:6])
	mac[0] = mac[0]&^1 | 2
	return mac
}

// SharedAlias marks what Berth made and several attachments use.
const SharedAlias = "berth"
