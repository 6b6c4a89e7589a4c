package link

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ErrWrongKind: an interface of that name exists and is something else.
var ErrWrongKind = errors.New("exists and is not a bridge")

// Bridge is the step that ensures the network's bridge. It is shared: Del leaves
// it.
type Bridge struct {
	Name string `json:"name"`
	// MTU in bytes of a bridge that has to be made; 0 takes that of the default
	// route's device.
	MTU int `json:"mtu,omitempty"`
	// Gateway puts the gateway of each of the attachment's addresses on the bridge
	// and makes the host forward.
	Gateway bool `json:"gateway,omitempty"`
	// MoreAddresses leaves the bridge the addresses that it has beside the gateway's:
	// it is that of several subnets.
	MoreAddresses bool `json:"moreAddresses,omitempty"`
	// ForceAddress replaces an address that the bridge already has, instead of
	// refusing.
	ForceAddress bool `json:"forceAddress,omitempty"`
	Promisc      bool `json:"promisc,omitempty"`
	// VLANs has the bridge filter VLANs (kernel option BRIDGE_VLAN_FILTERING).
	VLANs bool `json:"vlans,omitempty"`
	// GatewayVLAN, if not 0, puts the gateway on an interface NAME.VLAN in that
	// VLAN instead of on the bridge itself.
	GatewayVLAN  int  `json:"gatewayVLAN,omitempty"`
	KeepDefaults bool `json:"keepDefaultVLAN,omitempty"`
}

// Kind implements [attach.Step].
func (b *Bridge) Kind() string { return "bridge" }

// Add makes the bridge if there is none and brings it to what the step says.
// [ErrWrongKind] when the name is taken. It adds the bridge to the attachment's
// interfaces.
func (b *Bridge) Add(_ context.Context, a *attach.Adding) error {
	c, err := dial()
	if err != nil {
		return err
	}
	defer c.close()
	if d := b.ready(c, a); d != nil {
		a.Interfaces = append(a.Interfaces, attach.Interface{Name: d.name, MAC: d.mac.String(), MTU: d.mtu, Index: d.index})
		return nil
	}
	d, err := b.ensure(c)
	if err != nil {
		return fmt.Errorf("bridge %s: %w", b.Name, err)
	}
	a.Interfaces = append(a.Interfaces, attach.Interface{Name: d.name, MAC: d.mac.String(), MTU: d.mtu, Index: d.index})
	if !b.Gateway && len(a.Ports) == 0 {
		return nil
	}
	if b.Gateway && b.GatewayVLAN != 0 {
		if d, err = b.ensureVLANInterface(c, d); err != nil {
			return fmt.Errorf("bridge %s: %w", b.Name, err)
		}
		defer func() { // the last one of the result, as the reference has it
			a.Interfaces = append(a.Interfaces, attach.Interface{Name: d.name, MAC: d.mac.String(), MTU: d.mtu, Index: d.index})
		}()
	}
	if err := b.route(c, d, a.Attachment); err != nil {
		return fmt.Errorf("interface %s: %w", d.name, err)
	}
	return nil
}

// ready returns the bridge of a network that was made before, if it is still as Add
// would make it; else nil. It takes nothing but questions that wait for nobody.
func (b *Bridge) ready(c *conn, a *attach.Adding) *device {
	if !a.NetworkKnown || b.VLANs || b.GatewayVLAN != 0 {
		return nil
	}
	d, err := c.glance(b.Name)
	if err != nil || d.flags&unix.IFF_UP == 0 || b.Promisc && d.flags&unix.IFF_PROMISC == 0 {
		return nil
	}
	is := func(value string, path ...string) bool {
		have, err := readSysctl(sysctl(path...))
		return err == nil && (have == value || have == "")
	}
	if !is("0", "ipv6", "conf", b.Name, "accept_ra") {
		return nil
	}
	for _, addr := range a.Addresses {
		v4 := addr.Prefix.Addr().Is4()
		if b.Gateway && addr.Gateway.IsValid() {
			if there, err := isLocal(addr.Gateway); err != nil || !there {
				return nil
			}
		}
		if !b.Gateway && len(a.Ports) == 0 {
			continue
		}
		if v4 && !is("1", "ipv4", "ip_forward") || !v4 && !is("1", "ipv6", "conf", "all", "forwarding") ||
			v4 && len(a.Ports) > 0 && !is("1", "ipv4", "conf", b.Name, "route_localnet") {
			return nil
		}
	}
	return d
}

