package link

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"

	"github.com/berth-cni/berth/pkg/internal/proc"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"golang.org/x/sys/unix"
)

// ensureLink returns the bridge, made or found, and up.
func (b *Bridge) ensureLink(c *iface.Conn) (*rtnl.Link, error) {
	d, err := c.LinkByName(b.Name)
	for tries := 0; iface.IsErrno(err, unix.ENODEV) && tries < 3; tries++ { // somebody may delete it meanwhile
		if err := b.create(c); err != nil {
			return nil, err
		}
		d, err = c.LinkByName(b.Name)
	}
	if err != nil {
		return nil, err
	}
	if d.Kind != "bridge" {
		return nil, fmt.Errorf("%w (it is %s)", ErrWrongKind, kindOf(d))
	}
	if d.Flags&unix.IFF_UP == 0 { // as whoever made it left it, perhaps half-way
		if err := b.finish(c, d); err != nil {
			return nil, err
		}
	}
	if b.Promisc && d.Flags&unix.IFF_PROMISC == 0 {
		if err := c.Send(rtnl.SetLink(d.Index, unix.IFF_PROMISC)); err != nil {
			return nil, fmt.Errorf("set promiscuous: %w", err)
		}
	}
	if b.VLANs && !d.VLANs {
		if err := b.filterVLANs(c, d); err != nil {
			return nil, err
		}
	}
	restore := func(d *rtnl.Link) error { return b.keepMAC(c, d) }
	if d.Alias == iface.SharedAlias {
		restore = func(d *rtnl.Link) error { return b.restore(c, d) }
	}
	if err := restore(d); err != nil {
		return nil, err
	}
	return c.LinkByName(b.Name)
}

// noMAC is what a bridge has whose MAC nobody has set, once its last port has left.
const noMAC = "00:00:00:00:00:00"

// keepMAC pins the MAC of a bridge that somebody else made. One that nobody has set is
// that of the port with the lowest, and would change with the next port: the LAN's ARP
// caches and its DHCP server know the present one, and so do the containers of a gateway.
// A gateway that has none gets one. Without a gateway, one that is no network card's own is
// left to follow the card that may come: a container's port has a higher one.
func (b *Bridge) keepMAC(c *iface.Conn, d *rtnl.Link) error {
	set, _ := proc.Read("/sys/class/net/" + d.Name + "/addr_assign_type")
	pinned := set == "3" // NET_ADDR_SET of linux/netdevice.h
	switch none := d.MAC.String() == noMAC; {
	case none && (b.Gateway || pinned):
		d.MAC = bridgeMAC(d.Name)
	case none, pinned, !b.Gateway && d.MAC[0]&2 != 0: // IEEE 802: locally administered
		return nil
	}
	if err := c.Send(rtnl.SetLink(d.Index, 0).Bytes(unix.IFLA_ADDRESS, d.MAC)); err != nil {
		return fmt.Errorf("keep MAC %s: %w", d.MAC, err)
	}
	return nil
}

// restore gives a bridge that Berth made its MAC again, and an MTU that fits the way
// out: never a larger one, which ports that are there could not take.
func (b *Bridge) restore(c *iface.Conn, d *rtnl.Link) error {
	if mac := bridgeMAC(b.Name); !slices.Equal(d.MAC, mac) {
		if err := c.Send(rtnl.SetLink(d.Index, 0).Bytes(unix.IFLA_ADDRESS, mac)); err != nil {
			return fmt.Errorf("set MAC %s: %w", mac, err)
		}
	}
	mtu, err := b.wantedMTU(c)
	if err != nil || !b.tooLarge(d, mtu) {
		return err
	}
	if err := c.Send(setMTU(d.Index, mtu)); err != nil {
		return fmt.Errorf("set MTU %d: %w", mtu, err)
	}
	return nil
}

func kindOf(d *rtnl.Link) string {
	if d.Kind == "" {
		return "a device of the machine"
	}
	return "a " + d.Kind
}

// create makes the bridge right at birth. Its MAC is set, so that neither a port
// nor udev changes it. STP is off, as the kernel has it. It is down until
// [Bridge.finish] is done with it.
func (b *Bridge) create(c *iface.Conn) error {
	mtu, err := b.wantedMTU(c)
	if err != nil {
		return err
	}
	req := rtnl.NewLink(b.Name, "bridge", 0, nil).Bytes(unix.IFLA_ADDRESS, bridgeMAC(b.Name))
	if mtu != 0 {
		req.Uint32(unix.IFLA_MTU, uint32(mtu))
	}
	err = c.Send(req)
	if err != nil && !iface.IsErrno(err, unix.EEXIST) { // EEXIST: another ADD was faster
		return fmt.Errorf("add: %w", err)
	}
	return nil
}

// finish sets what a bridge cannot be made with, and last has it up: whoever finds
// it down finishes it, so that neither a kill nor another ADD at the same time
// leaves it half made.
//
// The MTU given at creation is lost when the first port joins. The kernel keeps one
// that was changed, so it is changed and changed back.
func (b *Bridge) finish(c *iface.Conn, d *rtnl.Link) error {
	if !slices.Equal(d.MAC, bridgeMAC(b.Name)) { // somebody else's, who is to say what it is like
		if err := c.Send(rtnl.SetLink(d.Index, unix.IFF_UP)); err != nil {
			return fmt.Errorf("set up: %w", err)
		}
		return nil
	}
	mtu, err := b.wantedMTU(c)
	if err != nil {
		return err
	}
	if mtu == 0 {
		mtu = d.MTU
	}
	other := mtu - 1 // never more than the ports may have
	if mtu <= MinMTU6 {
		other = mtu + 1 // with less the kernel takes IPv6 off
	}
	// Nobody else has the bridge's link-local address; while it waited for duplicate
	// address detection, IPv6 would not be forwarded.
	if _, err := proc.Protect(proc.Net("ipv6", "conf", b.Name, "accept_dad"), "0"); err != nil {
		return err
	}
	// The alias says that Berth made it, whatever becomes of the MAC.
	alias := rtnl.SetLink(d.Index, 0).Bytes(unix.IFLA_IFALIAS, []byte(iface.SharedAlias))
	if err := c.Send(setMTU(d.Index, other), setMTU(d.Index, mtu), alias, rtnl.SetLink(d.Index, unix.IFF_UP)); err != nil {
		return fmt.Errorf("set MTU %d and up: %w", mtu, err)
	}
	return nil
}

// randomMAC is a locally administered unicast address (IEEE 802, 48 bits).
func randomMAC() net.HardwareAddr {
	r := rand.Uint64()
	return net.HardwareAddr{byte(r)&^1 | 2, byte(r >> 8), byte(r >> 16), byte(r >> 24), byte(r >> 32), byte(r >> 40)}
}

// bridgeMAC is the MAC of a bridge that Berth makes. It follows from the name and from
// this run of the machine (boot_id, random(4)), so that a bridge that somebody deleted
// comes back with the MAC that its containers know.
func bridgeMAC(name string) net.HardwareAddr {
	const path = "/proc/sys/kernel/random/boot_id"
	boot, _ := proc.Read(path) // without it the name alone
	return iface.HashMAC("bridge", boot+name)
}
