package rtnl

import (
	"fmt"
	"net"
	"slices"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/sys/unix"
)

// Link is an interface.
type Link struct {
	Index  int
	Name   string
	Kind   string // IFLA_INFO_KIND: bridge, veth; empty for a device of the machine
	MAC    net.HardwareAddr
	MTU    int    // bytes
	Master int    // index of the bridge that it is a port of; 0: none
	Flags  uint32 // IFF_UP
	Oper   uint8  // RFC 2863 operational state
	VLANs  bool   // a bridge with VLAN filtering
	Parent int    // the link that this one is on, in that one's namespace (IFLA_LINK)
	Mode   uint32 // a macvlan's MACVLAN_MODE_*, or an ipvlan's IPVLAN_MODE_*
	Flag   uint16 // an ipvlan's IPVLAN_F_*
	Alias  string // IFLA_IFALIAS
	Away   bool   // the other end, or the parent, is in another namespace (IFLA_LINK_NETNSID)
	Netns  int32  // the number that this namespace has for that one; -1: none
	Port   Port   // of a bridge
	Group  uint32 // IFLA_GROUP; 0: the one of all that nobody has put into another
}

// Port is what a link is as a port of a bridge (IFLA_INFO_SLAVE_DATA).
type Port struct{ Hairpin, Isolated, Locked bool }

// IPVlanMode and IPVlanFlags are IFLA_IPVLAN_MODE and IFLA_IPVLAN_FLAGS of linux/if_link.h.
const IPVlanMode, IPVlanFlags = 1, 2

// OperUp is the operational state of a link that carries packets (IF_OPER_UP).
const OperUp = 6

const skipStats = 1 << 3 // RTEXT_FILTER_SKIP_STATS

// Up reports whether the link was switched on.
func (l *Link) Up() bool { return l.Flags&unix.IFF_UP != 0 }

// LinkByName asks for one link; ENODEV when there is none.
func (c *Conn) LinkByName(name string) (*Link, error) {
	question := netlink.NewQuestion(unix.RTM_GETLINK, Ifinfomsg(unix.AF_UNSPEC, 0, 0)).Text(unix.IFLA_IFNAME, name)
	l, err := ask(c, question.Uint32(unix.IFLA_EXT_MASK, skipStats), ParseLink)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	return l, nil
}

// LinkByIndex asks for one link; ENODEV when there is none.
func (c *Conn) LinkByIndex(index int) (*Link, error) {
	question := netlink.NewQuestion(unix.RTM_GETLINK, Ifinfomsg(unix.AF_UNSPEC, index, 0))
	l, err := ask(c, question.Uint32(unix.IFLA_EXT_MASK, skipStats), ParseLink)
	if err != nil {
		return nil, fmt.Errorf("interface %d: %w", index, err)
	}
	return l, nil
}

// Links lists the links of the socket's namespace, in the order of their indexes.
func (c *Conn) Links() ([]*Link, error) {
	question := netlink.NewQuestion(unix.RTM_GETLINK, Ifinfomsg(unix.AF_UNSPEC, 0, 0)).Uint32(unix.IFLA_EXT_MASK, skipStats)
	all, err := netlink.List(c.Conn, question, nil, ParseLink)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	return all, nil
}

// LinksOfKind lists the links of a kind.
func (c *Conn) LinksOfKind(kind string) ([]*Link, error) {
	question := netlink.NewQuestion(unix.RTM_GETLINK, Ifinfomsg(unix.AF_UNSPEC, 0, 0)).Uint32(unix.IFLA_EXT_MASK, skipStats)
	all, err := netlink.List(c.Conn, linkInfo(question, kind, nil), nil, func(m netlink.Message) (*Link, bool) {
		l, ok := ParseLink(m)
		return l, ok && l.Kind == kind
	})
	if err != nil {
		return all, fmt.Errorf("list interfaces of kind %s: %w", kind, err)
	}
	return all, nil
}

// ParseLink reads an RTM_NEWLINK or RTM_DELLINK.
func ParseLink(m netlink.Message) (*Link, bool) {
	if m.Kind != unix.RTM_NEWLINK && m.Kind != unix.RTM_DELLINK || len(m.Body) < unix.SizeofIfInfomsg {
		return nil, false
	}
	l := &Link{Index: int(int32(netlink.Uint32(m.Body[4:]))), Flags: netlink.Uint32(m.Body[8:])}
	for kind, value := range m.Attrs(unix.SizeofIfInfomsg) {
		switch kind {
		case unix.IFLA_IFNAME:
			l.Name = netlink.Text(value)
		case unix.IFLA_ADDRESS:
			l.MAC = slices.Clone(value)
		case unix.IFLA_MTU:
			l.MTU = int(netlink.Uint32(value))
		case unix.IFLA_MASTER:
			l.Master = int(netlink.Uint32(value))
		case unix.IFLA_LINK:
			l.Parent = int(netlink.Uint32(value))
		case unix.IFLA_LINK_NETNSID:
			l.Away, l.Netns = true, int32(netlink.Uint32(value))
		case unix.IFLA_GROUP:
			l.Group = netlink.Uint32(value)
		case unix.IFLA_IFALIAS:
			l.Alias = netlink.Text(value)
		case unix.IFLA_OPERSTATE:
			l.Oper = netlink.Uint8(value)
		case unix.IFLA_LINKINFO:
			l.parseInfo(value)
		}
	}
	return l, true
}

