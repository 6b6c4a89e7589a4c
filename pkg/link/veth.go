package link

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"golang.org/x/sys/unix"
)

// ErrBridgeFull: the bridge has as many ports as the kernel allows.
var ErrBridgeFull = errors.New("the bridge has 1,023 ports, the kernel's limit: put further containers on another network with its own bridge")

// Veth is the step that makes the container's interface: a veth pair, one end a
// port of a bridge on the host, the other in the container, with the attachment's
// MAC, addresses and routes.
type Veth struct {
	iface.Expectable

	Bridge string `json:"bridge"`
	MTU    int    `json:"mtu,omitempty"` // bytes; 0: the bridge's
	// Hairpin lets the bridge send a frame back to the port that it came from.
	Hairpin bool `json:"hairpin,omitempty"`
	// Reflect is Hairpin for what the host's firewall translates back to the container where
	// the bridge's frames pass it (br_netfilter): published ports, and what others translate,
	// as kube-proxy a service. Frames to many are kept back ([firewall.Spoof]).
	Reflect bool `json:"reflect,omitempty"`
	// Isolated keeps isolated ports of the bridge from each other (kernel 4.18).
	Isolated bool `json:"isolated,omitempty"`
	// NoICC is Isolated where the bridge's frames do not pass the IP firewall; where
	// they do (br_netfilter), the firewall does it, and lets published ports through.
	NoICC bool `json:"noICC,omitempty"`
	// MACSpoofCheck drops frames with another source MAC (locked port, kernel 5.18).
	MACSpoofCheck bool  `json:"macSpoofCheck,omitempty"`
	VLAN          int   `json:"vlan,omitempty"`
	Trunk         []int `json:"trunk,omitempty"`
	KeepDefaults  bool  `json:"keepDefaultVLAN,omitempty"`
	DAD           bool  `json:"dad,omitempty"`      // IPv6 duplicate address detection
	AcceptRA      bool  `json:"acceptRA,omitempty"` // the container takes router advertisements
	Down          bool  `json:"down,omitempty"`     // leave the container's end down
}

// Kind implements [attach.Step].
func (v *Veth) Kind() string { return "veth" }

// Add makes the pair and brings up both ends. [ErrBridgeFull] at the kernel's
// limit. It adds both interfaces to the attachment's.
func (v *Veth) Add(_ context.Context, a *attach.Adding) error {
	c, err := dialEnds(a.Attachment)
	if err != nil {
		return err
	}
	defer c.Close()
	br, ok := a.Interface(v.Bridge)
	if !ok {
		d, err := c.LinkByName(v.Bridge)
		if err != nil {
			return err
		}
		br = attach.Interface{Index: d.Index, MTU: d.MTU}
	}
	if err := v.create(c, br, a.Attachment); err != nil {
		return fmt.Errorf("add veth %s: %w", a.HostIfName(), err)
	}
	if err := v.configure(c, a); err != nil {
		return c.undo(a.Attachment, err)
	}
	v.settle(c.Conn, a)
	made(a, v.mtu(br))
	return nil
}

// Del deletes the host's end, and so both.
func (v *Veth) Del(_ context.Context, a *attach.Attachment) error { return Delete(a.HostIfName()) }

// Check tells whether both ends are up, the host's a port of the bridge, the
// container's with its addresses and routes, or as is expected. Where no more than its
// being there is, the host's end says so: the container may have given its own another
// name.
func (v *Veth) Check(_ context.Context, a *attach.Attachment) error {
	c, err := iface.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	host, err := c.LinkByName(a.HostIfName())
	if err != nil {
		return err
	}
	br, err := c.LinkByName(v.Bridge)
	if err != nil {
		return err
	}
	if host.Master != br.Index {
		return fmt.Errorf("interface %s is not a port of bridge %s", host.Name, v.Bridge)
	}
	if host.Flags&unix.IFF_UP == 0 {
		return fmt.Errorf("interface %s is down", host.Name)
	}
	if v.Reflect && !host.Port.Hairpin {
		return fmt.Errorf("interface %s is not in hairpin mode", host.Name)
	}
	if v.OnlyThere() {
		return nil
	}
	return checkContainer(&v.Expectable, a, !v.Down)
}

