package link

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/proc"
	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"github.com/berth-cni/berth/pkg/link/internal/iface"
	"github.com/berth-cni/berth/pkg/link/netns"
	"golang.org/x/sys/unix"
)

// Found is an interface of an attachment as the kernel has it, found by the hash of the
// attachment's key ([attach.Key.Hash]) in its name or alias, whatever the records say.
type Found struct {
	Hash   string
	Link   string // the bridge, or the master of a macvlan or an ipvlan; empty when it is on none
	Group  uint32 // of a network without a bridge ([attach.Group])
	IfName string // in the container; empty, as all that follows, where its namespace has no path that was looked at
	Netns  string // a path
	Cookie uint64

	MAC       string
	Addresses []attach.Address
	Routes    []attach.Route
	Steps     []attach.Step // that make such an interface, and what it stands on
}

// finder looks for them.
type finder struct {
	host    *iface.Conn
	links   map[int]*rtnl.Link // of the host, by index
	vlans   map[int]rtnl.PortVLANs
	own     int // a file descriptor of this host's namespace
	way     int // MTU of the way out
	found   []Found
	visited map[[2]uint64]bool // namespaces, by device and inode
}

// Find looks for interfaces of attachments in the namespaces of some paths, and on this
// host, where those are found too whose namespace none of the paths leads to. It lists
// all interfaces of all these namespaces. The error says beside the list which of them it
// could not look into; those of processes (/proc) are passed over then.
func Find(paths []string) ([]Found, error) {
	c, err := iface.Dial()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	own, err := unix.Open(netns.OwnPath, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", netns.OwnPath, err)
	}
	defer unix.Close(own)
	f := &finder{host: c, own: own, links: map[int]*rtnl.Link{}, visited: map[[2]uint64]bool{}}
	all, err := c.Links()
	if err != nil {
		return nil, err
	}
	for _, d := range all {
		f.links[d.Index] = d
	}
	if f.vlans, err = c.PortVLANs(); err != nil {
		return nil, err
	}
	if _, f.way, err = c.WayOut(); err != nil {
		return nil, err
	}
	var errs []error
	for _, path := range paths {
		if err := f.look(path); err != nil && !strings.HasPrefix(path, "/proc/") {
			errs = append(errs, fmt.Errorf("look for interfaces in %s: %w", path, err))
		}
	}
	for _, d := range all {
		hash := hashOf(d)
		if hash != "" && d.Away && !slices.ContainsFunc(f.found, func(x Found) bool { return x.Hash == hash }) {
			x := Found{Hash: hash}
			f.onBridge(&x, d, nil)
			f.found = append(f.found, x)
		}
	}
	return f.found, errors.Join(errs...)
}

// hashOf is the hash in the name of the host's end of a veth pair; empty when it is none of
// an attachment.
func hashOf(d *rtnl.Link) string {
	if hash, ok := strings.CutPrefix(d.Name, "veth"); ok && d.Kind == "veth" && attach.IsHash(hash) {
		return hash
	}
	return ""
}

// look looks into one namespace. A path that has ended, or leads to the host or to one
// that was looked at, is passed over.
func (f *finder) look(path string) error {
	ns, err := netns.Open(path)
	if iface.NotExist(err) || errors.Is(err, netns.ErrNotNetns) {
		return nil
	}
	if err != nil {
		return err
	}
	defer ns.Close()
	var st unix.Stat_t
	if err := unix.Fstat(ns.FD(), &st); err != nil {
		return err
	}
	id := [2]uint64{uint64(st.Dev), st.Ino}
	if own, err := ns.IsOwn(); err != nil || own || f.visited[id] {
		return err
	}
	f.visited[id] = true
	c, err := iface.DialNetns(ns)
	if errors.Is(err, netns.ErrNotNetns) {
		return nil
	}
	if err != nil {
		return err
	}
	defer c.Close()
	number, err := f.host.NetnsID(ns.FD())
	if err != nil {
		return err
	}
	all, err := c.Links()
	if err != nil {
		return err
	}
	back, err := c.NetnsID(f.own)
	if err != nil {
		return err
	}
	for _, d := range all {
		// Nested hosts have containers, too, which are none of this one's.
		if d.Away && d.Netns != back || !d.Away && strings.HasPrefix(path, "/proc/") {
			continue
		}
		if err := f.take(ns, c, d, number); err != nil {
			return err
		}
	}
	return nil
}

// take takes an interface of a namespace that this host has the number for, if it is an
// attachment's.
func (f *finder) take(ns *netns.Namespace, c *iface.Conn, d *rtnl.Link, number int32) error {
	x := Found{IfName: d.Name, Netns: ns.Path(), MAC: d.MAC.String()}
	host := f.links[d.Parent]
	switch hash, marked := strings.CutPrefix(d.Alias, "berth "); {
	case d.Kind == "veth" && host != nil && hashOf(host) != "" && host.Parent == d.Index && host.Away && host.Netns == number && number >= 0:
		x.Hash = hashOf(host)
	case isChild(d.Kind) && marked && attach.IsHash(hash):
		x.Hash = hash
	default:
		return nil
	}
	var err error
	if x.Cookie, err = c.Cookie(); err != nil {
		return err
	}
	if err := f.addresses(&x, c, d); err != nil {
		return err
	}
	if d.Kind == "veth" {
		f.onBridge(&x, host, d)
		err = ns.Do(func() error { f.settings(&x); return nil })
	} else {
		err = f.onMaster(&x, c, d)
	}
	f.found = append(f.found, x)
	return err
}

