package vxlan

import (
	"fmt"
	"net"
)

// mac is an Ethernet address that can be a key.
type mac [6]byte

func (m mac) String() string { return net.HardwareAddr(m[:]).String() }

// macOf takes a unicast address of 48 bits.
func macOf(a net.HardwareAddr) (mac, error) {
	if len(a) != len(mac{}) || a[0]&1 != 0 || mac(a) == (mac{}) {
		return mac{}, fmt.Errorf("MAC %q is not a unicast address of 48 bits", a.String())
	}
	return mac(a), nil
}
