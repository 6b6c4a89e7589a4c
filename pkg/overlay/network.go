// Package overlay is the model of the networks that span hosts: what a network, a
// node and a block are, how they are kept in a store, and what a host remembers of
// them.
//
// An overlay network is routed. Each node (a host) owns blocks, prefixes of the
// network's subnet, from which its containers get their addresses; the other nodes
// know a route to each block. State is per node, not per container. A store
// ([Control]) holds networks, nodes and blocks; the node's agent programs the kernel
// from it and writes a [Local] file for each network, which is all that an ADD
// needs: no ADD waits for the store or for the agent.
//
// The package links no store and no server, since the plugin links it.
package overlay

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/berth-cni/berth/pkg/ipam"
	"github.com/berth-cni/berth/pkg/link"
)

// Defaults of a network, and the width of a VNI.
const (
	DefaultPort = 4789      // RFC 7348, section 5
	FirstListen = 51820     // of WireGuard's ports that are chosen: each encrypted network has its own
	MaxVNI      = 1<<24 - 1 // RFC 7348, section 5
	FirstVNI    = 4097      // of those that are chosen: above the VLAN IDs, as Docker has it
)

// Network is an overlay network, as the store keeps it. It does not change once it
// is made.
type Network struct {
	Name string `json:"name"`
	// ID tells a network from another one that had the name before it.
	ID string `json:"id"`
	// Subnets are one prefix of each family, or of one.
	Subnets []netip.Prefix `json:"subnets"`
	// NodePrefix is the length in bits of the blocks of each of Subnets.
	NodePrefix []int `json:"nodePrefix"`
	// VNI is VXLAN's network identifier; it numbers the devices of every network.
	VNI int `json:"vni"`
	// Port is VXLAN's UDP port. An encrypted network has none: an agent that does not
	// know encryption refuses its 0, and so sends nothing of the network in the clear.
	Port int `json:"port"`
	MTU  int `json:"mtu,omitempty"` // bytes; 0: what the underlay leaves

	// Encrypted has WireGuard carry the network in VXLAN's place, from and to the UDP
	// port ListenPort of every node.
	Encrypted  bool `json:"encrypted,omitempty"`
	ListenPort int  `json:"listenPort,omitempty"`

	Internal bool `json:"internal,omitempty"`
	Isolate  bool `json:"isolate,omitempty"`
	NoICC    bool `json:"noicc,omitempty"`
	Names    bool `json:"names,omitempty"` // containers find each other by name
	// PodCIDRs has each node's blocks be what the store's cluster gives it; otherwise nodes
	// choose them.
	PodCIDRs bool `json:"podCIDRs,omitempty"`
	// Sticky says by which name each host keeps the addresses that containers give back
	// there ([ipam.Config.Sticky]).
	Sticky  string            `json:"sticky,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	Created time.Time         `json:"created"`

	// Revision is that of the store at which it got the network; 0 where it does not say.
	Revision int64 `json:"-"`
}

// Same tells whether it is one network that two definitions are of, with one place in
// the kernel: the rest may be followed.
func (n *Network) Same(o *Network) bool {
	return n.Name == o.Name && n.ID == o.ID && n.VNI == o.VNI && n.Encrypted == o.Encrypted && n.UDPPort() == o.UDPPort() && slices.Equal(n.Subnets, o.Subnets) && slices.Equal(n.NodePrefix, o.NodePrefix)
}

// Device is the name of the network's VXLAN device, or WireGuard device, on every node.
func (n *Network) Device() string {
	if n.Encrypted {
		return fmt.Sprintf("wg%d", n.VNI)
	}
	return fmt.Sprintf("vxlan%d", n.VNI)
}

// NextDevice is the second device of an encrypted network, while hosts rotate their keys.
func (n *Network) NextDevice() string { return n.Device() + "n" }

// NextPort is the UDP port of [Network.NextDevice].
func (n *Network) NextPort() int {
	const apart = 10000
	if n.ListenPort+apart > math.MaxUint16 {
		return n.ListenPort - apart
	}
	return n.ListenPort + apart
}

// UDPPort is where the network's packets come in on every node.
func (n *Network) UDPPort() int {
	if n.Encrypted {
		return n.ListenPort
	}
	return n.Port
}

// Overhead is what the network adds to a packet on an underlay of that address's
// family, in bytes: for VXLAN the outer IP, UDP and VXLAN headers, and the inner
// Ethernet header (RFC 7348, section 5); for WireGuard the outer IP and UDP headers, its
// own of 16 bytes and the authentication tag of 16.
func (n *Network) Overhead(underlay netip.Addr) int {
	const ip4, ip6, udp, vxlan, ethernet, wireguard = 20, 40, 8, 8, 14, 16 + 16
	outer := ip4 + udp
	if underlay.Is6() {
		outer = ip6 + udp
	}
	if n.Encrypted {
		return outer + wireguard
	}
	return outer + vxlan + ethernet
}

// Bridge is the name of the network's bridge on every node.
func (n *Network) Bridge() string { return fmt.Sprintf("overlay%d", n.VNI) }

const maxName = 128

// ValidName tells what is wrong with the name of a network or a node. The rule is
// CNI's for a network (SPEC 1.1.0, section 1); it keeps what comes from a store out
// of paths and of other keys.
func ValidName(s string) error {
	bad := s == "" || len(s) > maxName || strings.IndexByte("_.-", s[0]) >= 0
	for _, c := range []byte(s) {
		bad = bad || strings.IndexByte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-", c) < 0
	}
	if bad {
		return fmt.Errorf("want a letter or digit, then letters, digits and any of _.-, %d bytes at most", maxName)
	}
	return nil
}

// SetDefaults fills in what a person need not say. VNI and ListenPort are the store's to
// choose.
func (n *Network) SetDefaults() {
	if n.Port == 0 && !n.Encrypted {
		n.Port = DefaultPort
	}
	for i := len(n.NodePrefix); i < len(n.Subnets); i++ {
		n.NodePrefix = append(n.NodePrefix, defaultBlock(n.Subnets[i]))
	}
}

// defaultBlock is a /24 (IPv4) or a /64 (IPv6), or where the subnet is not wider
// than that, 256 blocks of it.
func defaultBlock(subnet netip.Prefix) int {
	usual, longest := 24, 28
	if subnet.Addr().Is6() {
		usual, longest = 64, 120
	}
	if subnet.Bits() < usual {
		return usual
	}
	return max(subnet.Bits(), min(subnet.Bits()+8, longest))
}

// Choose gives the network what it has not been given: a VXLAN network identifier, and the
// port of an encrypted one, that none of the others has. vnis are more identifiers that are
// taken.
func (n *Network) Choose(others []Network, vnis map[int]bool) {
	vnis, ports := maps.Clone(vnis), map[int]bool{}
	if vnis == nil {
		vnis = map[int]bool{}
	}
	for i := range others {
		vnis[others[i].VNI], ports[others[i].UDPPort()] = true, true
	}
	if n.Encrypted && n.ListenPort == 0 {
		n.ListenPort = firstFree(FirstListen, ports)
	}
	if n.VNI == 0 {
		n.VNI = firstFree(FirstVNI, vnis)
	}
}

func firstFree(from int, taken map[int]bool) int {
	for taken[from] {
		from++
	}
	return from
}

// Validate returns all that is wrong with the network, each with its key, its value
// and what is allowed.
func (n *Network) Validate() error {
	var errs []error
	refuse := func(key string, value any, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %v: %s", key, value, fmt.Sprintf(format, args...)))
	}
	if err := ValidName(n.Name); err != nil {
		refuse("name", fmt.Sprintf("%q", n.Name), "%v", err)
	}
	if n.VNI < 1 || n.VNI > MaxVNI {
		refuse("vni", n.VNI, "want 1 to %d", MaxVNI)
	}
	if port := n.UDPPort(); port < 1 || port > math.MaxUint16 {
		refuse(n.portKey(), port, "want a UDP port, 1 to %d", math.MaxUint16)
	}
	if err := ipam.ValidSticky(n.Sticky); err != nil {
		refuse("sticky", n.Sticky, "%v", err)
	}
	if n.Encrypted && n.Port != 0 {
		refuse("port", n.Port, "want 0: an encrypted network has a listenPort, and none of VXLAN")
	}
	if !n.Encrypted && n.ListenPort != 0 {
		refuse("listenPort", n.ListenPort, "want 0: it is for encrypted networks")
	}
	const minMTU = 576                                          // RFC 791
	maxMTU := link.MaxMTU - n.Overhead(netip.IPv6Unspecified()) // the longest headers
	if n.MTU != 0 && (n.MTU < minMTU || n.MTU > maxMTU) {
		refuse("mtu", n.MTU, "want %d to %d bytes, or 0 for what the underlay leaves", minMTU, maxMTU)
	}
	if len(n.Subnets) == 0 || len(n.Subnets) > 2 || len(n.Subnets) == 2 && n.Subnets[0].Addr().Is4() == n.Subnets[1].Addr().Is4() {
		refuse("subnets", n.Subnets, "want one subnet, or one of IPv4 and one of IPv6")
	}
	if len(n.NodePrefix) != len(n.Subnets) {
		refuse("nodePrefix", n.NodePrefix, "want a length for each of the %d subnets", len(n.Subnets))
		return errors.Join(errs...)
	}
	for i, s := range n.Subnets {
		if why := badSubnet(s); why != "" {
			refuse("subnets", s, "%s", why)
			continue
		}
		if s.Addr().Is6() && n.MTU != 0 && n.MTU < link.MinMTU6 {
			refuse("mtu", n.MTU, "want at least %d bytes for IPv6", link.MinMTU6)
		}
		// Two addresses of a block are its network's and its gateway's, one in IPv4 is
		// its broadcast address.
		if longest := s.Addr().BitLen() - 2; n.NodePrefix[i] < s.Bits() || n.NodePrefix[i] > longest {
			refuse("nodePrefix", n.NodePrefix[i], "want %d (the subnet's own length) to %d for %s", s.Bits(), longest, s)
		}
	}
	return errors.Join(errs...)
}

// portKey is the key of UDPPort.
func (n *Network) portKey() string {
	if n.Encrypted {
		return "listenPort"
	}
	return "port"
}

func badSubnet(s netip.Prefix) string {
	switch {
	case !s.IsValid() || s.Addr().Is4In6() || s.Addr().Zone() != "":
		return "want a prefix such as 10.42.0.0/16 or fd00:42::/48"
	case s != s.Masked():
		return fmt.Sprintf("has host bits set: the network address of this length is %s", s.Masked())
	case s.Bits() < 8:
		return "want a length of 8 or more"
	case s.Addr().IsMulticast() || s.Addr().IsLoopback() || s.Addr().IsLinkLocalUnicast() || s.Addr().IsUnspecified():
		return "want a network of unicast addresses that can be routed"
	}
	return ""
}

// Contains tells whether a block is one of the network's: of a subnet and of the
// length of its blocks.
func (n *Network) Contains(block netip.Prefix) bool {
	for i, s := range n.Subnets {
		if block.IsValid() && block == block.Masked() && s.Addr().Is4() == block.Addr().Is4() &&
			s.Contains(block.Addr()) && i < len(n.NodePrefix) && block.Bits() == n.NodePrefix[i] {
			return true
		}
	}
	return false
}

// Conflict returns how two networks are in each other's way; nil when they are not.
func (n *Network) Conflict(o *Network) error {
	if n.Name == o.Name {
		return fmt.Errorf("name: %q: a network of that name exists", n.Name)
	}
	if n.VNI == o.VNI {
		return fmt.Errorf("vni: %d: is that of network %q", n.VNI, o.Name)
	}
	if n.UDPPort() == o.UDPPort() && (n.Encrypted || o.Encrypted) {
		return fmt.Errorf("%s: %d: is that of network %q", n.portKey(), n.UDPPort(), o.Name)
	}
	for _, mine := range n.Subnets {
		for _, theirs := range o.Subnets {
			if mine.Overlaps(theirs) {
				return fmt.Errorf("subnets: %s: overlaps %s of network %q", mine, theirs, o.Name)
			}
		}
	}
	return nil
}
