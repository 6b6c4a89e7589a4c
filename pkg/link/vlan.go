package link

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/proc"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"golang.org/x/sys/unix"
)

// filterVLANs switches VLAN filtering of an existing bridge on.
func (b *Bridge) filterVLANs(c *iface.Conn, d *rtnl.Link) error {
	req := rtnl.ChangeKind(d.Index, "bridge", func(data *netlink.Request) { data.Uint8(unix.IFLA_BR_VLAN_FILTERING, 1) })
	if err := c.Send(req); err != nil {
		return fmt.Errorf("switch VLAN filtering on (kernel option BRIDGE_VLAN_FILTERING): %w", err)
	}
	d.VLANs = true
	return nil
}

// Outward is the host's interface that the bridge's containers are reached by: the bridge,
// or that of the VLAN with the gateway.
func (b *Bridge) Outward() string {
	if b.GatewayVLAN == 0 {
		return b.Name
	}
	return b.vlanInterface()
}

func (b *Bridge) vlanInterface() string { return fmt.Sprintf("%s.%d", b.Name, b.GatewayVLAN) }

// ensureVLANInterface returns the interface that holds the gateway of a VLAN: one
// end of a veth pair whose other end is a port of the bridge in that VLAN.
func (b *Bridge) ensureVLANInterface(c *iface.Conn, br *rtnl.Link) (*rtnl.Link, error) {
	name := b.vlanInterface()
	d, err := c.LinkByName(name)
	if err == nil && d.Flags&unix.IFF_UP != 0 || err != nil && !iface.IsErrno(err, unix.ENODEV) {
		return d, err // one that is down was left half made
	}
	port := "vlan" + hex.EncodeToString(attach.Digest([]byte(name)))[:11]
	mtu := uint32(br.MTU)
	req := rtnl.NewLink(port, "veth", unix.IFF_UP, func(data *netlink.Request) { vethPeer(data, name, randomMAC(), mtu, nil) })
	err = c.Send(req.Uint32(unix.IFLA_MTU, mtu).Uint32(unix.IFLA_MASTER, uint32(br.Index)))
	if err != nil && !iface.IsErrno(err, unix.EEXIST) {
		return nil, fmt.Errorf("add %s: %w", name, err)
	}
	p, err := c.Index(port)
	if err != nil {
		return nil, err
	}
	if err := setVLANs(c, b.Name, p, b.GatewayVLAN, nil, b.KeepDefaults); err != nil {
		return nil, err
	}
	for _, setting := range []string{"accept_ra", "accept_dad"} { // as for the bridge itself
		if _, err := proc.Protect(proc.Net("ipv6", "conf", name, setting), "0"); err != nil {
			return nil, err
		}
	}
	if d, err = c.LinkByName(name); err != nil {
		return nil, err
	}
	if err := c.Send(rtnl.SetLink(d.Index, unix.IFF_UP)); err != nil {
		return nil, fmt.Errorf("set %s up: %w", name, err)
	}
	return d, nil
}

// setVLANs makes a bridge port a member of VLANs: untagged of vlan, tagged of
// trunk. With a trunk and no vlan, the untagged one is 1, as the reference has it.
// The VLAN that the bridge gives every port goes, unless it is to be kept.
func setVLANs(c *iface.Conn, bridge string, port, vlan int, trunk []int, keepDefault bool) error {
	const untagged = 1<<1 | 1<<2 // BRIDGE_VLAN_INFO_PVID, BRIDGE_VLAN_INFO_UNTAGGED
	if given := defaultPVID(bridge); !keepDefault && given != 0 && given != vlan {
		err := c.Send(bridgeVLAN(unix.RTM_DELLINK, port, given, 0))
		if err != nil && !iface.IsErrno(err, unix.ENOENT) {
			return fmt.Errorf("remove VLAN %d: %w", given, err)
		}
	}
	var reqs []*netlink.Request
	if vlan == 0 {
		vlan = 1
	}
	reqs = append(reqs, bridgeVLAN(unix.RTM_SETLINK, port, vlan, untagged))
	for _, v := range trunk {
		if v != vlan {
			reqs = append(reqs, bridgeVLAN(unix.RTM_SETLINK, port, v, 0))
		}
	}
	if err := c.Send(reqs...); err != nil {
		return fmt.Errorf("set VLANs (kernel option BRIDGE_VLAN_FILTERING): %w", err)
	}
	return nil
}

// defaultPVID is the VLAN that the bridge gives every new port; 0: none.
func defaultPVID(bridge string) int {
	data, err := proc.Read("/sys/class/net/" + bridge + "/bridge/default_pvid")
	if err != nil || data == "" {
		return 1 // the kernel's own default
	}
	vlan, _ := strconv.Atoi(data)
	return vlan
}

// bridgeVLAN is the request that adds (RTM_SETLINK) or removes (RTM_DELLINK) a
// VLAN of a port.
func bridgeVLAN(kind uint16, port, vlan int, flags uint16) *netlink.Request {
	const vlanInfo = 2 // IFLA_BRIDGE_VLAN_INFO, struct bridge_vlan_info of linux/if_bridge.h
	req := netlink.NewRequest(kind, 0, rtnl.Ifinfomsg(unix.AF_BRIDGE, port, 0))
	return req.Nest(unix.IFLA_AF_SPEC, func() {
		info := binary.NativeEndian.AppendUint16(nil, flags)
		req.Bytes(vlanInfo, binary.NativeEndian.AppendUint16(info, uint16(vlan)))
	})
}
