package firewall

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/internal/nftnl"
)

// Tunnel is what the host's firewall is to know of an overlay network, whether or
// not a container of it is here.
type Tunnel struct {
	Device   string // of VXLAN
	Bridge   string // of the network's containers on this host, made or not yet
	Port     int    // UDP of VXLAN; 0: it is not VXLAN's, and authenticates its packets itself
	VNI      int    // 24 bits
	Internal bool   // as in [Rules], like the next two
	Isolate  bool
	NoICC    bool
	Peers    []VTEP // the other hosts
}

// VTEP is where another host's packets come from, and what they may have inside: its
// blocks of the network are the senders.
type VTEP struct {
	Address netip.Addr // in the underlay
	Blocks  []netip.Prefix
}

// records returns every record of the host.
type records = func(context.Context) ([]*attach.Attachment, error)

// SyncTunnels makes what the backend holds for tunnels what is wanted: it adds
// what is missing and removes what is too much. all returns every record of the
// host (nil: none): with them the table is made where it is gone, damaged or of
// another version, and what a container's network asks for is left where it is,
// also when its tunnel is not wanted any more.
//
// With each network and peer that costs one element that is read, and one that is
// written where it differs. Whoever does not know the wanted state (a store that is
// away) must not call it with less.
//
// VXLAN packets to the port and VNI of a tunnel are dropped unless a peer sent
// them, with a sender inside from one of its blocks. From a flush of the host's firewall until the next SyncTunnels they are
// accepted: the agent, which package watch wakes, is away for less than a second, and a
// filter that a container's ADD restored without the peers would cut the host off.
//
// That filter is nftables' with either backend. iptables has no match for a VNI
// but u32 and bpf, which look for it at an offset from the network header that an
// IPv6 sender can shift, and ipset has no set of (address, port, VNI), so that every
// network would need sets and rules of its own. A kernel without nftables is an
// error; iptables' own rules are made all the same.
func SyncTunnels(ctx context.Context, name string, tunnels []Tunnel, all func(context.Context) ([]*attach.Attachment, error)) error {
	b, err := backendOf(name)
	if err == nil {
		err = b.syncTunnels(ctx, tunnels, all)
	}
	if err != nil {
		return fmt.Errorf("sync %s firewall of %d tunnels: %w", name, len(tunnels), err)
	}
	return nil
}

// AddPeer accepts the VXLAN packets of one more peer of a tunnel. An error that
// matches [io/fs.ErrNotExist] says that the table is gone: [SyncTunnels] makes it.
func AddPeer(port, vni int, peer VTEP) error {
	s, err := dial()
	if err == nil {
		err = s.Write(peer.elements(port, vni))
	}
	if err != nil {
		return fmt.Errorf("accept VXLAN packets (port %d, VNI %d) of %s: %w", port, vni, peer.Address, err)
	}
	return nil
}

// RemovePeer drops the VXLAN packets of a peer that was, but for what the others have
// as well. One that is not there counts as removed.
func RemovePeer(port, vni int, peer VTEP, others []VTEP) error {
	var kept []nftnl.Element
	for i := range others {
		kept = append(kept, others[i].elements(port, vni)...)
	}
	s, err := dial()
	if err == nil {
		err = s.Remove(nftnl.Pick(peer.elements(port, vni), kept, nftnl.Element.Place, false))
	}
	if err != nil {
		return fmt.Errorf("drop VXLAN packets (port %d, VNI %d) of %s: %w", port, vni, peer.Address, err)
	}
	return nil
}

// tunnel is what the network has to do with other hosts, as its containers know it.
func (r *Rules) tunnel() *Tunnel {
	return &Tunnel{Device: r.Overlay, Bridge: r.Bridge, Port: r.OverlayPort, Internal: r.Internal, Isolate: r.Isolate, NoICC: r.NoICC}
}

// networkElements are what agent and containers add alike.
func (t *Tunnel) networkElements() []nftnl.Element {
	device, bridge := nftnl.Name(t.Device), nftnl.Name(t.Bridge)
	all := []nftnl.Element{
		{Set: overlay, Key: device, Lasting: true},
		{Set: ways, Key: device, Lasting: true},
		{Set: same, Key: nftnl.Join(bridge, device), Lasting: true},
		{Set: same, Key: nftnl.Join(device, bridge), Lasting: true},
		{Set: inside, Key: device, Lasting: true},
		{Set: inside, Key: bridge, Lasting: true},
	}
	all = append(all, t.portElements()...)
	for _, m := range []struct {
		set string
		on  bool
	}{{noICC, t.NoICC}, {internal, t.Internal}, {isolated, t.Isolate}} {
		if m.on {
			all = append(all, nftnl.Element{Set: m.set, Key: device, Lasting: true})
		}
	}
	return all
}

// portElements are the UDP ports to which nobody but this host sends.
func (t *Tunnel) portElements() []nftnl.Element {
	all := []nftnl.Element{{Set: tunnelPorts, Key: nftnl.Port(standardPort), Lasting: true}}
	if t.Port != 0 && t.Port != standardPort { // 0: a record of an earlier version
		all = append(all, nftnl.Element{Set: tunnelPorts, Key: nftnl.Port(uint16(t.Port)), Lasting: true})
	}
	return all
}

// guardElements are the filter of the tunnel's packets: the peers come before the
// port and VNI that are filtered.
func (t *Tunnel) guardElements() []nftnl.Element {
	if t.Port == 0 {
		return nil
	}
	all := make([]nftnl.Element, 0, 3*len(t.Peers)+1)
	for _, p := range merged(t.Peers) {
		all = append(all, p.elements(t.Port, t.VNI)...)
	}
	return append(all, nftnl.Element{Set: overlays, Key: nftnl.Join(nftnl.Port(uint16(t.Port)), vniKey(t.VNI)), Lasting: true})
}

// elements are what lets the peer's packets of a network in: its blocks come first.
func (v *VTEP) elements(port, vni int) []nftnl.Element {
	peer := v.Address.Unmap().WithZone("")
	set := vteps4
	if peer.Is6() {
		set = vteps6
	}
	return append(v.innerElements(), nftnl.Element{Set: set, Key: nftnl.Join(peer.AsSlice(), nftnl.Port(uint16(port)), vniKey(vni)), Lasting: true})
}

// merged has each address once: that two hosts have one is a fault of one of them.
func merged(peers []VTEP) (all []VTEP) {
	at := map[netip.Addr]int{}
	for _, p := range peers {
		i, ok := at[p.Address]
		if !ok {
			at[p.Address] = len(all)
			all = append(all, p)
			continue
		}
		all[i].Blocks = slices.Concat(all[i].Blocks, p.Blocks)
	}
	return all
}

// vniKey is the word that has a VNI in its first 24 bits.
func vniKey(vni int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(vni)<<8) }
