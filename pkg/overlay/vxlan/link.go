package vxlan

import (
	"encoding/binary"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// link is what the kernel says of a device.
type link struct {
	index  int
	name   string
	kind   string // IFLA_INFO_KIND
	alias  string
	mac    mac
	mtu    int
	up     bool
	master int

	vni      uint32
	port     uint16
	local    netip.Addr
	underlay int
	learning bool
	grouped  bool // has a default VTEP or group, or is metadata's

	rpFilter uint32
	ipv6     bool // the device has IPv6: the kernel has, and the MTU is not too small
	noIPv6   bool // disable_ipv6
	acceptRA bool
	genAddr  bool // makes itself a link-local address
}

// ours is the alias (IFLA_IFALIAS) that marks a device of ours, for [Host.Sweep].
const ours = "berth overlay"

// Numbers of linux/ip.h, linux/ipv6.h and linux/if_link.h.
const (
	ipv4Conf            = 1 // IFLA_INET_CONF
	ipv4RPFilter        = 8 // counted from 1
	ipv6Conf            = 2 // IFLA_INET6_CONF
	ipv6ConfAcceptRA    = 3 // counted from 0
	ipv6ConfDisable     = 26
	ipv6AddrGenMode     = 8 // IFLA_INET6_ADDR_GEN_MODE
	addrGenNone         = 1 // IN6_ADDR_GEN_MODE_NONE, kernel 3.17
	looseRPFilter       = 2
	skipStats           = 1 << 3 // RTEXT_FILTER_SKIP_STATS
	vxlanKind           = "vxlan"
	kernelVXLANPort     = 8472 // of a device that does not say
	kernelVXLANLearning = true
	vxlanGPE            = 27 // IFLA_VXLAN_GPE
)

// ifinfomsg is struct ifinfomsg, with flags to switch on.
func ifinfomsg(index int, up uint32) []byte {
	h := appendUint32([]byte{unix.AF_UNSPEC, 0, 0, 0}, uint32(index))
	return appendUint32(appendUint32(h, up), up)
}

// link asks for one device by name; nil when there is none.
func (c *conn) link(name string) (*link, error) {
	var b batch
	b.add(request{verb: "read interface", thing: name, gone: true}, unix.RTM_GETLINK, 0, ifinfomsg(0, 0)...)
	b.text(unix.IFLA_IFNAME, name)
	b.uint32(unix.IFLA_EXT_MASK, skipStats)
	b.finish()
	all, err := list(c, &b, nil, parseLink)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return all[0], nil
}

// listLinks reads all VXLAN devices.
func (c *conn) listLinks() ([]*link, error) {
	var b batch
	b.add(request{verb: "list interfaces"}, unix.RTM_GETLINK, unix.NLM_F_DUMP, ifinfomsg(0, 0)...)
	b.uint32(unix.IFLA_EXT_MASK, skipStats)
	b.nest(unix.IFLA_LINKINFO, func() { b.attr(nl.IFLA_INFO_KIND, []byte(vxlanKind)) })
	b.finish()
	return list(c, &b, nil, func(kind uint16, body []byte) (*link, bool) {
		l, ok := parseLink(kind, body)
		return l, ok && l.kind == vxlanKind
	})
}

func parseLink(kind uint16, body []byte) (*link, bool) {
	if kind != unix.RTM_NEWLINK || len(body) < unix.SizeofIfInfomsg {
		return nil, false
	}
	l := &link{index: int(uint32Of(body[4:])), up: uint32Of(body[8:])&unix.IFF_UP != 0,
		port: kernelVXLANPort, learning: kernelVXLANLearning}
	for kind, value := range attributes(body[unix.SizeofIfInfomsg:]) {
		switch kind {
		case unix.IFLA_IFNAME:
			l.name = text(value)
		case unix.IFLA_IFALIAS:
			l.alias = text(value)
		case unix.IFLA_ADDRESS:
			if len(value) == len(l.mac) {
				l.mac = mac(value)
			}
		case unix.IFLA_MTU:
			l.mtu = int(uint32Of(value))
		case unix.IFLA_MASTER:
			l.master = int(uint32Of(value))
		case unix.IFLA_LINKINFO:
			l.parseInfo(value)
		case unix.IFLA_AF_SPEC:
			l.parseFamilies(value)
		}
	}
	return l, true
}

func (l *link) parseInfo(b []byte) {
	for kind, value := range attributes(b) {
		switch {
		case kind == nl.IFLA_INFO_KIND:
			l.kind = text(value)
		case kind == nl.IFLA_INFO_DATA && l.kind == vxlanKind:
			l.parseVXLAN(value)
		}
	}
}

func (l *link) parseVXLAN(b []byte) {
	for kind, value := range attributes(b) {
		switch kind {
		case nl.IFLA_VXLAN_ID:
			l.vni = uint32Of(value)
		case nl.IFLA_VXLAN_PORT:
			if len(value) == 2 {
				l.port = binary.BigEndian.Uint16(value)
			}
		case nl.IFLA_VXLAN_LOCAL, nl.IFLA_VXLAN_LOCAL6:
			l.local = addrOf(value)
		case nl.IFLA_VXLAN_LINK:
			l.underlay = int(uint32Of(value))
		case nl.IFLA_VXLAN_LEARNING:
			l.learning = len(value) > 0 && value[0] != 0
		case nl.IFLA_VXLAN_GROUP, nl.IFLA_VXLAN_GROUP6:
			l.grouped = true
		case nl.IFLA_VXLAN_FLOWBASED, nl.IFLA_VXLAN_L2MISS, nl.IFLA_VXLAN_L3MISS, nl.IFLA_VXLAN_PROXY, nl.IFLA_VXLAN_RSC:
			l.grouped = l.grouped || len(value) > 0 && value[0] != 0
		case nl.IFLA_VXLAN_GBP, vxlanGPE: // flags without a value
			l.grouped = true
		}
	}
}

// parseFamilies reads the settings that /proc/sys/net has in files.
func (l *link) parseFamilies(b []byte) {
	for fam, spec := range attributes(b) {
		for kind, value := range attributes(spec) {
			switch {
			case fam == unix.AF_INET && kind == ipv4Conf:
				l.rpFilter = nth(value, ipv4RPFilter-1)
			case fam == unix.AF_INET6 && kind == ipv6Conf:
				l.ipv6 = true
				l.acceptRA = nth(value, ipv6ConfAcceptRA) != 0
				l.noIPv6 = nth(value, ipv6ConfDisable) != 0
			case fam == unix.AF_INET6 && kind == ipv6AddrGenMode:
				l.genAddr = len(value) > 0 && value[0] != addrGenNone
			}
		}
	}
}

// nth is a number of an array.
func nth(b []byte, i int) uint32 { return uint32Of(b[min(len(b), 4*i):]) }
