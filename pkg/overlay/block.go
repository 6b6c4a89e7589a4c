package overlay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/berth-cni/berth/pkg/attach"
)

// Block is a prefix of a network's subnet that a node owns.
type Block struct {
	Network string       `json:"network"`
	Prefix  netip.Prefix `json:"prefix"`
	Node    string       `json:"node"`
	Token   string       `json:"token"` // the node's
	// Used says that containers have addresses of it.
	Used bool `json:"used,omitempty"`
}

// BlockKey names a block.
type BlockKey struct {
	Network string
	Prefix  netip.Prefix
}

// Key returns the block's name.
func (b Block) Key() BlockKey { return BlockKey{b.Network, b.Prefix} }

// Validate returns all that is wrong with the block by itself.
func (b *Block) Validate() error {
	var errs []error
	if err := ValidName(b.Network); err != nil {
		errs = append(errs, fmt.Errorf("network: %q: %w", b.Network, err))
	}
	if err := ValidName(b.Node); err != nil {
		errs = append(errs, fmt.Errorf("node: %q: %w", b.Node, err))
	}
	if why := badSubnet(b.Prefix); why != "" {
		errs = append(errs, fmt.Errorf("prefix: %s: %s", b.Prefix, why))
	}
	if b.Token == "" || len(b.Token) > maxName {
		errs = append(errs, fmt.Errorf("token: want 1 to %d bytes, got %d", maxName, len(b.Token)))
	}
	return errors.Join(errs...)
}

// Gateway is the block's first address, which the node's bridge has.
func Gateway(block netip.Prefix) netip.Addr { return block.Addr().Next() }

// ErrNoBlockLeft: all blocks of a subnet are owned.
var ErrNoBlockLeft = errors.New("every block is owned by a node: 'berth node rm' gives those of a host that is gone back")

// ChooseBlock returns a block of the i-th subnet that nobody has. The search starts
// at a place that follows from the node's name: nodes that come at the same time
// choose different blocks, and one that comes again is likely to get what it had.
func (n *Network) ChooseBlock(i int, node string, taken func(netip.Prefix) bool) (netip.Prefix, error) {
	subnet, bits := n.Subnets[i], n.NodePrefix[i]
	count := uint64(1) << min(bits-subnet.Bits(), 63)
	// Of the hash the last bits: the first are nearly the same for host1 and host2.
	start := binary.BigEndian.Uint64(attach.Digest([]byte(n.Name + "\x00" + node))[8:]) % count
	const most = 1 << 20 // of them, more than any store holds
	for k := range min(count, most) {
		p := nth(subnet, bits, (start+k)%count)
		if !taken(p) {
			return p, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("subnet %s of network %s: %w", subnet, n.Name, ErrNoBlockLeft)
}

// nth returns the n-th prefix of a length within a subnet.
func nth(subnet netip.Prefix, bits int, n uint64) netip.Prefix {
	a := subnet.Addr().As16()
	end := 128 - subnet.Addr().BitLen() + bits // the block's last bit, counted in 16 bytes
	for bit := 0; n != 0; bit++ {
		if n&1 != 0 {
			at := end - 1 - bit
			a[at/8] |= 1 << (7 - at%8)
		}
		n >>= 1
	}
	addr := netip.AddrFrom16(a)
	if subnet.Addr().Is4() {
		addr = addr.Unmap()
	}
	return netip.PrefixFrom(addr, bits)
}

// Last returns the last address of a block.
func Last(block netip.Prefix) netip.Addr {
	a := block.Addr().AsSlice()
	for bit := block.Bits(); bit < len(a)*8; bit++ {
		a[bit/8] |= 1 << (7 - bit%8)
	}
	addr, _ := netip.AddrFromSlice(a)
	return addr
}