// Repair implements [attach.Repairer]: it makes the host's end a port of the bridge again,
// and up, as after somebody deleted the bridge. The container keeps its interface.
func (v *Veth) Repair(_ context.Context, a *attach.Adding) error {
	c, err := iface.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	host, err := c.LinkByName(a.HostIfName())
	if err != nil {
		return err
	}
	bridge, err := c.Index(v.Bridge)
	if err != nil {
		return err
	}
	if host.Master != bridge {
		if err := c.Send(rtnl.SetLink(host.Index, 0).Uint32(unix.IFLA_MASTER, uint32(bridge))); err != nil {
			return fmt.Errorf("make %s a port of bridge %s: %w", host.Name, v.Bridge, err)
		}
	}
	if host.Master != bridge || v.Reflect && !host.Port.Hairpin {
		if err := v.configurePort(c, a.Attachment); err != nil {
			return fmt.Errorf("veth %s: %w", host.Name, err)
		}
	} else if err := v.reconfigurePort(c, a.Attachment, portless(a.Attachment)); err != nil { // it publishes something by now
		return fmt.Errorf("veth %s: %w", host.Name, err)
	}
	if err := c.Send(rtnl.SetLink(host.Index, unix.IFF_UP)); err != nil {
		return fmt.Errorf("set %s up: %w", host.Name, err)
	}
	_ = c.AwaitUp(host.Name) // without a carrier where the container's end is down
	return nil
}

func (v *Veth) mtu(br attach.Interface) int {
	if v.MTU != 0 {
		return v.MTU
	}
	return br.MTU
}

// create makes both ends with one request.
func (v *Veth) create(c *ends, br attach.Interface, a *attach.Attachment) error {
	mac, err := net.ParseMAC(a.MAC)
	if err != nil {
		return err
	}
	err = c.Send(pair(c.container, a, mac, v.mtu(br), unix.IFF_UP).Uint32(unix.IFLA_MASTER, uint32(br.Index)))
	if iface.IsErrno(err, unix.EXFULL) {
		return ErrBridgeFull
	}
	return taken(c.Conn, a, err)
}

// configure sets the port's options, then the container's end, and waits until
// the bridge forwards for the port.
func (v *Veth) configure(c *ends, a *attach.Adding) error {
	if err := v.configurePort(c.Conn, a.Attachment); err != nil {
		return err
	}
	if a.Addressless() {
		return c.container.Do(func() error { return v.inside().Prepare(a) })
	}
	return v.bringUp(c, a, false)
}

func (v *Veth) inside() iface.Inside { return iface.Inside{DAD: v.DAD, AcceptRA: v.AcceptRA} }

// bringUp is the part of configure that needs the addresses. late says that a delegated
// IPAM has had the interface, and may have set it up.
func (v *Veth) bringUp(c *ends, a *attach.Adding, late bool) error {
	if v.Down {
		return nil
	}
	o := v.inside()
	o.Late = late
	if err := iface.ConfigureInside(c.container, a, o); err != nil {
		return err
	}
	return c.AwaitUp(a.HostIfName())
}

// settle looks at what the port has done to the bridge. One whose MAC nobody has set may
// have another. The first port gives it its carrier, and only then does IPv6 listen there; a
// bridge with STP takes half a minute: that is its administrator's will. Without its
// addresses the container's end is down, and gives none.
func (v *Veth) settle(c *iface.Conn, a *attach.Adding) {
	d, err := c.Glance(v.Bridge)
	if err != nil {
		return
	}
	for i := range a.Interfaces {
		if b := &a.Interfaces[i]; b.Index == d.Index && b.Sandbox == "" {
			b.MAC = d.MAC.String()
		}
	}
	if !v.Down && !a.Addressless() && d.Up() && d.Flags&unix.IFF_RUNNING == 0 {
		_ = c.AwaitUp(v.Bridge)
	}
}
