package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/berth-cni/berth/integration/sandbox"
	"github.com/berth-cni/berth/pkg/overlay"
)

// Peer is a node on one network, as the others have to know it.
type Peer struct {
	Name    string
	Address netip.Addr // underlay
	MTU     int        // of the VXLAN device there, bytes
	Key     string     // WireGuard's public key, in base64; empty: none
	Blocks  []netip.Prefix
}

// Peer is what the host is on a network, from what its agent has written for the
// plugin, and from its own addresses: IPv6 when the underlay is.
func (h *Host) Peer(network string, underlay6 bool) (Peer, error) {
	p := Peer{Name: h.Name, Address: h.Addr4}
	if underlay6 {
		p.Address = h.Addr6
	}
	return p, h.Do(func() error {
		l, err := overlay.ReadLocal(overlay.DefaultDataDir, network)
		if err != nil {
			return fmt.Errorf("host %s: %w", h.Name, err)
		}
		p.MTU, p.Blocks = l.MTU, l.Blocks
		key, err := os.ReadFile(filepath.Join(overlay.DefaultDataDir, "wireguard", "public.key"))
		p.Key = strings.TrimSpace(string(key))
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return err
	})
}

// nextHops are the node's own addresses inside of the network: the network address of its
// first block of each family.
func (p Peer) nextHops() []netip.Addr {
	var hops []netip.Addr
	for _, b := range p.Blocks {
		if len(hops) == 0 || len(hops) == 1 && hops[0].Is4() != b.Addr().Is4() {
			hops = append(hops, b.Addr())
		}
	}
	return hops
}

// nextHop is the one of the block's family.
func (p Peer) nextHop(block netip.Prefix) netip.Addr {
	for _, a := range p.nextHops() {
		if a.Is4() == block.Addr().Is4() {
			return a
		}
	}
	return netip.Addr{}
}

// VNIWord is a VNI as the firewall's sets have it: the header's word that it is in, the
// last byte of which is zero.
func VNIWord(n overlay.Network) int { return n.VNI << 8 }

// vteps is the set of those who may send, for an underlay's family.
func vteps(underlay netip.Addr) string {
	if underlay.Is6() {
		return "vteps6"
	}
	return "vteps4"
}

// version is that of IP.
func version(a netip.Addr) int {
	if a.Is6() {
		return 6
	}
	return 4
}

// routeProtocol marks the overlay's routes (rtm_protocol), unreachableMetric those to
// what nobody owns.
const (
	routeProtocol     = 98
	unreachableMetric = 4278198272
)

// Wanted is what [Host.Overlay] has to find on a node, given all nodes of the network,
// itself among them or not.
func Wanted(n overlay.Network, self Peer, all []Peer) sandbox.Snapshot {
	if n.Encrypted {
		return wantedEncrypted(n, self, all)
	}
	s := sandbox.Snapshot{"fdb": nil, "neighbour": nil}
	add := func(section, format string, args ...any) {
		s[section] = append(s[section], fmt.Sprintf(format, args...))
	}
	add("link", "%s vni %d local %s port %d learning false mtu %d up true mode none", overlay.MAC(n.Name, self.Name), n.VNI, self.Address, n.Port, self.MTU)
	add("firewall", "overlays %d %d", n.Port, VNIWord(n))
	add("sysctl", "rp_filter 2")
	add("sysctl", "accept_ra 0")
	for _, a := range self.nextHops() {
		add("address", "%s/%d", a, a.BitLen())
	}
	for _, subnet := range n.Subnets {
		add("route", "unreachable %s metric %d proto %d", subnet, uint32(unreachableMetric), routeProtocol)
	}
	for _, p := range all {
		if p.Name == self.Name {
			continue
		}
		mac := overlay.MAC(n.Name, p.Name)
		add("firewall", "%s %s %d %d", vteps(p.Address), p.Address, n.Port, VNIWord(n))
		for _, b := range p.Blocks {
			add("firewall", "inner%d%d %s %s-%s", version(p.Address), version(b.Addr()), p.Address, b.Addr(), overlay.Last(b))
		}
		add("fdb", "%s dst %s permanent", mac, p.Address)
		for _, a := range p.nextHops() {
			add("neighbour", "%s %s permanent", a, mac)
		}
		for _, b := range p.Blocks {
			mtu := ""
			if p.MTU < self.MTU {
				mtu = fmt.Sprintf(" mtu %d", p.MTU)
			}
			add("route", "%s via %s onlink proto %d%s", b, p.nextHop(b), routeProtocol, mtu)
		}
	}
	for _, lines := range s {
		sort.Strings(lines)
	}
	return s
}
