package rtnl

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Ifinfomsg is struct ifinfomsg, with flags (IFF_UP) to switch on; index 0 leaves it to
// a name which link.
func Ifinfomsg(family uint8, index int, flags uint32) []byte {
	b := binary.NativeEndian.AppendUint32([]byte{family, 0, 0, 0}, uint32(index))
	b = binary.NativeEndian.AppendUint32(b, flags)
	return binary.NativeEndian.AppendUint32(b, flags) // which of them change
}

// Ndmsg is struct ndmsg (linux/neighbour.h), with NUD_* and NTF_*.
func Ndmsg(family uint8, index int, state uint16, flags uint8) []byte {
	b := binary.NativeEndian.AppendUint32([]byte{family, 0, 0, 0}, uint32(index))
	b = binary.NativeEndian.AppendUint16(b, state)
	return append(b, flags, 0)
}

// ifaddrmsg is struct ifaddrmsg; the zero Prefix is for a question after all addresses.
func ifaddrmsg(index int, p netip.Prefix) []byte {
	return binary.NativeEndian.AppendUint32([]byte{Family(p.Addr()), uint8(max(p.Bits(), 0)), 0, unix.RT_SCOPE_UNIVERSE}, uint32(index))
}
