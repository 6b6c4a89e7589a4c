package vxlan

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// Peer is another host of the network.
type Peer struct {
	Name     string
	Underlay netip.Addr       // where its VTEP is
	MAC      net.HardwareAddr // of its VXLAN device
	// Blocks are what is routed to it. The network address of its first block of a
	// family is its own address inside, and the next hop.
	Blocks []netip.Prefix
	MTU    int // of its VXLAN device; 0: as ours
	// Key is what a [Tunnel] knows the peer by; MAC is VXLAN's.
	Key [32]byte
	// Standby peers are known to a [Tunnel], and no route leads to them.
	Standby bool
}

func (p *Peer) validate(d *Device) error {
	var errs []error
	if p.Name == "" {
		errs = append(errs, errors.New("it has no name"))
	}
	if d.Tunnel != nil {
		if p.Key == [32]byte{} {
			errs = append(errs, errors.New("it has no public key"))
		}
	} else if _, err := eui48(p.MAC); err != nil {
		errs = append(errs, err)
	}
	if err := validUnderlay(p.Underlay); err != nil {
		errs = append(errs, err)
	} else if p.Underlay.Is4() != d.Local.Is4() || p.Underlay == d.Local {
		errs = append(errs, fmt.Errorf("underlay address %s is ours, or not of the family of ours, %s", p.Underlay, d.Local))
	}
	for _, b := range p.Blocks {
		if err := validPrefix(b); err != nil {
			errs = append(errs, err)
		} else if !d.contains(b) {
			errs = append(errs, fmt.Errorf("block %s is in no subnet of the network", b))
		}
	}
	if least := d.minMTU(); p.MTU != 0 && p.MTU < least {
		errs = append(errs, fmt.Errorf("MTU %d is less than %d", p.MTU, least))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("peer %q: %w", p.Name, err)
	}
	return nil
}

// inner returns the peer's own address of a family inside; the zero Addr if it has no
// block of that family.
func (p *Peer) inner(v4 bool) netip.Addr {
	for _, b := range p.Blocks {
		if b.Addr().Is4() == v4 {
			return b.Addr()
		}
	}
	return netip.Addr{}
}

// inners are the peer's own addresses inside.
func (p *Peer) inners() []netip.Addr {
	var all []netip.Addr
	for _, v4 := range []bool{true, false} {
		if a := p.inner(v4); a.IsValid() {
			all = append(all, a)
		}
	}
	return all
}

// routed are the blocks that routes lead to.
func (p *Peer) routed() []netip.Prefix {
	if p.Standby {
		return nil
	}
	return p.Blocks
}

func (p *Peer) clone() Peer {
	c := *p
	c.MAC, c.Blocks = slices.Clone(p.MAC), slices.Clone(p.Blocks)
	return c
}
