package link

import (
	"fmt"
	"net"
	"slices"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/sys/unix"
)

// device is what the kernel says of a link.
type device struct {
	index  int
	name   string
	kind   string // IFLA_INFO_KIND: bridge, veth; empty for hardware
	mac    net.HardwareAddr
	mtu    int
	master int
	flags  uint32 // IFF_UP
	oper   uint8  // RFC 2863 operational state, IF_OPER_UP is 6
	vlans  bool   // a bridge with VLAN filtering
	link   int    // the device that this one is on, in that one's namespace
	mode   uint32 // a macvlan's MACVLAN_MODE_*
	alias  string // IFLA_IFALIAS
	away   bool   // the other end, or the device that this one is on, is in another namespace
}

const operUp = 6

// notFoundError says that there is no link of that name.
func linkError(name string, err error) error {
	if isErrno(err, unix.ENODEV) {
		return fmt.Errorf("interface %s: %w", name, unix.ENODEV)
	}
	return fmt.Errorf("interface %s: %w", name, err)
}

// byName asks for one link by its name.
func (c *conn) byName(name string) (*device, error) {
	question := netlink.NewQuestion(unix.RTM_GETLINK, ifinfomsg(unix.AF_UNSPEC, 0, 0)).Text(unix.IFLA_IFNAME, name)
	d, err := ask(c, question.Uint32(unix.IFLA_EXT_MASK, skipStats), parseDevice)
	if err != nil {
		return nil, linkError(name, err)
	}
	return d, nil
}

const skipStats = 1 << 3 // RTEXT_FILTER_SKIP_STATS

// byIndex asks for one link by its number.
func (c *conn) byIndex(index int) (*device, error) {
	d, err := ask(c, netlink.NewQuestion(unix.RTM_GETLINK, ifinfomsg(unix.AF_UNSPEC, index, 0)), parseDevice)
	if err != nil {
		return nil, fmt.Errorf("interface %d: %w", index, err)
	}
	return d, nil
}

func parseDevice(m netlink.Message) (*device, error) {
	if len(m.Body) < unix.SizeofIfInfomsg {
		return nil, fmt.Errorf("link message of %d bytes", len(m.Body))
	}
	d := &device{index: int(int32(netlink.Uint32(m.Body[4:]))), flags: netlink.Uint32(m.Body[8:])}
	for kind, value := range m.Attrs(unix.SizeofIfInfomsg) {
		switch kind {
		case unix.IFLA_IFNAME:
			d.name = netlink.Text(value)
		case unix.IFLA_ADDRESS:
			d.mac = slices.Clone(value)
		case unix.IFLA_MTU:
			d.mtu = int(netlink.Uint32(value))
		case unix.IFLA_MASTER:
			d.master = int(netlink.Uint32(value))
		case unix.IFLA_LINK:
			d.link = int(netlink.Uint32(value))
		case unix.IFLA_LINK_NETNSID:
			d.away = true
		case unix.IFLA_IFALIAS:
			d.alias = netlink.Text(value)
		case unix.IFLA_OPERSTATE:
			d.oper = netlink.Uint8(value)
		case unix.IFLA_LINKINFO:
			d.parseInfo(value)
		}
	}
	return d, nil
}

func (d *device) parseInfo(b []byte) {
	d.kind = netlink.Text(netlink.Find(b, unix.IFLA_INFO_KIND))
	for kind, value := range netlink.Attrs(netlink.Find(b, unix.IFLA_INFO_DATA)) {
		switch {
		case d.kind == "bridge" && kind == unix.IFLA_BR_VLAN_FILTERING:
			d.vlans = netlink.Uint8(value) != 0
		case d.kind == "macvlan" && kind == unix.IFLA_MACVLAN_MODE:
			d.mode = netlink.Uint32(value)
		}
	}
}

// newLink is the request that makes a link of a kind, with flags on. data, if any,
// appends what is the kind's own (IFLA_INFO_DATA).
func newLink(name, kind string, flags uint32, data func(*netlink.Request)) *netlink.Request {
	req := netlink.NewRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, ifinfomsg(unix.AF_UNSPEC, 0, flags))
	return linkInfo(req.Text(unix.IFLA_IFNAME, name), kind, data)
}

// linkInfo appends what is a kind's own.
func linkInfo(req *netlink.Request, kind string, data func(*netlink.Request)) *netlink.Request {
	return req.Nest(unix.IFLA_LINKINFO, func() {
		req.Bytes(unix.IFLA_INFO_KIND, []byte(kind))
		if data != nil {
			req.Nest(unix.IFLA_INFO_DATA, func() { data(req) })
		}
	})
}

// setLink is the request that changes a link: to what is appended to it, and the flags
// on.
func setLink(index int, flags uint32) *netlink.Request {
	return netlink.NewRequest(unix.RTM_SETLINK, 0, ifinfomsg(unix.AF_UNSPEC, index, flags))
}

// Numbers of linux/ip.h: the per-device IPv4 settings that route netlink can set
// (IFLA_INET_CONF), saving a walk through /proc/sys.
const (
	devconfRPFilter      = 8
	devconfArpNotify     = 22
	devconfRouteLocalnet = 26
)

// setInet is the request that gives an IPv4 setting of a link a value.
func setInet(index int, setting uint16, value uint32) *netlink.Request {
	req := setLink(index, 0)
	return req.Nest(unix.IFLA_AF_SPEC, func() {
		req.Nest(unix.AF_INET, func() {
			req.Nest(unix.IFLA_INET_CONF, func() { req.Uint32(setting, value) })
		})
	})
}

// noLinkLocal is the request that keeps a link from making itself an IPv6 link-local
// address (IN6_ADDR_GEN_MODE_NONE, kernel 3.17).
func noLinkLocal(index int) *netlink.Request {
	const none = 1
	req := setLink(index, 0)
	return req.Nest(unix.IFLA_AF_SPEC, func() {
		req.Nest(unix.AF_INET6, func() { req.Uint8(unix.IFLA_INET6_ADDR_GEN_MODE, none) })
	})
}

// deleteLink deletes a link by name; nil when there is none. A veth takes its
// other end with it.
func (c *conn) deleteLink(name string) error {
	req := netlink.NewRequest(unix.RTM_DELLINK, 0, ifinfomsg(unix.AF_UNSPEC, 0, 0)).Text(unix.IFLA_IFNAME, name)
	if err := c.do(req); err != nil && !isErrno(err, unix.ENODEV) {
		return fmt.Errorf("delete interface %s: %w", name, err)
	}
	return nil
}

// Delete deletes an interface of the host by name; nil when there is none.
func Delete(name string) error {
	c, err := dial()
	if err != nil {
		return err
	}
	defer c.close()
	return c.deleteLink(name)
}

// Up reports whether there is an interface of that name in the calling thread's
// namespace, and it is up.
func Up(name string) (bool, error) {
	c, err := dial()
	if err != nil {
		return false, err
	}
	defer c.close()
	d, err := c.byName(name)
	if isErrno(err, unix.ENODEV) {
		return false, nil
	}
	return err == nil && d.flags&unix.IFF_UP != 0, err
}

// Exists reports whether the host has an interface of that name.
func Exists(name string) (bool, error) {
	c, err := dial()
	if err != nil {
		return false, err
	}
	defer c.close()
	_, err = c.byName(name)
	if notExist(err) {
		return false, nil
	}
	return err == nil, err
}
