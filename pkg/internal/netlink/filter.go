package netlink

import (
	"encoding/binary"

	"golang.org/x/net/bpf"
)

// A filter ends with one of these: the message reaches the socket, or does not.
var (
	Pass bpf.Instruction = bpf.RetConstant{Val: 1<<32 - 1}
	Drop bpf.Instruction = bpf.RetConstant{Val: 0}
)

// Case is what a filter does when the number that it has loaded is v. The block ends with
// [Pass] or [Drop], or the filter goes on after it with what the block has loaded.
func Case(v uint32, block ...bpf.Instruction) []bpf.Instruction {
	return append([]bpf.Instruction{bpf.JumpIf{Cond: bpf.JumpEqual, Val: v, SkipFalse: uint8(len(block))}}, block...)
}

// Load16 and Load32 load what is at an offset of the message, Load8 a byte. Netlink has
// the machine's byte order, a filter reads the network's: they are compared with
// [Host16] and [Host32].
func Load8(offset uint32) bpf.Instruction  { return bpf.LoadAbsolute{Off: offset, Size: 1} }
func Load16(offset uint32) bpf.Instruction { return bpf.LoadAbsolute{Off: offset, Size: 2} }
func Load32(offset uint32) bpf.Instruction { return bpf.LoadAbsolute{Off: offset, Size: 4} }

// Host32 is a number in the machine's byte order as a filter loads it.
func Host32(v uint32) uint32 {
	return binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, v))
}

// Host16 is [Host32] for two bytes.
func Host16(v uint16) uint32 {
	return uint32(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, v)))
}
