package link

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// The headers of route netlink's messages (rtnetlink(7)), as bytes.

// ifinfomsg is struct ifinfomsg, with flags to switch on; index 0 leaves the link to a name.
func ifinfomsg(family uint8, index int, flags uint32) []byte {
	b := binary.NativeEndian.AppendUint32([]byte{family, 0, 0, 0}, uint32(index))
	b = binary.NativeEndian.AppendUint32(b, flags)
	return binary.NativeEndian.AppendUint32(b, flags) // which of them change
}

// ifaddrmsg is struct ifaddrmsg; the zero Prefix is for a question after all addresses.
func ifaddrmsg(index int, p netip.Prefix) []byte {
	return binary.NativeEndian.AppendUint32([]byte{uint8(family(p.Addr())), uint8(max(p.Bits(), 0)), 0, unix.RT_SCOPE_UNIVERSE}, uint32(index))
}

// rtmsg is struct rtmsg.
func rtmsg(dst netip.Prefix, table, protocol, scope, kind uint8, flags uint32) []byte {
	const source, tos = 0, 0
	b := []byte{uint8(family(dst.Addr())), uint8(dst.Bits()), source, tos, table, protocol, scope, kind}
	return binary.NativeEndian.AppendUint32(b, flags)
}

// ndmsg is struct ndmsg (linux/neighbour.h), with NUD_* and NTF_*.
func ndmsg(family uint8, index int, state uint16, flags uint8) []byte {
	b := binary.NativeEndian.AppendUint32([]byte{family, 0, 0, 0}, uint32(index))
	b = binary.NativeEndian.AppendUint16(b, state)
	return append(b, flags, 0)
}
