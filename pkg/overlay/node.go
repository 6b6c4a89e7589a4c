package overlay

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
)

// Node is a host that takes part in overlay networks, as the store keeps it. Its
// blocks stay its own while it is away, however long.
type Node struct {
	Name string `json:"name"`
	// Token is the secret of who claimed the name: what another host with the name
	// does not have.
	Token string `json:"token"`
	// Address is the node's in the underlay: VXLAN packets come from it and go to it.
	Address netip.Addr `json:"address"`
	MTU     int        `json:"mtu"` // of the underlay's device, in bytes
	// PublicKey is WireGuard's, in base64; empty: the node's agent is one that knows no
	// encrypted networks.
	PublicKey string `json:"publicKey,omitempty"`
	// NextKey is that of the node's second device of each encrypted network, while its
	// keys are rotated: another one than PublicKey until that one has been replaced.
	NextKey string    `json:"nextPublicKey,omitempty"`
	Since   time.Time `json:"since"`
	// Seen is the last time that the node has said that it lives, to within
	// [SeenEvery].
	Seen time.Time `json:"seen"`
}

// SeenEvery is how often a node renews Seen. What is more recent is in [Alive].
const SeenEvery = 6 * time.Hour

// Alive says that a node's agent runs. It goes with the agent, or some seconds after
// its host.
type Alive struct {
	Node string `json:"node"`
	// Instance is the agent's host since its last boot: a copy of the disk has
	// another one.
	Instance string     `json:"instance"`
	Address  netip.Addr `json:"address"`
	Since    time.Time  `json:"since"`
}

// Left says when a node that is away was last alive, as the first that missed it says,
// or itself.
type Left struct {
	Node string    `json:"node"`
	At   time.Time `json:"at"`
}

// Validate returns what is wrong with it.
func (l *Left) Validate() error {
	if err := ValidName(l.Node); err != nil {
		return fmt.Errorf("node: %q: %w", l.Node, err)
	}
	return nil
}

// LastSeen is when a node was last known to live.
func (s *State) LastSeen(node string) time.Time {
	seen := s.Nodes[node].Seen
	if l, ok := s.Left[node]; ok && l.At.After(seen) {
		return l.At
	}
	return seen
}

// Validate returns all that is wrong with the node.
func (n *Node) Validate() error {
	var errs []error
	if err := ValidName(n.Name); err != nil {
		errs = append(errs, fmt.Errorf("name: %q: %w", n.Name, err))
	}
	if n.Token == "" || len(n.Token) > maxName {
		errs = append(errs, fmt.Errorf("token: want 1 to %d bytes, got %d", maxName, len(n.Token)))
	}
	if err := ValidUnderlay(n.Address); err != nil {
		errs = append(errs, fmt.Errorf("address: %s: %w", n.Address, err))
	}
	for name, text := range map[string]string{"publicKey": n.PublicKey, "nextPublicKey": n.NextKey} {
		if key, err := base64.StdEncoding.Strict().DecodeString(text); text != "" && (err != nil || len(key) != 32) {
			errs = append(errs, fmt.Errorf("%s: %q: want 32 bytes in base64", name, text))
		}
	}
	const least = 576 + 50
	if n.MTU < least || n.MTU > 1<<16 {
		errs = append(errs, fmt.Errorf("mtu: %d: want %d to %d bytes", n.MTU, least, 1<<16))
	}
	return errors.Join(errs...)
}

// Validate returns all that is wrong with it.
func (a *Alive) Validate() error {
	var errs []error
	if err := ValidName(a.Node); err != nil {
		errs = append(errs, fmt.Errorf("node: %q: %w", a.Node, err))
	}
	if a.Instance == "" || len(a.Instance) > maxName {
		errs = append(errs, fmt.Errorf("instance: want 1 to %d bytes, got %d", maxName, len(a.Instance)))
	}
	if err := ValidUnderlay(a.Address); err != nil {
		errs = append(errs, fmt.Errorf("address: %s: %w", a.Address, err))
	}
	return errors.Join(errs...)
}

// ValidUnderlay tells what is wrong with a node's underlay address.
func ValidUnderlay(a netip.Addr) error {
	if !a.IsValid() || a.Is4In6() || a.Zone() != "" || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() {
		return errors.New("want a unicast address that other hosts reach")
	}
	return nil
}

// MAC is that of a node's VXLAN device: locally administered, unicast (IEEE 802),
// derived from the names so that every node knows every other's.
func MAC(network, node string) net.HardwareAddr {
	mac := net.HardwareAddr(attach.Digest([]byte(network + "\x00" + node))[10:])
	mac[0] = mac[0]&^1 | 2
	return mac
}
