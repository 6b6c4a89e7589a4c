package graph

import (
	"net/netip"

	"github.com/berth-cni/berth/pkg/attach"
)

// Kernel is what the picture needs to know of the kernel, in the host's namespace.
type Kernel interface {
	// Device returns an interface of the host; false when there is none.
	Device(name string) (Device, bool)
	// Uplink returns that of the default route; false when there is none.
	Uplink() (Device, bool)
	// Ports are the interfaces that are ports of a bridge.
	Ports(bridge string) []Device
	// Netns says what is wrong with the namespace of an attachment; empty: nothing.
	Netns(*attach.Attachment) string
}

// Device is an interface of the host.
type Device struct {
	Name      string
	Up        bool
	MTU       int            // bytes
	Addresses []netip.Prefix // without link-local ones
	Gateways  []netip.Addr   // of default routes by it
}

// Overlay is a network that spans hosts, as this one knows it.
type Overlay struct {
	Name     string
	VNI      int
	Port     int // UDP
	Device   string
	Bridge   string
	Internal bool
	Blocks   []netip.Prefix // of this host
	Underlay string         // the device that its packets go by; empty: not known
	Problem  string
	Peers    []Remote
}

// Remote is another host of an overlay network.
type Remote struct {
	Name    string
	Address netip.Addr // in the underlay
	Blocks  []netip.Prefix
	// Reach says whether it is reached; empty when nobody has tried. Bad says that it
	// is not.
	Reach string
	Bad   bool
}

// Input is what a picture is made from.
type Input struct {
	Host     string
	Records  []*attach.Attachment
	Networks []attach.Network // that the host remembers
	Overlays []Overlay
	// Called returns what people call the container of a record, and its other names.
	Called func(*attach.Attachment) (name string, others []string)
	Kernel Kernel
}
