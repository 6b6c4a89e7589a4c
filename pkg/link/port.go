package link

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/proc"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"golang.org/x/sys/unix"
)

// configurePort sets what the host's end is as a port of the bridge. Most
// networks need nothing here.
func (v *Veth) configurePort(c *iface.Conn, a *attach.Attachment) error {
	options := v.portOptions(a)
	vlans := v.VLAN != 0 || len(v.Trunk) > 0
	if len(options) == 0 && !vlans {
		return nil
	}
	port, err := c.Index(a.HostIfName())
	if err != nil {
		return err
	}
	if len(options) > 0 {
		if err := c.Send(setPort(port, options)); err != nil {
			return fmt.Errorf("set port options %v: %w", options, err)
		}
	}
	if vlans {
		if err := setVLANs(c, v.Bridge, port, v.VLAN, v.Trunk, v.KeepDefaults); err != nil {
			return err
		}
	}
	if !v.MACSpoofCheck {
		return nil
	}
	if err := locked(c, a.HostIfName()); err != nil {
		return err
	}
	for _, vlan := range append([]int{v.VLAN}, v.Trunk...) { // a locked port learns in no VLAN
		if err := pinMAC(c, port, a.MAC, vlan); err != nil {
			return err
		}
	}
	return nil
}

// reconfigurePort is configurePort's options again, for what is known of the attachment by now
// and was not when it was as before.
func (v *Veth) reconfigurePort(c *iface.Conn, a, was *attach.Attachment) error {
	before, now := v.portOptions(was), v.portOptions(a)
	if slices.Equal(before, now) {
		return nil
	}
	port, err := c.Index(a.HostIfName())
	if err != nil {
		return err
	}
	off := slices.DeleteFunc(before, func(o uint16) bool { return slices.Contains(now, o) })
	if err := c.Send(setPort(port, now, off...)); err != nil {
		return fmt.Errorf("set port options %v: %w", now, err)
	}
	return nil
}

// addressless and portless are the attachment without what may be known later.
func addressless(a *attach.Attachment) *attach.Attachment {
	before := *a
	before.Addresses = nil
	return &before
}

func portless(a *attach.Attachment) *attach.Attachment {
	before := *a
	before.Ports = nil
	return &before
}

// portOptions returns the IFLA_BRPORT_* options to switch on.
//
// With br_netfilter a published port is translated while the frame is bridged, and
// the frame stays at layer 2: to come back to its own port it needs hairpin mode,
// and an isolated port would not let it reach a neighbour.
func (v *Veth) portOptions(a *attach.Attachment) []uint16 {
	bridged := (v.NoICC || len(a.Ports) > 0) && filtersBridged(a)
	var options []uint16
	if v.Hairpin || v.Reflect || bridged && len(a.Ports) > 0 {
		options = append(options, unix.IFLA_BRPORT_MODE)
	}
	if v.Isolated || v.NoICC && !bridged {
		options = append(options, unix.IFLA_BRPORT_ISOLATED)
	}
	if v.MACSpoofCheck {
		options = append(options, unix.IFLA_BRPORT_LOCKED)
	}
	return options
}

// filtersBridged reports whether frames of all the attachment's families pass the
// IP firewall when they are bridged.
func filtersBridged(a *attach.Attachment) bool {
	if len(a.Addresses) == 0 { // of any family
		return bridgedFiltering(false) && bridgedFiltering(true)
	}
	for _, addr := range a.Addresses {
		if !bridgedFiltering(addr.Prefix.Addr().Is6()) {
			return false
		}
	}
	return true
}

// bridgedFiltering reports whether bridged frames go through the IP firewall of
// this namespace (br_netfilter; the settings are per namespace since kernel 5.3).
func bridgedFiltering(v6 bool) bool {
	name := "bridge-nf-call-iptables"
	if v6 {
		name = "bridge-nf-call-ip6tables"
	}
	on, err := proc.Read(proc.Net("bridge", name))
	return err == nil && on == "1"
}

func setPort(index int, on []uint16, off ...uint16) *netlink.Request {
	req := netlink.NewRequest(unix.RTM_SETLINK, 0, rtnl.Ifinfomsg(unix.AF_BRIDGE, index, 0))
	return req.Nest(unix.IFLA_PROTINFO, func() {
		for _, o := range on {
			req.Uint8(o, 1)
		}
		for _, o := range off {
			req.Uint8(o, 0)
		}
	})
}

// ErrNoLock: the kernel has no locked ports (5.18), and left the option out without a word.
var ErrNoLock = errors.New("macspoofchk: this kernel has no locked ports of bridges (5.18); ipspoofchk holds MACs, too, by nftables")

// locked looks whether a port is.
func locked(c *iface.Conn, name string) error {
	d, err := c.LinkByName(name)
	if err == nil && !d.Port.Locked {
		err = ErrNoLock
	}
	return err
}

// pinMAC tells the bridge that the MAC is at the port: what a locked port lets
// through.
func pinMAC(c *iface.Conn, port int, mac string, vlan int) error {
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return err
	}
	req := netlink.NewRequest(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE,
		rtnl.Ndmsg(unix.AF_BRIDGE, port, unix.NUD_NOARP, unix.NTF_MASTER)).Bytes(unix.NDA_LLADDR, hw)
	if vlan != 0 {
		req.Uint16(unix.NDA_VLAN, uint16(vlan))
	}
	if err := c.Send(req); err != nil {
		return fmt.Errorf("pin MAC %s to the port: %w", mac, err)
	}
	return nil
}
