package link

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
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
	// NoIPv6 keeps a bridge that Berth made from every IPv6 address, also a link-local one.
	NoIPv6 bool `json:"noIPv6,omitempty"`
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
	c, err := iface.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	found, foreign, err := b.ready(ctx, c, a)
	if err == nil {
		err = b.besideRouted(ctx, c, a)
	}
	for _, d := range found {
		a.Interfaces = append(a.Interfaces, attach.Interface{Name: d.Name, MAC: d.MAC.String(), MTU: d.MTU, Index: d.Index, Foreign: foreign})
	}
	return err
}

// ready brings the bridge to what the step says, and returns what [Bridge.look] does, and
// whether somebody else made the bridge: one of Berth's has its MAC by now.
func (b *Bridge) ready(ctx context.Context, c *iface.Conn, a *attach.Adding) (found []*rtnl.Link, foreign bool, err error) {
	found, fault := b.look(c, a.Attachment)
	if fault == nil {
		return found, false, nil
	}
	if errors.Is(fault, errChanged) {
		d, err := c.LinkByName(b.Name)
		if err == nil && d.Kind != "bridge" {
			return nil, false, fmt.Errorf("bridge %s: %w (it is %s)", b.Name, ErrWrongKind, kindOf(d))
		}
		if err == nil && d.Alias != iface.SharedAlias {
			fault = nil // its MAC and MTU are those of whoever made it
			if err := b.keepMAC(c, d); err != nil {
				return nil, false, fmt.Errorf("bridge %s: %w", b.Name, err)
			}
			found[0].MAC = d.MAC
		}
	}
	if fault != nil {
		if found, err = b.ensure(c, a.Attachment, a.Warn); err != nil {
			return nil, false, fmt.Errorf("bridge %s: %w", b.Name, err)
		}
		if iface.IsErrno(fault, unix.ENODEV) {
			b.rejoin(ctx, c, a)
		}
	}
	return found, !slices.Equal(found[0].MAC, bridgeMAC(b.Name)), nil
}

// rejoin gives a bridge that somebody deleted what the other attachments on record need
// of it, and their ports. One that cannot be repaired is for a reload.
func (b *Bridge) rejoin(ctx context.Context, c *iface.Conn, a *attach.Adding) {
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
					_, _ = b.ensure(c, other, a.Warn)
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
	c, err := iface.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
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
	if errors.Is(fault, errChanged) && d.Alias != iface.SharedAlias {
		fault = nil
	}
	if fault == nil {
		fault = b.lookCloser(c, d, a, false)
	}
	return fault
}

// ensure makes the bridge, or brings one that is there to what the step says. It returns
// what [Bridge.look] does.
func (b *Bridge) ensure(c *iface.Conn, a *attach.Attachment, warn func(string, ...any)) ([]*rtnl.Link, error) {
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
		if b.leaves(c, d, s) {
			continue
		}
		if err := s.set(c, gateway.Index, warn); err != nil {
			return nil, err
		}
	}
	if !b.Gateway {
		return found, nil
	}
	return found, b.route(c, gateway, a)
}
