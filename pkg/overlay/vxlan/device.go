package vxlan

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/link"
	"golang.org/x/sys/unix"
)

// Device is the VXLAN device (RFC 7348) of a network on this host.
//
// Learning is off, the device has no group and no default VTEP: a frame goes to the
// peer that has its MAC, or nowhere. Outer UDP has no checksum over IPv4 (RFC 7348,
// section 5), whose header has one, and devices are known that spoil it; over IPv6,
// whose header has none, it is sent and asked for, as is the kernel's default (RFC
// 6935 lets tunnels leave it out, at the cost of frames that a flipped bit sends to
// the wrong host).
type Device struct {
	Name  string
	VNI   uint32           // 1 to 2^24-1
	Port  uint16           // UDP
	MTU   int              // bytes of an IP packet inside
	MAC   net.HardwareAddr // set at birth: udev gives another to a device without
	Local netip.Addr       // underlay address, that packets come from

	// Underlay is the index of the device that packets leave by, and with which ours
	// is deleted; 0 leaves both to the routes, which is better wherever they are right.
	Underlay int

	// Group is the interface group that the device is in (IFLA_GROUP), as the interfaces of
	// this host's containers are where they are on no bridge; 0: any.
	Group uint32

	Addresses []netip.Addr   // the host's own in the network, at most one of a family
	Subnets   []netip.Prefix // the whole network: what no peer has in it is unreachable

	// Tunnel is what carries the network in VXLAN's place; nil: VXLAN does. VNI, Port
	// and MAC are VXLAN's alone.
	Tunnel Tunnel

	// NoChecksumOffload has the kernel compute inner checksums itself, where the
	// underlay spoils them. To take it back has effect only in the process that said
	// it: an administrator's `ethtool -K` is left alone.
	NoChecksumOffload bool
}

// validate reports all that is wrong.
func (d *Device) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if d.Name == "" || len(d.Name) >= unix.IFNAMSIZ {
		bad("name %q is not 1 to %d bytes", d.Name, unix.IFNAMSIZ-1)
	}
	if d.Tunnel == nil {
		errs = append(errs, d.validVXLAN())
	}
	if err := validUnderlay(d.Local); err != nil {
		errs = append(errs, err)
	}
	if least := d.minMTU(); d.MTU < least || d.MTU > link.MaxMTU {
		bad("MTU %d is not %d to %d", d.MTU, least, link.MaxMTU)
	}
	for _, a := range d.Addresses {
		if !a.IsValid() || a.Is4In6() || a.Zone() != "" || a.IsMulticast() || a.IsUnspecified() || a.IsLoopback() {
			bad("address %s is not a host's", a)
		}
	}
	for _, s := range d.Subnets {
		if err := validPrefix(s); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// validVXLAN reports all that is wrong with what is VXLAN's alone.
func (d *Device) validVXLAN() error {
	var errs []error
	if d.VNI == 0 || d.VNI >= 1<<24 {
		errs = append(errs, fmt.Errorf("VNI %d is not 1 to %d", d.VNI, 1<<24-1))
	}
	if d.Port == 0 {
		errs = append(errs, errors.New("UDP port is 0"))
	}
	_, err := eui48(d.MAC)
	return errors.Join(append(errs, err)...)
}

// String names the device in errors.
func (d *Device) String() string {
	if d.Tunnel != nil {
		return d.Tunnel.Kind() + " device " + d.Name
	}
	return "VXLAN device " + d.Name
}

func (d *Device) minMTU() int {
	if d.ipv6() {
		return link.MinMTU6
	}
	return link.MinMTU
}

// ipv6 reports whether the network has IPv6 inside.
func (d *Device) ipv6() bool {
	for _, a := range d.Addresses {
		if a.Is6() {
			return true
		}
	}
	for _, s := range d.Subnets {
		if s.Addr().Is6() {
			return true
		}
	}
	return false
}

// contains reports whether the block is in one of the network's subnets.
func (d *Device) contains(block netip.Prefix) bool {
	return slices.ContainsFunc(d.Subnets, func(s netip.Prefix) bool {
		return s.Bits() <= block.Bits() && s.Contains(block.Addr())
	})
}

func validUnderlay(a netip.Addr) error {
	if !a.IsValid() || a.Is4In6() || a.Zone() != "" || a.IsMulticast() || a.IsUnspecified() {
		return fmt.Errorf("underlay address %q is not a host's", a)
	}
	return nil
}

func validPrefix(p netip.Prefix) error {
	if !p.IsValid() || p.Addr().Is4In6() || p != p.Masked() || p.Bits() == 0 || p.Addr().IsMulticast() {
		return fmt.Errorf("subnet %q is not one: address bits beyond its length, or none", p)
	}
	return nil
}
