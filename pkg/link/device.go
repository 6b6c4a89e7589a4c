package link

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink/nl"
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
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, 0)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	const skipStats = 1 << 3 // RTEXT_FILTER_SKIP_STATS
	req.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(skipStats)))
	replies, err := c.do(req)
	if err != nil {
		return nil, linkError(name, err)
	}
	for _, r := range replies {
		if r.kind == unix.RTM_NEWLINK {
			return parseDevice(r.data)
		}
	}
	return nil, fmt.Errorf("interface %s: the kernel sent no answer", name)
}

func parseDevice(data []byte) (*device, error) {
	if len(data) < unix.SizeofIfInfomsg {
		return nil, fmt.Errorf("link message of %d bytes", len(data))
	}
	info := nl.DeserializeIfInfomsg(data)
	attrs, err := nl.ParseRouteAttr(data[info.Len():])
	if err != nil {
		return nil, fmt.Errorf("link message: %w", err)
	}
	d := &device{index: int(info.Index), flags: info.Flags}
	for _, a := range attrs {
		switch a.Attr.Type {
		case unix.IFLA_IFNAME:
			d.name = nl.BytesToString(a.Value)
		case unix.IFLA_ADDRESS:
			d.mac = net.HardwareAddr(a.Value)
		case unix.IFLA_MTU:
			d.mtu = int(uint32Of(a.Value))
		case unix.IFLA_MASTER:
			d.master = int(uint32Of(a.Value))
		case unix.IFLA_LINK:
			d.link = int(uint32Of(a.Value))
		case unix.IFLA_LINK_NETNSID:
			d.away = true
		case unix.IFLA_IFALIAS:
			d.alias = nl.BytesToString(a.Value)
		case unix.IFLA_OPERSTATE:
			if len(a.Value) > 0 {
				d.oper = a.Value[0]
			}
		case unix.IFLA_LINKINFO:
			parseLinkInfo(d, a.Value)
		}
	}
	return d, nil
}

func parseLinkInfo(d *device, data []byte) {
	attrs, err := nl.ParseRouteAttr(data)
	if err != nil {
		return
	}
	for _, a := range attrs {
		switch a.Attr.Type {
		case nl.IFLA_INFO_KIND:
			d.kind = nl.BytesToString(a.Value)
		case nl.IFLA_INFO_DATA:
			options, err := nl.ParseRouteAttr(a.Value)
			if err != nil {
				continue
			}
			for _, o := range options {
				switch {
				case d.kind == "bridge" && o.Attr.Type == nl.IFLA_BR_VLAN_FILTERING && len(o.Value) > 0:
					d.vlans = o.Value[0] != 0
				case d.kind == "macvlan" && o.Attr.Type == nl.IFLA_MACVLAN_MODE:
					d.mode = uint32Of(o.Value)
				}
			}
		}
	}
}

func uint32Of(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return nl.NativeEndian().Uint32(b)
}

// newLink is the request that makes a link of a kind, with flags on. data fills
// IFLA_INFO_DATA.
func newLink(name, kind string, flags uint32, data func(info *nl.RtAttr), attrs ...*nl.RtAttr) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Flags, msg.Change = flags, flags
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	for _, a := range attrs {
		req.AddData(a)
	}
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated(kind))
	if data != nil {
		data(info.AddRtAttr(nl.IFLA_INFO_DATA, nil))
	}
	req.AddData(info)
	return req
}

// setLink is the request that changes a link. Flags are those to switch on.
func setLink(index int, flags uint32, attrs ...*nl.RtAttr) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, 0)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	msg.Flags, msg.Change = flags, flags
	req.AddData(msg)
	for _, a := range attrs {
		req.AddData(a)
	}
	return req
}

// Numbers of linux/ip.h: the per-device IPv4 settings that route netlink can set
// (IFLA_INET_CONF), saving a walk through /proc/sys.
const (
	devconfRPFilter      = 8
	devconfArpNotify     = 22
	devconfRouteLocalnet = 26
	inetConf             = 1 // IFLA_INET_CONF
	inet6AddrGenMode     = 8 // IFLA_INET6_ADDR_GEN_MODE
)

// inetSetting switches an IPv4 setting of a device on.
func inetSetting(setting int) *nl.RtAttr {
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	conf := spec.AddRtAttr(unix.AF_INET, nil).AddRtAttr(inetConf, nil)
	conf.AddRtAttr(setting, nl.Uint32Attr(1))
	return spec
}

// noLinkLocal keeps a device from making itself an IPv6 link-local address
// (IN6_ADDR_GEN_MODE_NONE, kernel 3.17).
func noLinkLocal() *nl.RtAttr {
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	spec.AddRtAttr(unix.AF_INET6, nil).AddRtAttr(inet6AddrGenMode, nl.Uint8Attr(1))
	return spec
}

// deleteLink deletes a link by name; nil when there is none. A veth takes its
// other end with it.
func (c *conn) deleteLink(name string) error {
	req := nl.NewNetlinkRequest(unix.RTM_DELLINK, 0)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	if _, err := c.do(req); err != nil && !isErrno(err, unix.ENODEV) {
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
