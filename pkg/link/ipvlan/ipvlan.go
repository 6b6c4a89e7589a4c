// Package ipvlan makes the interfaces of containers that are on the network of an interface
// of the host, with addresses of their own and that one's MAC (kernel 4.16, for the flags;
// Documentation/networking/ipvlan.rst).
package ipvlan

import (
	"context"
	"fmt"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"github.com/berth-cni/berth/pkg/link/parent"
)

// kind is the kernel's name of it.
const kind = "ipvlan"

// Supported tells whether the kernel has ipvlans: [parent.ErrNoKind] when it has not.
func Supported() error { return parent.Supported(kind) }

// Interface is the step that makes the container's interface: a child of a host's
// interface, with addresses of its own and the master's MAC.
//
// Mode and flag are the master's: the kernel gives those of its youngest child to all.
type Interface struct {
	iface.Expectable

	Master string `json:"master"`
	// Mode says who decides where packets go: l2, the container, as a machine on the
	// master's network; l3, the host's routes through the master; l3s, the same, and
	// the host's netfilter sees them (CONFIG_IPVLAN_L3S).
	Mode string `json:"mode"`
	// Flag says who the child can talk to: bridge, the master's other children, too;
	// private, none of them; vepa, them by way of the switch.
	Flag string `json:"flag"`
	MTU  int    `json:"mtu,omitempty"` // bytes; 0: the master's
	// Inside says that the master is in the container's namespace.
	Inside bool `json:"inside,omitempty"`
	DAD    bool `json:"dad,omitempty"` // IPv6 duplicate address detection
	// AcceptRA has the container take router advertisements.
	AcceptRA bool `json:"acceptRA,omitempty"`
}

// Modes and flags in the order of their numbers, IPVLAN_MODE_* and IPVLAN_F_* of
// linux/if_link.h.
var modes, flags = []string{"l2", "l3", "l3s"}, []string{"bridge", "private", "vepa"}

// IsMode tells whether there is a mode of that name.
func IsMode(name string) bool { return slices.Contains(modes, name) }

// IsFlag tells whether there is a flag of that name.
func IsFlag(name string) bool { return slices.Contains(flags, name) }

// Routes tells whether it is the host that routes in a mode: packets have no way to a
// neighbour of the container's choice then, and none are asked for by ARP.
func Routes(mode string) bool { return mode == "l3" || mode == "l3s" }

// Words are the mode and the flag of an interface that the kernel has.
func Words(d *rtnl.Link) (mode, flag string) {
	if int(d.Mode) < len(modes) {
		mode = modes[d.Mode]
	}
	if int(d.Flag) < len(flags) {
		flag = flags[d.Flag]
	}
	return mode, flag
}

// Kind implements [attach.Step].
func (v *Interface) Kind() string { return kind }

func (v *Interface) child() *parent.Child {
	return &parent.Child{Expectable: &v.Expectable, Kind: kind, Master: v.Master, MTU: v.MTU, Inside: v.Inside, DAD: v.DAD, AcceptRA: v.AcceptRA,
		NoOperState: true, Data: v.data, InMode: v.inMode, Refused: func(*rtnl.Link) string { return "it is not an Ethernet interface" }}
}

func (v *Interface) data(data *netlink.Request) {
	data.Uint16(rtnl.IPVlanMode, uint16(slices.Index(modes, v.Mode)))
	data.Uint16(rtnl.IPVlanFlags, uint16(slices.Index(flags, v.Flag)))
}

func (v *Interface) inMode(d *rtnl.Link) error {
	switch mode, flag := Words(d); {
	case mode != v.Mode:
		return fmt.Errorf("mode %s, but %s", v.Mode, mode)
	case flag != v.Flag:
		return fmt.Errorf("mode %s with flag %s, but %s", v.Mode, v.Flag, flag)
	}
	return nil
}

// noL3S is ENOTSUPP, the kernel's word for a mode that it was built without; no number of
// POSIX.
const noL3S = 524

// Add is [parent.Child.Add].
func (v *Interface) Add(_ context.Context, a *attach.Adding) error {
	err := v.child().Add(a)
	if iface.IsErrno(err, noL3S) {
		err = fmt.Errorf("%w mode l3s (CONFIG_IPVLAN_L3S): %w", parent.ErrNoKind, err)
	}
	return err
}

// Del is [parent.Del].
func (v *Interface) Del(_ context.Context, a *attach.Attachment) error { return parent.Del(kind, a) }

// Check is [parent.Child.Check].
func (v *Interface) Check(_ context.Context, a *attach.Attachment) error { return v.child().Check(a) }

// Address configures the interface with addresses that came after it.
func (v *Interface) Address(_ context.Context, a *attach.Adding) error { return v.child().Address(a) }
