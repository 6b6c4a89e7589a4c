package vxlan

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/berth-cni/berth/pkg/internal/rtnl"
	"golang.org/x/sys/unix"
)

// eui48 takes a unicast address of 48 bits.
func eui48(a net.HardwareAddr) (rtnl.EUI48, error) {
	if len(a) != len(rtnl.EUI48{}) || a[0]&1 != 0 || rtnl.EUI48(a) == (rtnl.EUI48{}) {
		return rtnl.EUI48{}, fmt.Errorf("MAC %q is not a unicast address of 48 bits", a.String())
	}
	return rtnl.EUI48(a), nil
}

// fdbEntry has frames for the peer's MAC go to its VTEP.
func (p *Peer) fdbEntry(index int) rtnl.FDBEntry {
	return rtnl.FDBEntry{Index: index, MAC: rtnl.EUI48(p.MAC), Dst: p.Underlay, State: unix.NUD_PERMANENT}
}

// neighbour is the entry of one of the peer's inner addresses.
func (p *Peer) neighbour(index int, a netip.Addr) rtnl.Neighbour {
	return rtnl.Neighbour{Index: index, Addr: a, MAC: rtnl.EUI48(p.MAC), State: unix.NUD_PERMANENT}
}

// resolving reports whether the entry is one of the kernel's, which looks for somebody
// who is not there: it forgets it by itself.
func resolving(n rtnl.Neighbour) bool { return n.MAC == rtnl.EUI48{} }

// permanent reports whether an address is here to stay.
func permanent(a rtnl.Address) bool {
	return a.Flags&unix.IFA_F_PERMANENT != 0 && a.Flags&unix.IFA_F_DADFAILED == 0
}

// ownAddress is an address of the device. Nobody else has it, so IPv6 does not look for
// a duplicate.
func ownAddress(index int, a netip.Addr) rtnl.Address {
	own := rtnl.Address{Index: index, Prefix: rtnl.HostPrefix(a)}
	if a.Is6() {
		own.Flags = unix.IFA_F_NODAD
	}
	return own
}
