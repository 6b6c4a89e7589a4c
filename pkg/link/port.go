package link

import (
	"fmt"
	"net"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const brportLocked = 39 // IFLA_BRPORT_LOCKED, kernel 5.18

// configurePort sets what the host's end is as a port of the bridge. Most
// networks need nothing here.
func (v *Veth) configurePort(c *conn, a *attach.Attachment) error {
	options := v.portOptions(a)
	vlans := v.VLAN != 0 || len(v.Trunk) > 0
	if len(options) == 0 && !vlans {
		return nil
	}
	port, err := c.index(a.HostIfName())
	if err != nil {
		return err
	}
	if len(options) > 0 {
		if _, err := c.do(setPort(port, options)); err != nil {
			return fmt.Errorf("set port options %v: %w", options, err)
		}
	}
	if vlans {
		if err := c.setVLANs(v.Bridge, port, v.VLAN, v.Trunk, v.KeepDefaults); err != nil {
			return err
		}
	}
	if !v.MACSpoofCheck {
		return nil
	}
	for _, vlan := range append([]int{v.VLAN}, v.Trunk...) { // a locked port learns in no VLAN
		if err := c.pinMAC(port, a.MAC, vlan); err != nil {
			return err
		}
	}
	return nil
}

// portOptions returns the IFLA_BRPORT_* options to switch on.
//
// With br_netfilter a published port is translated while the frame is bridged, and
// the frame stays at layer 2: to come back to its own port it needs hairpin mode,
// and an isolated port would not let it reach a neighbour.
func (v *Veth) portOptions(a *attach.Attachment) []int {
	bridged := (v.NoICC || len(a.Ports) > 0) && filtersBridged(a)
	var options []int
	if v.Hairpin || bridged && len(a.Ports) > 0 {
		options = append(options, nl.IFLA_BRPORT_MODE)
	}
	if v.Isolated || v.NoICC && !bridged {
		options = append(options, nl.IFLA_BRPORT_ISOLATED)
	}
	if v.MACSpoofCheck {
		options = append(options, brportLocked)
	}
	return options
}

// filtersBridged reports whether frames of all the attachment's families pass the
// IP firewall when they are bridged.
func filtersBridged(a *attach.Attachment) bool {
	for _, addr := range a.Addresses {
		if !bridgedFiltering(addr.Prefix.Addr().Is6()) {
			return false
		}
	}
	return true
}

func setPort(index int, options []int) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, 0)
	msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
	msg.Index = int32(index)
	req.AddData(msg)
	info := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
	for _, o := range options {
		info.AddRtAttr(o, nl.Uint8Attr(1))
	}
	req.AddData(info)
	return req
}

// pinMAC tells the bridge that the MAC is at the port: what a locked port lets
// through.
func (c *conn) pinMAC(port int, mac string, vlan int) error {
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return err
	}
	req := nl.NewNetlinkRequest(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	req.AddData(&neighbour{int32(port), unix.NUD_NOARP, unix.NTF_MASTER})
	req.AddData(nl.NewRtAttr(unix.NDA_LLADDR, hw))
	if vlan != 0 {
		req.AddData(nl.NewRtAttr(unix.NDA_VLAN, nl.Uint16Attr(uint16(vlan))))
	}
	if _, err := c.do(req); err != nil {
		return fmt.Errorf("pin MAC %s to the port: %w", mac, err)
	}
	return nil
}

const neighbourLen = 12

// neighbour is struct ndmsg (linux/neighbour.h) of an FDB entry.
type neighbour struct {
	index int32
	state uint16 // NUD_*
	flags uint8  // NTF_*
}

func (n *neighbour) Len() int { return neighbourLen }

func (n *neighbour) Serialize() []byte {
	b := make([]byte, n.Len())
	b[0] = unix.AF_BRIDGE
	nl.NativeEndian().PutUint32(b[4:], uint32(n.index))
	nl.NativeEndian().PutUint16(b[8:], n.state)
	b[10] = n.flags
	return b
}