// addresses reads the addresses and routes of the container's interface. The kernel has no
// gateways but those of the routes.
func (f *finder) addresses(x *Found, c *iface.Conn, d *rtnl.Link) error {
	all, err := c.Prefixes(d.Index)
	if err != nil {
		return err
	}
	for _, family := range rtnl.Families {
		routes, err := c.ListRoutes(family, d.Index)
		if err != nil {
			return err
		}
		for _, r := range routes {
			if r.Index == d.Index && r.Table == unix.RT_TABLE_MAIN && r.Type == unix.RTN_UNICAST && r.Protocol == unix.RTPROT_BOOT && !r.More {
				x.Routes = append(x.Routes, routeFrom(r))
			}
		}
	}
	for _, p := range all {
		if !p.Addr().IsLinkLocalUnicast() {
			x.Addresses = append(x.Addresses, attach.Address{Prefix: p, Gateway: gatewayOf(p, x.Routes)})
		}
	}
	return nil
}

// routeFrom is the inverse of routeOf.
func routeFrom(r rtnl.Route) attach.Route {
	const user = 1024 // IP6_RT_PRIO_USER, which stands for none
	found := attach.Route{Dst: r.Dst, Gateway: r.Gateway, MTU: r.MTU, AdvMSS: r.AdvMSS, Priority: int(r.Priority)}
	if r.Dst.Addr().Is6() && r.Priority == user {
		found.Priority = 0
	}
	if !r.Gateway.IsValid() {
		scope := unix.RT_SCOPE_LINK
		found.Scope = &scope
	}
	return found
}

// settings reads what the container's end has in /proc/sys of its namespace.
func (f *finder) settings(x *Found) {
	for _, s := range x.Steps {
		on, _ := proc.Read(proc.Net("ipv6", "conf", x.IfName, "accept_dad"))
		dad := on == "1" && slices.ContainsFunc(x.Addresses, func(a attach.Address) bool { return a.Prefix.Addr().Is6() })
		switch s := s.(type) {
		case *Veth:
			s.DAD = dad
		case *Routed:
			s.DAD = dad
		}
	}
}

// onBridge makes the steps of a veth pair. inside is nil where the other end is not known.
func (f *finder) onBridge(x *Found, host, inside *rtnl.Link) {
	v := &Veth{Hairpin: host.Port.Hairpin, Isolated: host.Port.Isolated, MACSpoofCheck: host.Port.Locked, Down: inside != nil && !inside.Up()}
	bridge := f.links[host.Master]
	if bridge == nil && attach.IsGroup(host.Group) {
		r := &Routed{Group: host.Group}
		if host.MTU != f.way {
			r.MTU = host.MTU
		}
		x.Steps, x.Group = []attach.Step{&Forwarding{Gateway: true}, r}, host.Group
		return
	}
	if bridge == nil {
		x.Steps = []attach.Step{v}
		return
	}
	x.Link, v.Bridge = bridge.Name, bridge.Name
	b := &Bridge{Name: bridge.Name, Promisc: bridge.Flags&unix.IFF_PROMISC != 0, VLANs: bridge.VLANs}
	if bridge.MTU > f.way && f.way != 0 { // else it is that of the way out, or was when it was made
		b.MTU = bridge.MTU
	}
	if inside != nil && inside.MTU != bridge.MTU {
		v.MTU = inside.MTU
	}
	if bridge.VLANs {
		f.inVLAN(v, b, f.vlans[host.Index])
	}
	f.atGateway(x, b, bridge)
	x.Steps = []attach.Step{&Forwarding{Gateway: b.Gateway}, b, v}
}

// inVLAN fills in what a port of a bridge is that filters VLANs.
func (f *finder) inVLAN(v *Veth, b *Bridge, of rtnl.PortVLANs) {
	given := defaultPVID(b.Name)
	if of.Untagged != given {
		v.VLAN = of.Untagged
		v.KeepDefaults = slices.Contains(of.Tagged, given)
		b.KeepDefaults = v.KeepDefaults
	}
	for _, id := range of.Tagged {
		if id != given {
			v.Trunk = append(v.Trunk, id)
		}
	}
	if v.VLAN == 0 {
		return
	}
	gateway := &Bridge{Name: b.Name, GatewayVLAN: v.VLAN}
	for _, d := range f.links {
		if d.Name == gateway.vlanInterface() {
			b.GatewayVLAN = v.VLAN
		}
	}
}

// atGateway looks for the container's gateways on the bridge. One that no route of the
// container's tells, as on a network without a way out, is the bridge's address.
func (f *finder) atGateway(x *Found, b *Bridge, bridge *rtnl.Link) {
	on := bridge.Index
	for _, d := range f.links {
		if b.GatewayVLAN != 0 && d.Name == b.vlanInterface() {
			on = d.Index
		}
	}
	have, _ := f.host.Prefixes(on)
	for i := range x.Addresses {
		a := &x.Addresses[i]
		for _, gw := range have {
			if gw.Masked() != a.Prefix.Masked() {
				continue
			}
			if !a.Gateway.IsValid() {
				a.Gateway = gw.Addr()
			}
			b.Gateway = b.Gateway || gw.Addr() == a.Gateway
		}
	}
	if len(x.Addresses) == 0 && len(have) > 0 { // where nothing is known
		b.Gateway = slices.ContainsFunc(have, func(p netip.Prefix) bool { return !p.Addr().IsLinkLocalUnicast() })
	}
	if !b.Gateway {
		b.GatewayVLAN = 0
	}
}