// Del leaves the bridge, which other attachments use.
func (b *Bridge) Del(context.Context, *attach.Attachment) error { return nil }

// Check tells whether the bridge is up, with the gateway's addresses on it, and
// the host forwards.
func (b *Bridge) Check(_ context.Context, a *attach.Attachment) error {
	c, err := dial()
	if err != nil {
		return err
	}
	defer c.close()
	d, err := c.byName(b.Name)
	if err != nil {
		return err
	}
	if d.kind != "bridge" {
		return fmt.Errorf("bridge %s: %w", b.Name, ErrWrongKind)
	}
	if d.flags&unix.IFF_UP == 0 {
		return fmt.Errorf("bridge %s is down", b.Name)
	}
	if !b.Gateway {
		return nil
	}
	if b.GatewayVLAN != 0 {
		if d, err = c.byName(b.vlanInterface()); err != nil {
			return err
		}
	}
	have, err := c.addresses(d.index)
	if err != nil {
		return err
	}
	for _, gw := range gateways(a) {
		if !slices.Contains(have, gw) {
			return fmt.Errorf("bridge %s lacks its gateway address %s", d.name, gw)
		}
		path := sysctl("ipv4", "ip_forward")
		if gw.Addr().Is6() {
			path = sysctl("ipv6", "conf", "all", "forwarding")
		}
		if on, err := readSysctl(path); err != nil || on != "1" {
			return errors.Join(err, fmt.Errorf("the host does not forward: %s is %q", path, on))
		}
	}
	return nil
}

// ensure returns the bridge, made or found, up and as the step says.
func (b *Bridge) ensure(c *conn) (*device, error) {
	d, err := c.byName(b.Name)
	if isErrno(err, unix.ENODEV) {
		return b.create(c)
	}
	if err != nil {
		return nil, err
	}
	if d.kind != "bridge" {
		return nil, fmt.Errorf("%w (it is %s)", ErrWrongKind, kindOf(d))
	}
	// No router advertisement of a container may change the host's routes
	// (CVE-2020-10749).
	if _, err := setSysctl(sysctl("ipv6", "conf", b.Name, "accept_ra"), "0"); err != nil {
		return nil, err
	}
	if d.flags&unix.IFF_UP == 0 { // as whoever made it left it, perhaps half-way
		if err := b.finish(c, d); err != nil {
			return nil, err
		}
	}
	if b.Promisc && d.flags&unix.IFF_PROMISC == 0 {
		if _, err := c.do(setLink(d.index, unix.IFF_PROMISC)); err != nil {
			return nil, fmt.Errorf("set promiscuous: %w", err)
		}
	}
	if b.VLANs && !d.vlans {
		if err := b.filterVLANs(c, d); err != nil {
			return nil, err
		}
	}
	return c.byName(b.Name)
}

func kindOf(d *device) string {
	if d.kind == "" {
		return "a device of the machine"
	}
	return "a " + d.kind
}

// create makes the bridge right at birth. Its MAC is set, so that neither a port
// nor udev changes it. STP is off, as the kernel has it. It is down until [finish]
// is done with it.
func (b *Bridge) create(c *conn) (*device, error) {
	mtu, err := b.wantedMTU(c)
	if err != nil {
		return nil, err
	}
	attrs := []*nl.RtAttr{nl.NewRtAttr(unix.IFLA_ADDRESS, randomMAC())}
	if mtu != 0 {
		attrs = append(attrs, nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(mtu))))
	}
	_, err = c.do(newLink(b.Name, "bridge", 0, nil, attrs...))
	if err != nil && !isErrno(err, unix.EEXIST) { // EEXIST: another ADD was faster
		return nil, fmt.Errorf("add: %w", err)
	}
	return b.ensure(c)
}

// finish sets what a bridge cannot be made with, and last has it up: whoever finds
// it down finishes it, so that neither a kill nor another ADD at the same time
// leaves it half made.
//
// The MTU given at creation is lost when the first port joins. The kernel keeps one
// that was changed, so it is changed and changed back.
func (b *Bridge) finish(c *conn, d *device) error {
	mtu, err := b.wantedMTU(c)
	if err != nil {
		return err
	}
	if mtu == 0 {
		mtu = d.mtu
	}
	other := mtu - 1 // never more than the ports may have
	if mtu <= 1280 {
		other = mtu + 1 // with less than 1280 the kernel takes IPv6 off
	}
	// Nobody else has the bridge's link-local address; while it waited for duplicate
	// address detection, IPv6 would not be forwarded.
	if _, err := setSysctl(sysctl("ipv6", "conf", b.Name, "accept_dad"), "0"); err != nil {
		return err
	}
	if _, err := c.do(setMTU(d.index, other), setMTU(d.index, mtu), setLink(d.index, unix.IFF_UP)); err != nil {
		return fmt.Errorf("set MTU %d and up: %w", mtu, err)
	}
	return nil
}

