package firewall

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"

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
	Peers    []netip.Addr // the underlay addresses of the other hosts
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
// them. From a flush of the host's firewall until the next SyncTunnels they are
// accepted: the agent, which [Watch] wakes, is away for less than a second, and a
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
func AddPeer(port, vni int, peer netip.Addr) error {
	s, err := dial()
	if err == nil {
		err = s.Write([]nftnl.Element{peerElement(port, vni, peer)})
	}
	if err != nil {
		return fmt.Errorf("accept VXLAN packets (port %d, VNI %d) of %s: %w", port, vni, peer, err)
	}
	return nil
}

// RemovePeer drops the VXLAN packets of a peer that was. One that is not there
// counts as removed.
func RemovePeer(port, vni int, peer netip.Addr) error {
	s, err := dial()
	if err == nil {
		err = s.Remove([]nftnl.Element{peerElement(port, vni, peer)})
	}
	if err != nil {
		return fmt.Errorf("drop VXLAN packets (port %d, VNI %d) of %s: %w", port, vni, peer, err)
	}
	return nil
}

// tunnel is what the network has to do with other hosts, as its containers know it.
func (r *Rules) tunnel() *Tunnel {
	return &Tunnel{Device: r.Overlay, Bridge: r.Bridge, Internal: r.Internal, Isolate: r.Isolate, NoICC: r.NoICC}
}

// networkElements are what agent and containers add alike.
func (t *Tunnel) networkElements() []nftnl.Element {
	device, bridge := nftnl.Name(t.Device), nftnl.Name(t.Bridge)
	all := []nftnl.Element{
		{Set: overlay, Key: device, Lasting: true},
		{Set: ways, Key: device, Lasting: true},
		{Set: same, Key: nftnl.Join(bridge, device), Lasting: true},
		{Set: same, Key: nftnl.Join(device, bridge), Lasting: true},
	}
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

// guardElements are the filter of the tunnel's packets: the peers come before the
// port and VNI that are filtered.
func (t *Tunnel) guardElements() []nftnl.Element {
	if t.Port == 0 {
		return nil
	}
	all := make([]nftnl.Element, 0, len(t.Peers)+1)
	for _, p := range t.Peers {
		all = append(all, peerElement(t.Port, t.VNI, p))
	}
	return append(all, nftnl.Element{Set: overlays, Key: nftnl.Join(nftnl.Port(uint16(t.Port)), vniKey(t.VNI)), Lasting: true})
}

func peerElement(port, vni int, peer netip.Addr) nftnl.Element {
	peer = peer.Unmap().WithZone("")
	set := vteps4
	if peer.Is6() {
		set = vteps6
	}
	return nftnl.Element{Set: set, Key: nftnl.Join(peer.AsSlice(), nftnl.Port(uint16(port)), vniKey(vni)), Lasting: true}
}

// vniKey is the word that has a VNI in its first 24 bits.
func vniKey(vni int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(vni)<<8) }
