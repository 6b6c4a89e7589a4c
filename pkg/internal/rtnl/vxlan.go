package rtnl

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/sys/unix"
)

// VXLAN is a VXLAN device (RFC 7348), with the settings that /proc/sys/net has in files.
type VXLAN struct {
	Link
	VNI      uint32
	Port     uint16     // UDP
	Local    netip.Addr // that packets come from
	Underlay int        // index of the link that packets leave by; 0: as the routes say
	Learning bool       // of the VTEPs that frames come from
	Grouped  bool       // has a default VTEP or group, or is metadata's

	RPFilter uint32
	IPv6     bool // the device has IPv6: the kernel has, and the MTU is not too small
	NoIPv6   bool // disable_ipv6
	AcceptRA bool
	GenAddr  bool // makes itself a link-local address
}

const vxlanKind = "vxlan"

// New is the request that makes the device, down: of its name, MAC, MTU, VNI, port and
// local address. Learning is off, and outer UDP without a checksum over IPv4.
func (d *VXLAN) New() *netlink.Request {
	req := NewLink(d.Name, vxlanKind, 0, func(data *netlink.Request) {
		data.Uint32(unix.IFLA_VXLAN_ID, d.VNI)
		data.Bytes(unix.IFLA_VXLAN_PORT, binary.BigEndian.AppendUint16(nil, d.Port))
		data.Uint8(unix.IFLA_VXLAN_UDP_CSUM, 0)
		d.changeable(data)
	})
	return req.Bytes(unix.IFLA_ADDRESS, d.MAC).Uint32(unix.IFLA_MTU, uint32(d.MTU))
}

// Change is the request that gives a device that is there the local address and the
// underlay's link, and switches learning off.
func (d *VXLAN) Change(index int) *netlink.Request { return ChangeKind(index, vxlanKind, d.changeable) }

func (d *VXLAN) changeable(data *netlink.Request) {
	local := uint16(unix.IFLA_VXLAN_LOCAL)
	if d.Local.Is6() {
		local = unix.IFLA_VXLAN_LOCAL6
	}
	data.Addr(local, d.Local).Uint8(unix.IFLA_VXLAN_LEARNING, 0)
	if d.Underlay != 0 {
		data.Uint32(unix.IFLA_VXLAN_LINK, uint32(d.Underlay))
	}
}

// IsVXLAN reports whether the link is such a device.
func (l *Link) IsVXLAN() bool { return l.Kind == vxlanKind }

// VXLAN asks for one link by name, of whatever kind it is; nil when there is none.
func (c *Conn) VXLAN(name string) (*VXLAN, error) {
	question := netlink.NewQuestion(unix.RTM_GETLINK, Ifinfomsg(unix.AF_UNSPEC, 0, 0)).Text(unix.IFLA_IFNAME, name)
	d, ok, err := askIf(c, question.Uint32(unix.IFLA_EXT_MASK, skipStats), ParseVXLAN)
	if err != nil {
		return nil, fmt.Errorf("read interface %s: %w", name, err)
	}
	if !ok {
		return nil, nil
	}
	return d, nil
}

// VXLANs lists all VXLAN devices.
func (c *Conn) VXLANs() ([]*VXLAN, error) {
	question := netlink.NewQuestion(unix.RTM_GETLINK, Ifinfomsg(unix.AF_UNSPEC, 0, 0)).Uint32(unix.IFLA_EXT_MASK, skipStats)
	all, err := netlink.List(c.Conn, linkInfo(question, vxlanKind, nil), nil, func(m netlink.Message) (*VXLAN, bool) {
		d, ok := ParseVXLAN(m)
		return d, ok && d.IsVXLAN()
	})
	if err != nil {
		return all, fmt.Errorf("list VXLAN devices: %w", err)
	}
	return all, nil
}

// ParseVXLAN reads a link of any kind; what is VXLAN's own is zero in others.
func ParseVXLAN(m netlink.Message) (*VXLAN, bool) {
	l, ok := ParseLink(m)
	if !ok {
		return nil, false
	}
	d := &VXLAN{Link: *l}
	if l.IsVXLAN() {
		d.Port, d.Learning = 8472, true // the kernel's, of a device that does not say
		d.parseData(m.Find(unix.SizeofIfInfomsg, unix.IFLA_LINKINFO, unix.IFLA_INFO_DATA))
	}
	d.parseFamilies(m.Find(unix.SizeofIfInfomsg, unix.IFLA_AF_SPEC))
	return d, true
}

func (d *VXLAN) parseData(b []byte) {
	for kind, value := range netlink.Attrs(b) {
		switch kind {
		case unix.IFLA_VXLAN_ID:
			d.VNI = netlink.Uint32(value)
		case unix.IFLA_VXLAN_PORT:
			if len(value) == 2 {
				d.Port = binary.BigEndian.Uint16(value)
			}
		case unix.IFLA_VXLAN_LOCAL, unix.IFLA_VXLAN_LOCAL6:
			d.Local = netlink.Addr(value)
		case unix.IFLA_VXLAN_LINK:
			d.Underlay = int(netlink.Uint32(value))
		case unix.IFLA_VXLAN_LEARNING:
			d.Learning = netlink.Uint8(value) != 0
		case unix.IFLA_VXLAN_GROUP, unix.IFLA_VXLAN_GROUP6:
			d.Grouped = true
		case unix.IFLA_VXLAN_COLLECT_METADATA, unix.IFLA_VXLAN_L2MISS, unix.IFLA_VXLAN_L3MISS, unix.IFLA_VXLAN_PROXY, unix.IFLA_VXLAN_RSC:
			d.Grouped = d.Grouped || netlink.Uint8(value) != 0
		case unix.IFLA_VXLAN_GBP, unix.IFLA_VXLAN_GPE: // flags without a value
			d.Grouped = true
		}
	}
}

// Settings of linux/ipv6.h, counted from 0.
const ipv6AcceptRA, ipv6Disable = 3, 26

func (d *VXLAN) parseFamilies(b []byte) {
	d.RPFilter = nth(netlink.Find(b, unix.AF_INET, unix.IFLA_INET_CONF), RPFilter-1)
	for kind, value := range netlink.Attrs(netlink.Find(b, unix.AF_INET6)) {
		switch kind {
		case unix.IFLA_INET6_CONF:
			d.IPv6 = true
			d.AcceptRA = nth(value, ipv6AcceptRA) != 0
			d.NoIPv6 = nth(value, ipv6Disable) != 0
		case unix.IFLA_INET6_ADDR_GEN_MODE:
			d.GenAddr = len(value) > 0 && value[0] != addrGenNone
		}
	}
}

// nth is a number of an array.
func nth(b []byte, i int) uint32 { return netlink.Uint32(b[min(len(b), 4*i):]) }