func (l *Link) parseInfo(b []byte) {
	l.Kind = netlink.Text(netlink.Find(b, unix.IFLA_INFO_KIND))
	for kind, value := range netlink.Attrs(netlink.Find(b, unix.IFLA_INFO_DATA)) {
		switch {
		case l.Kind == "bridge" && kind == unix.IFLA_BR_VLAN_FILTERING:
			l.VLANs = netlink.Uint8(value) != 0
		case l.Kind == "macvlan" && kind == unix.IFLA_MACVLAN_MODE:
			l.Mode = netlink.Uint32(value)
		case l.Kind == "ipvlan" && kind == IPVlanMode:
			l.Mode = uint32(netlink.Uint16(value))
		case l.Kind == "ipvlan" && kind == IPVlanFlags:
			l.Flag = netlink.Uint16(value)
		}
	}
	if netlink.Text(netlink.Find(b, unix.IFLA_INFO_SLAVE_KIND)) != "bridge" {
		return
	}
	for kind, value := range netlink.Attrs(netlink.Find(b, unix.IFLA_INFO_SLAVE_DATA)) {
		on := netlink.Uint8(value) != 0
		switch kind {
		case unix.IFLA_BRPORT_MODE:
			l.Port.Hairpin = on
		case unix.IFLA_BRPORT_ISOLATED:
			l.Port.Isolated = on
		case unix.IFLA_BRPORT_LOCKED:
			l.Port.Locked = on
		}
	}
}

// NewLink is the request that makes a link of a kind, with flags on. data, if any,
// appends what is the kind's own (IFLA_INFO_DATA).
func NewLink(name, kind string, flags uint32, data func(*netlink.Request)) *netlink.Request {
	req := netlink.NewRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, Ifinfomsg(unix.AF_UNSPEC, 0, flags))
	return linkInfo(req.Text(unix.IFLA_IFNAME, name), kind, data)
}

// ChangeKind is the request that changes what is a kind's own.
func ChangeKind(index int, kind string, data func(*netlink.Request)) *netlink.Request {
	return linkInfo(netlink.NewRequest(unix.RTM_NEWLINK, 0, Ifinfomsg(unix.AF_UNSPEC, index, 0)), kind, data)
}

func linkInfo(req *netlink.Request, kind string, data func(*netlink.Request)) *netlink.Request {
	return req.Nest(unix.IFLA_LINKINFO, func() {
		req.Bytes(unix.IFLA_INFO_KIND, []byte(kind))
		if data != nil {
			req.Nest(unix.IFLA_INFO_DATA, func() { data(req) })
		}
	})
}

// SetLink is the request that changes a link: what is appended to it, and the flags on.
func SetLink(index int, flags uint32) *netlink.Request {
	return netlink.NewRequest(unix.RTM_SETLINK, 0, Ifinfomsg(unix.AF_UNSPEC, index, flags))
}

// Numbers of linux/ip.h: the per-device IPv4 settings that route netlink can set
// (IFLA_INET_CONF), saving a walk through /proc/sys.
const (
	ProxyARP      = 3
	RPFilter      = 8
	ArpNotify     = 22
	RouteLocalnet = 26
)

// SetInet is the request that gives an IPv4 setting of a link a value.
func SetInet(index int, setting uint16, value uint32) *netlink.Request {
	req := SetLink(index, 0)
	return req.Nest(unix.IFLA_AF_SPEC, func() {
		req.Nest(unix.AF_INET, func() {
			req.Nest(unix.IFLA_INET_CONF, func() { req.Uint32(setting, value) })
		})
	})
}

// How a link makes itself an IPv6 link-local address (IN6_ADDR_GEN_MODE_*, kernel 3.17).
const (
	addrGenEUI64 = 0 // of its MAC
	addrGenNone  = 1
)

// NoLinkLocal is the request that keeps a link from making itself an IPv6 link-local
// address.
func NoLinkLocal(index int) *netlink.Request { return addrGen(index, addrGenNone) }

// LinkLocalOfMAC is the request that has a link make its IPv6 link-local address of its MAC
// when it comes up (RFC 4291, appendix A), whatever the host's default is.
func LinkLocalOfMAC(index int) *netlink.Request { return addrGen(index, addrGenEUI64) }

func addrGen(index int, mode uint8) *netlink.Request {
	req := SetLink(index, 0)
	return req.Nest(unix.IFLA_AF_SPEC, func() {
		req.Nest(unix.AF_INET6, func() { req.Uint8(unix.IFLA_INET6_ADDR_GEN_MODE, mode) })
	})
}

// DeleteLink is the request that deletes a link by its index: by its name it could be
// another's by now. A veth takes its other end with it.
func DeleteLink(index int) *netlink.Request {
	return netlink.NewRequest(unix.RTM_DELLINK, 0, Ifinfomsg(unix.AF_UNSPEC, index, 0))
}

// DeleteLinkNamed is the request that deletes a link by its name.
func DeleteLinkNamed(name string) *netlink.Request {
	return netlink.NewRequest(unix.RTM_DELLINK, 0, Ifinfomsg(unix.AF_UNSPEC, 0, 0)).Text(unix.IFLA_IFNAME, name)
}
