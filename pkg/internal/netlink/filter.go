package netlink

import "encoding/binary"

// Host32 is a number in the machine's byte order as a filter loads it, which reads the
// network's.
func Host32(v uint32) uint32 {
	return binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, v))
}

// Host16 is [Host32] for two bytes.
func Host16(v uint16) uint32 {
	return uint32(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, v)))
}
