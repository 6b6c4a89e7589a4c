package link

import (
	"errors"
	"net"
)

// The limits of an interface, in bytes, and of a VLAN's ID.
const (
	MinMTU  = 68    // RFC 791
	MinMTU6 = 1280  // RFC 8200, section 5; with less the kernel takes IPv6 off the interface
	MaxMTU  = 65535 // the length of an IPv4 packet, RFC 791
	MaxVLAN = 4094  // IEEE 802.1Q
)

// ParseMAC reads the MAC of an interface, in any notation of [net.ParseMAC], and
// returns it in the kernel's: six bytes, not the address of a group, not zero.
func ParseMAC(s string) (string, error) {
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != 6 || hw[0]&1 != 0 || hw.String() == "00:00:00:00:00:00" {
		return "", errors.New("want a unicast MAC of six bytes such as 02:42:ac:11:00:02")
	}
	return hw.String(), nil
}
