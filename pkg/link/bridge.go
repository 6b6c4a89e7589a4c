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
	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/proc"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"golang.org/x/sys/unix"
)

// ErrWrongKind: an interface of that name exists and is something else.
var ErrWrongKind = errors.New("exists and is not a bridge")

// Bridge is the step that ensures the network's bridge. It is shared: Del leaves
// it.
type Bridge struct {
	Name string `json:"name"`
	// MTU in bytes of a bridge that has to be made. 0 takes that of the way out, and
	// follows it downwards.
	MTU int `json:"mtu,omitempty"`
	// FollowMTU has a bridge that is there follow MTU downwards.
	FollowMTU bool `json:"followMTU,omitempty"`
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

// Place implements [attach.Shared].
func (b *Bridge) Place() string { return "bridge " + b.Name }

// Join implements [attach.Shared].
func (b *Bridge) Join(attach.Shared) attach.Shared { return b }

// Add makes the bridge if there is none and brings it to what the step says.
// [ErrWrongKind] when the name is taken. It adds the bridge to the attachment's
// interfaces, and last that with the gateway of a VLAN, as the reference has it.
func (b *Bridge) Add(ctx context.Context, a *attach.Adding) error {
	c, err := dial()
	if err != nil {
		return err
	}
	defer c.close()
	found, fault := b.look(c, a.Attachment)
	if errors.Is(fault, errChanged) {
		if d, err := c.LinkByName(b.Name); err == nil && d.Alias != sharedAlias {
			fault = nil // its MAC and MTU are those of whoever made it
			if err := c.keepMAC(d); err != nil {
				return fmt.Errorf("bridge %s: %w", b.Name, err)
			}
		}
	}
	if fault != nil {
		if found, err = b.ensure(c, a.Attachment); err != nil {
			return fmt.Errorf("bridge %s: %w", b.Name, err)
		}
		if isErrno(fault, unix.ENODEV) {
			b.rejoin(ctx, c, a)
		}
	}
	for _, d := range found {
		a.Interfaces = append(a.Interfaces, attach.Interface{Name: d.Name, MAC: d.MAC.String(), MTU: d.MTU, Index: d.Index})
	}
	return nil
}

// rejoin gives a bridge that somebody deleted what the other attachments on record need
// of it, and their ports. One that cannot be repaired is for a reload.
func (b *Bridge) rejoin(ctx context.Context, c *conn, a *attach.Adding) {
	if a.All == nil {
		return
	}
	all, err := a.All(ctx)
	if err != nil {
		return // its own ADD goes on: it has a bridge
	}
	for _, other := range all {
		for _, s := range other.Steps {
			if v, ok := s.(*Veth); ok && v.Bridge == b.Name && !other.Deleting {
				if _, fault := b.look(c, other); fault != nil {
					_, _ = b.ensure(c, other)
				}
				_ = v.Repair(ctx, &attach.Adding{Attachment: other})
			}
		}
	}
}

// Del leaves the bridge, which other attachments use.
func (b *Bridge) Del(context.Context, *attach.Attachment) error { return nil }

// Check tells whether the bridge is as Add would make it.
func (b *Bridge) Check(_ context.Context, a *attach.Attachment) error {
	c, err := dial()
	if err != nil {
		return err
	}
	defer c.close()
	d, err := c.LinkByName(b.Name)
	if err != nil {
		return err
	}
	if d.Kind != "bridge" {
		return fmt.Errorf("bridge %s: %w", b.Name, ErrWrongKind)
	}
	if b.VLANs && !d.VLANs {
		return fmt.Errorf("bridge %s does not filter VLANs", b.Name)
	}
	_, fault := b.look(c, a)
	if errors.Is(fault, errChanged) && d.Alias != sharedAlias {
		return nil
	}
	return fault
}

// errChanged is about what only a bridge has that Berth made.
var errChanged = errors.New("is not as Berth made it")

// look returns the bridge, and behind it the interface with the gateway of a VLAN, and
// the first thing that is not as Add would make it. It asks what the kernel answers
// without its interface lock, so that an ADD can.
func (b *Bridge) look(c *conn, a *attach.Attachment) (found []*rtnl.Link, fault error) {
	d, err := c.Glance(b.Name)
	if err != nil {
		return nil, err
	}
	gateway := d
	found = []*rtnl.Link{d}
	if b.Gateway && b.GatewayVLAN != 0 {
		if gateway, err = c.Glance(b.vlanInterface()); err != nil {
			return nil, err
		}
		found = append(found, gateway)
	}
	for _, i := range found {
		if i.Flags&unix.IFF_UP == 0 {
			return found, fmt.Errorf("bridge %s is down", i.Name)
		}
	}
	if b.Promisc && d.Flags&unix.IFF_PROMISC == 0 {
		return found, fmt.Errorf("bridge %s is not promiscuous", b.Name)
	}
	for _, s := range b.settings(gateway.Name, a) {
		if have, err := proc.Read(s.path); err != nil || have != s.value && have != "" {
			return found, errors.Join(err, fmt.Errorf("%s is %q, want %s", s.path, have, s.value))
		}
	}
	if fault := b.lookOutward(c, d, gateway, a); fault != nil {
		return found, fault
	}
	if want := bridgeMAC(b.Name); !slices.Equal(d.MAC, want) {
		return found, fmt.Errorf("bridge %s has the MAC %s, and %w, with %s", b.Name, d.MAC, errChanged, want)
	}
	return found, nil
}

// lookOutward looks at the routes that the bridge has to have and at its MTU.
func (b *Bridge) lookOutward(c *conn, d, gateway *rtnl.Link, a *attach.Attachment) error {
	to := []netip.Addr{outside4, outside6}
	gws := gateways(a)
	if !b.Gateway {
		gws = nil
	}
	for _, gw := range gws {
		to = append(to, gw.Addr(), neighbourIn(gw))
	}
	found, err := c.RoutesTo(to...)
	if err != nil {
		return err
	}
	for i, gw := range gws {
		own, beside := found[2+2*i], found[3+2*i]
		there := own != nil && own.Type == unix.RTN_LOCAL && own.Index == gateway.Index
		if gw.Addr().Is6() { // whose route comes a moment after the address
			if there, err = c.HasAddress6(gateway.Index, gw.Addr()); err != nil {
				return err
			}
		}
		if !there {
			return fmt.Errorf("bridge %s lacks its gateway address %s", gateway.Name, gw)
		}
		if gw.IsSingleIP() || beside != nil && beside.Index == gateway.Index {
			continue
		}
		if there, err := c.connected(gateway.Index, gw); err != nil || !there { // else the host's own routing policy has another way
			return errors.Join(err, fmt.Errorf("the host has no route to %s by bridge %s", gw.Masked(), gateway.Name))
		}
	}
	mtu := b.MTU
	if mtu == 0 {
		if _, mtu, err = c.outOf(found[:2]); err != nil {
			return err
		}
	}
	if b.tooLarge(d, mtu) {
		return fmt.Errorf("bridge %s has MTU %d, more than the %d of the way out, and %w", b.Name, d.MTU, mtu, errChanged)
	}
	return nil
}

// setting is a value of /proc/sys.
type setting struct{ path, value string }

// settings are those of the bridge. on is the interface with the gateway.
func (b *Bridge) settings(on string, a *attach.Attachment) []setting {
	// No router advertisement of a container may change the host's routes
	// (CVE-2020-10749).
	all := []setting{{proc.Net("ipv6", "conf", b.Name, "accept_ra"), "0"}}
	if !b.Gateway && len(a.Ports) == 0 {
		return all
	}
	var v4, v6 bool
	for _, addr := range a.Addresses {
		v4 = v4 || addr.Prefix.Addr().Is4()
		v6 = v6 || addr.Prefix.Addr().Is6()
	}
	if v6 {
		all = append(all, setting{proc.Net("ipv6", "conf", on, "disable_ipv6"), "0"})
	}
	if v4 && len(a.Ports) > 0 {
		// For 127.0.0.1:port of the host; the firewall keeps others from it.
		all = append(all, setting{proc.Net("ipv4", "conf", on, "route_localnet"), "1"})
	}
	return all
}

// ensure makes the bridge, or brings one that is there to what the step says. It returns
// what [Bridge.look] does.
func (b *Bridge) ensure(c *conn, a *attach.Attachment) ([]*rtnl.Link, error) {
	d, err := b.ensureLink(c)
	if err != nil {
		return nil, err
	}
	found := []*rtnl.Link{d}
	gateway := d
	if b.Gateway && b.GatewayVLAN != 0 {
		if gateway, err = b.ensureVLANInterface(c, d); err != nil {
			return nil, err
		}
		found = append(found, gateway)
	}
	for _, s := range b.settings(gateway.Name, a) {
		if _, err := proc.Set(s.path, s.value); err != nil {
			return nil, err
		}
	}
	if !b.Gateway {
		return found, nil
	}
	return found, b.route(c, gateway, a)
}

// ensureLink returns the bridge, made or found, and up.
func (b *Bridge) ensureLink(c *conn) (*rtnl.Link, error) {
	d, err := c.LinkByName(b.Name)
	for tries := 0; isErrno(err, unix.ENODEV) && tries < 3; tries++ { // somebody may delete it meanwhile
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
	restore := c.keepMAC
	if d.Alias == sharedAlias {
		restore = func(d *rtnl.Link) error { return b.restore(c, d) }
	}
	if err := restore(d); err != nil {
		return nil, err
	}
	return c.LinkByName(b.Name)
}

// keepMAC pins the MAC of a bridge that somebody else made. One that nobody has set is
// that of the port with the lowest, and would change with the next port: the LAN's ARP
// caches and its DHCP server know the present one.
func (c *conn) keepMAC(d *rtnl.Link) error {
	if err := c.Send(rtnl.SetLink(d.Index, 0).Bytes(unix.IFLA_ADDRESS, d.MAC)); err != nil {
		return fmt.Errorf("keep MAC %s: %w", d.MAC, err)
	}
	return nil
}

// restore gives a bridge that Berth made its MAC again, and an MTU that fits the way
// out: never a larger one, which ports that are there could not take.
func (b *Bridge) restore(c *conn, d *rtnl.Link) error {
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
func (b *Bridge) create(c *conn) error {
	mtu, err := b.wantedMTU(c)
	if err != nil {
		return err
	}
	req := rtnl.NewLink(b.Name, "bridge", 0, nil).Bytes(unix.IFLA_ADDRESS, bridgeMAC(b.Name))
	if mtu != 0 {
		req.Uint32(unix.IFLA_MTU, uint32(mtu))
	}
	err = c.Send(req)
	if err != nil && !isErrno(err, unix.EEXIST) { // EEXIST: another ADD was faster
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
func (b *Bridge) finish(c *conn, d *rtnl.Link) error {
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
	if _, err := proc.Set(proc.Net("ipv6", "conf", b.Name, "accept_dad"), "0"); err != nil {
		return err
	}
	reqs := []*netlink.Request{setMTU(d.Index, other), setMTU(d.Index, mtu)}
	if slices.Equal(d.MAC, bridgeMAC(b.Name)) { // made by Berth: the alias says so, whatever becomes of the MAC
		reqs = append(reqs, rtnl.SetLink(d.Index, 0).Bytes(unix.IFLA_IFALIAS, []byte(sharedAlias)))
	}
	if err := c.Send(append(reqs, rtnl.SetLink(d.Index, unix.IFF_UP))...); err != nil {
		return fmt.Errorf("set MTU %d and up: %w", mtu, err)
	}
	return nil
}

// wantedMTU is the configured one, or that of the way out; 0 when there is none.
func (b *Bridge) wantedMTU(c *conn) (int, error) {
	if b.MTU != 0 {
		return b.MTU, nil
	}
	_, mtu, err := c.wayOut()
	if err != nil {
		return 0, fmt.Errorf("find the MTU of the way out: %w", err)
	}
	return mtu, nil
}

// tooLarge tells whether the MTU of a bridge that is there has to become this one.
func (b *Bridge) tooLarge(d *rtnl.Link, mtu int) bool {
	follows := b.FollowMTU || b.MTU == 0 && b.Gateway
	return follows && mtu != 0 && mtu < d.MTU
}

func setMTU(index, mtu int) *netlink.Request {
	return rtnl.SetLink(index, 0).Uint32(unix.IFLA_MTU, uint32(mtu))
}

// randomMAC is a locally administered unicast address (IEEE 802, 48 bits).
func randomMAC() net.HardwareAddr {
	r := rand.Uint64()
	return net.HardwareAddr{byte(r)&^1 | 2, byte(r >> 8), byte(r >> 16), byte(r >> 24), byte(r >> 32), byte(r >> 40)}
}

// route puts the gateway's addresses on the device, with the routes to their subnets.
// What is there already costs one answer, EEXIST.
func (b *Bridge) route(c *conn, d *rtnl.Link, a *attach.Attachment) error {
	var added []netip.Prefix
	for _, gw := range gateways(a) {
		err := c.Send(newAddress(d.Index, gw, false))
		if err != nil && !isErrno(err, unix.EEXIST) {
			return fmt.Errorf("interface %s: add gateway address %s: %w", d.Name, gw, err)
		}
		if err == nil {
			added = append(added, gw) // and the kernel its route
			continue
		}
		if gw.IsSingleIP() {
			continue
		}
		if err := c.Send(connectedRoute(d.Index, gw)); err != nil && !isErrno(err, unix.EEXIST) {
			return fmt.Errorf("interface %s: add route to %s: %w", d.Name, gw.Masked(), err)
		}
	}
	if len(added) == 0 || b.MoreAddresses {
		return nil
	}
	if err := b.replaceAddresses(c, d, gateways(a), added); err != nil {
		return fmt.Errorf("interface %s: %w", d.Name, err)
	}
	return nil
}

// replaceAddresses settles with the addresses that the device had before the
// gateway's were added to it: another IPv4 address, or one of an overlapping IPv6
// subnet, goes with forceAddress and is an error without.
func (b *Bridge) replaceAddresses(c *conn, d *rtnl.Link, gws, added []netip.Prefix) error {
	have, err := c.addresses(d.Index)
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
				_ = c.Send(deleteAddress(d.Index, gw))
			}
			return fmt.Errorf("has the address %s already, which is not the gateway %s; "+
				"forceAddress replaces it", old, gws[clash])
		}
		if err := c.Send(deleteAddress(d.Index, old)); err != nil && !isErrno(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("replace address %s: %w", old, err)
		}
	}
	return nil
}

// bridgeMAC is the MAC of a bridge that Berth makes. It follows from the name and from
// this run of the machine (boot_id, random(4)), so that a bridge that somebody deleted
// comes back with the MAC that its containers know.
func bridgeMAC(name string) net.HardwareAddr {
	const path = "/proc/sys/kernel/random/boot_id"
	boot, _ := proc.Read(path) // without it the name alone
	return hashMAC("bridge", boot+name)
}

// neighbourIn is an address of the gateway's subnet other than the gateway's.
func neighbourIn(gw netip.Prefix) netip.Addr {
	if next := gw.Addr().Next(); gw.Contains(next) {
		return next
	}
	return gw.Addr().Prev()
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
