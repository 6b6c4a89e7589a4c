// Package probe finds black holes between VTEPs over the overlay itself: a blocked
// UDP port, a path whose MTU is less than promised, a device that leaves checksums
// undone. Each host answers on its inner address, the one of its VXLAN device, and
// asks its peers' inner addresses.
//
// Questions go out in three ways: plain, checksummed by the kernel before the device
// sees them; offloaded, as containers' packets are, so that the device has to
// complete the checksum; and plain in the whole MTU, never fragmented inside. An
// answer is always plain and small. So what a question finds is about the way there,
// of the asker's host, and a responder with a broken device does not look like a
// fault of the asker's.
package probe

import "encoding/binary"

// Port is the UDP port of responders, on inner addresses only. IANA has not assigned
// it, and it is not one that VXLAN or VXLAN-GPE (4789, 4790, 8472) listens on for
// all addresses.
const Port = 4799

// A message is 20 bytes, big endian, and a question has zeroes behind it:
//
//	magic "brth" 4 | version 1 | kind 1 | size of the question 2 | VNI 4 | nonce 8
const (
	magic       = "brth"
	version     = 1
	messageSize = 20
)

type kind byte

const (
	question kind = 1
	answer   kind = 2
)

// message is a question, or the answer that repeats it.
type message struct {
	kind  kind
	size  uint16 // of the question, bytes of UDP payload
	vni   uint32
	nonce uint64 // of this one packet; nobody off the path can guess it
}

// encode returns the datagram: a question as long as it says, an answer as short as
// can be.
func (m message) encode() []byte {
	size := messageSize
	if m.kind == question {
		size = max(size, int(m.size))
	}
	b := make([]byte, size)
	copy(b, magic)
	b[4], b[5] = version, byte(m.kind)
	binary.BigEndian.PutUint16(b[6:], m.size)
	binary.BigEndian.PutUint32(b[8:], m.vni)
	binary.BigEndian.PutUint64(b[12:], m.nonce)
	return b
}

// decode reads a datagram. It is false for all that is not exactly ours: one that
// was cut off or made longer too.
func decode(b []byte) (message, bool) {
	if len(b) < messageSize || string(b[:4]) != magic || b[4] != version {
		return message{}, false
	}
	m := message{
		kind:  kind(b[5]),
		size:  binary.BigEndian.Uint16(b[6:]),
		vni:   binary.BigEndian.Uint32(b[8:]),
		nonce: binary.BigEndian.Uint64(b[12:]),
	}
	if m.size < messageSize {
		return message{}, false
	}
	switch m.kind {
	case question:
		return m, len(b) == int(m.size)
	case answer:
		return m, len(b) == messageSize
	}
	return message{}, false
}
