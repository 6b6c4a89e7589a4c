// Package macvlan makes the interfaces of containers that are on the network of an interface
// of the host, with MACs of their own ([Interface]), and a macvlan for the host to talk to
// them ([HostShim]).
package macvlan

import (
	"context"
	"fmt"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"github.com/berth-cni/berth/pkg/link/parent"
	"golang.org/x/sys/unix"
)

// kind is the kernel's name of it.
const kind = "macvlan"

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

// ModeName is the inverse of [ModeNumber].
func ModeName(mode uint32) string {
	for _, name := range []string{"bridge", "private", "vepa", "passthru"} {
		if ModeNumber(name) == mode {
			return name
		}
	}
	return ""
}

// Kind implements [attach.Step].
func (m *Interface) Kind() string { return kind }

func (m *Interface) child() *parent.Child {
	return &parent.Child{Expectable: &m.Expectable, Kind: kind, Master: m.Master, MTU: m.MTU, Inside: m.Inside, DAD: m.DAD, AcceptRA: m.AcceptRA,
		OwnMAC: true, Data: m.data, InMode: m.inMode, Refused: m.refused}
}

func (m *Interface) data(data *netlink.Request) {
	data.Uint32(unix.IFLA_MACVLAN_MODE, ModeNumber(m.Mode))
	if m.QueueLen != 0 {
		data.Uint32(unix.IFLA_MACVLAN_BC_QUEUE_LEN, m.QueueLen)
	}
}

func (m *Interface) inMode(d *rtnl.Link) error {
	if d.Mode != ModeNumber(m.Mode) {
		return fmt.Errorf("mode %s", m.Mode)
	}
	return nil
}

func (m *Interface) refused(*rtnl.Link) string {
	if m.Mode == "passthru" {
		return "passthru wants an Ethernet interface without other children"
	}
	return "it is not an Ethernet interface, or has a child in mode passthru"
}

// Add is [parent.Child.Add].
func (m *Interface) Add(_ context.Context, a *attach.Adding) error { return m.child().Add(a) }

// Del is [parent.Del].
func (m *Interface) Del(_ context.Context, a *attach.Attachment) error { return parent.Del(kind, a) }

// Check is [parent.Child.Check].
func (m *Interface) Check(_ context.Context, a *attach.Attachment) error { return m.child().Check(a) }

// Address configures the interface with addresses that came after it.
func (m *Interface) Address(_ context.Context, a *attach.Adding) error { return m.child().Address(a) }
