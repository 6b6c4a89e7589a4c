package link

import (
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// filterVLANs switches VLAN filtering of an existing bridge on.
func (b *Bridge) filterVLANs(c *conn, d *device) error {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("bridge"))
	info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.IFLA_BR_VLAN_FILTERING, nl.Uint8Attr(1))
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, 0)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(d.index)
	req.AddData(msg)
	req.AddData(info)
	if _, err := c.do(req); err != nil {
		return fmt.Errorf("switch VLAN filtering on (kernel option BRIDGE_VLAN_FILTERING): %w", err)
	}
	d.vlans = true
	return nil
}

func (b *Bridge) vlanInterface() string { return fmt.Sprintf("%s.%d", b.Name, b.GatewayVLAN) }

// ensureVLANInterface returns the interface that holds the gateway of a VLAN: one
// end of a veth pair whose other end is a port of the bridge in that VLAN.
func (b *Bridge) ensureVLANInterface(c *conn, br *device) (*device, error) {
	name := b.vlanInterface()
	d, err := c.byName(name)
	if err == nil && d.flags&unix.IFF_UP != 0 || err != nil && !isErrno(err, unix.ENODEV) {
		return d, err // one that is down was left half made
	}
	port := "vlan" + hex.EncodeToString(attach.Digest([]byte(name)))[:11]
	mtu := nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(br.mtu)))
	_, err = c.do(newLink(port, "veth", unix.IFF_UP, func(data *nl.RtAttr) {
		peer := data.AddRtAttr(nl.VETH_INFO_PEER, nil)
		peer.AddChild(nl.NewIfInfomsg(unix.AF_UNSPEC))
		peer.AddRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name))
		peer.AddRtAttr(unix.IFLA_ADDRESS, randomMAC())
		peer.AddRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(br.mtu)))
	}, mtu, nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(br.index)))))
	if err != nil && !isErrno(err, unix.EEXIST) {
		return nil, fmt.Errorf("add %s: %w", name, err)
	}
	p, err := c.index(port)
	if err != nil {
		return nil, err
	}
	if err := c.setVLANs(b.Name, p, b.GatewayVLAN, nil, b.KeepDefaults); err != nil {
		return nil, err
	}
	for _, setting := range []string{"accept_ra", "accept_dad"} { // as for the bridge itself
		if _, err := setSysctl(sysctl("ipv6", "conf", name, setting), "0"); err != nil {
			return nil, err
		}
	}
	if d, err = c.byName(name); err != nil {
		return nil, err
	}
	if _, err := c.do(setLink(d.index, unix.IFF_UP)); err != nil {
		return nil, fmt.Errorf("set %s up: %w", name, err)
	}
	return d, nil
}

// setVLANs makes a bridge port a member of VLANs: untagged of vlan, tagged of
// trunk. With a trunk and no vlan, the untagged one is 1, as the reference has it.
// The VLAN that the bridge gives every port goes, unless it is to be kept.
func (c *conn) setVLANs(bridge string, port, vlan int, trunk []int, keepDefault bool) error {
	const untagged = nl.BRIDGE_VLAN_INFO_PVID | nl.BRIDGE_VLAN_INFO_UNTAGGED
	if given := defaultPVID(bridge); !keepDefault && given != 0 && given != vlan {
		_, err := c.do(bridgeVLAN(unix.RTM_DELLINK, port, given, 0))
		if err != nil && !isErrno(err, unix.ENOENT) {
			return fmt.Errorf("remove VLAN %d: %w", given, err)
		}
	}
	var reqs []*nl.NetlinkRequest
	if vlan == 0 {
		vlan = 1
	}
	reqs = append(reqs, bridgeVLAN(unix.RTM_SETLINK, port, vlan, untagged))
	for _, v := range trunk {
		if v != vlan {
			reqs = append(reqs, bridgeVLAN(unix.RTM_SETLINK, port, v, 0))
		}
	}
	if _, err := c.do(reqs...); err != nil {
		return fmt.Errorf("set VLANs (kernel option BRIDGE_VLAN_FILTERING): %w", err)
	}
	return nil
}

// defaultPVID is the VLAN that the bridge gives every new port; 0: none.
func defaultPVID(bridge string) int {
	data, err := os.ReadFile("/sys/class/net/" + bridge + "/bridge/default_pvid")
	if err != nil {
		return 1 // the kernel's own default
	}
	vlan, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	return vlan
}

// bridgeVLAN is the request that adds (RTM_SETLINK) or removes (RTM_DELLINK) a
// VLAN of a port.
func bridgeVLAN(kind, port, vlan int, flags uint16) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(kind, 0)
	msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
	msg.Index = int32(port)
	req.AddData(msg)
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	info := nl.BridgeVlanInfo{Flags: flags, Vid: uint16(vlan)}
	spec.AddRtAttr(nl.IFLA_BRIDGE_VLAN_INFO, info.Serialize())
	req.AddData(spec)
	return req
}