// wantedMTU is the configured one, or that of the default route's device; 0 when
// there is none.
func (b *Bridge) wantedMTU(c *conn) (int, error) {
	if b.MTU != 0 {
		return b.MTU, nil
	}
	uplink, err := c.defaultDevice()
	if err != nil {
		return 0, fmt.Errorf("find the default route's MTU: %w", err)
	}
	if uplink == nil {
		return 0, nil
	}
	return uplink.mtu, nil
}

func setMTU(index, mtu int) *nl.NetlinkRequest {
	return setLink(index, 0, nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(mtu))))
}

// randomMAC is a locally administered unicast address (IEEE 802, 48 bits).
func randomMAC() net.HardwareAddr {
	r := rand.Uint64()
	return net.HardwareAddr{byte(r)&^1 | 2, byte(r >> 8), byte(r >> 16), byte(r >> 24), byte(r >> 32), byte(r >> 40)}
}

// route puts the gateway's addresses on the device and lets the host forward.
// What is there already costs one answer, EEXIST.
func (b *Bridge) route(c *conn, d *device, a *attach.Attachment) error {
	var v4, v6 bool
	for _, addr := range a.Addresses {
		v4 = v4 || addr.Prefix.Addr().Is4()
		v6 = v6 || addr.Prefix.Addr().Is6()
	}
	if v4 {
		if err := forward4(); err != nil {
			return err
		}
	}
	if v6 {
		if _, err := setSysctl(sysctl("ipv6", "conf", d.name, "disable_ipv6"), "0"); err != nil {
			return err
		}
		if err := c.forward6(); err != nil {
			return err
		}
	}
	if len(a.Ports) > 0 && v4 {
		// For 127.0.0.1:port of the host; the firewall keeps others from it.
		if _, err := setSysctl(sysctl("ipv4", "conf", d.name, "route_localnet"), "1"); err != nil {
			return err
		}
	}
	if !b.Gateway {
		return nil
	}
	var added []netip.Prefix
	for _, gw := range gateways(a) {
		_, err := c.do(newAddress(d.index, gw, false))
		if err != nil && !isErrno(err, unix.EEXIST) {
			return fmt.Errorf("add gateway address %s: %w", gw, err)
		}
		if err == nil {
			added = append(added, gw)
		}
	}
	if len(added) == 0 || b.MoreAddresses {
		return nil
	}
	return b.replaceAddresses(c, d, gateways(a), added)
}

// replaceAddresses settles with the addresses that the device had before the
// gateway's were added to it: another IPv4 address, or one of an overlapping IPv6
// subnet, goes with forceAddress and is an error without.
func (b *Bridge) replaceAddresses(c *conn, d *device, gws, added []netip.Prefix) error {
	have, err := c.addresses(d.index)
	if err != nil {
		return err
	}
	for _, old := range have {
		if slices.Contains(gws, old) {
			continue
		}
		clash := slices.IndexFunc(gws, func(gw netip.Prefix) bool {
			return gw.Addr().Is4() == old.Addr().Is4() && (gw.Addr().Is4() || gw.Overlaps(old))
		})
		if clash < 0 {
			continue
		}
		if !b.ForceAddress {
			for _, gw := range added { // leave it as it was
				_, _ = c.do(deleteAddress(d.index, gw))
			}
			return fmt.Errorf("has the address %s already, which is not the gateway %s; "+
				"forceAddress replaces it", old, gws[clash])
		}
		if _, err := c.do(deleteAddress(d.index, old)); err != nil && !isErrno(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("replace address %s: %w", old, err)
		}
	}
	return nil
}

// gateways returns the distinct gateway addresses with their subnets' lengths.
func gateways(a *attach.Attachment) []netip.Prefix {
	var gws []netip.Prefix
	for _, addr := range a.Addresses {
		gw := netip.PrefixFrom(addr.Gateway, addr.Prefix.Bits())
		if addr.Gateway.IsValid() && !slices.Contains(gws, gw) {
			gws = append(gws, gw)
		}
	}
	return gws
}
