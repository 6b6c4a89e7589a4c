package netlink

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Message is one of the kernel's.
type Message struct {
	Kind, Flags uint16 // RTM_NEWLINK, NLM_F_*
	Seq         uint32 // of the request that it answers
	Port        uint32 // of an event: the address of the socket that caused it
	Body        []byte // the protocol's header, then attributes
}

// Messages walks the messages of a datagram. It ends at what is cut off.
func Messages(b []byte) iter.Seq[Message] {
	return func(yield func(Message) bool) {
		for len(b) > 0 {
			m, rest, err := next(b)
			if err != nil || !yield(m) {
				return
			}
			b = rest
		}
	}
}

// next takes the first message of a datagram.
func next(b []byte) (m Message, rest []byte, err error) {
	n := 0
	if len(b) >= unix.NLMSG_HDRLEN {
		n = int(min(binary.NativeEndian.Uint32(b), 1<<31-1))
	}
	if n < unix.NLMSG_HDRLEN || n > len(b) {
		return m, nil, fmt.Errorf("netlink message of %d bytes in %d: %w", n, len(b), unix.EBADMSG)
	}
	m = Message{Kind: binary.NativeEndian.Uint16(b[4:]), Flags: binary.NativeEndian.Uint16(b[6:]),
		Seq: binary.NativeEndian.Uint32(b[8:]), Port: binary.NativeEndian.Uint32(b[12:]), Body: b[unix.NLMSG_HDRLEN:n]}
	return m, b[min(len(b), align(n)):], nil
}

func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// Attrs are the attributes of a message after its protocol's header of so many bytes.
// None when that is cut off.
func (m Message) Attrs(header int) iter.Seq2[uint16, []byte] {
	return Attrs(m.Body[min(header, len(m.Body)):])
}

// Find is [Find] among the attributes after a protocol's header of so many bytes.
func (m Message) Find(header int, kinds ...uint16) []byte {
	return Find(m.Body[min(header, len(m.Body)):], kinds...)
}

// Attrs walks attributes (struct nlattr), those within another too. The kinds are
// without their flag bits. It ends at what is cut off.
func Attrs(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofNlAttr {
			n := int(binary.NativeEndian.Uint16(b))
			if n < unix.SizeofNlAttr || n > len(b) {
				return
			}
			const flags = unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER
			if !yield(binary.NativeEndian.Uint16(b[2:])&^flags, b[unix.SizeofNlAttr:n]) {
				return
			}
			b = b[min(len(b), align(n)):]
		}
	}
}

// Find returns the first attribute of a kind; with more kinds, that one within it, and
// so on. nil when there is none.
func Find(b []byte, kinds ...uint16) []byte {
	for _, want := range kinds {
		var found []byte
		for kind, value := range Attrs(b) {
			if kind == want {
				found = value
				break
			}
		}
		b = found
	}
	return b
}

// Uint32 reads a number in the machine's byte order; 0 if it is cut off.
func Uint32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(b)
}

// Uint16 reads a number in the machine's byte order; 0 if it is cut off.
func Uint16(b []byte) uint16 {
	if len(b) < 2 {
		return 0
	}
	return binary.NativeEndian.Uint16(b)
}

// Uint8 reads a number of one byte; 0 if there is none.
func Uint8(b []byte) uint8 {
	if len(b) == 0 {
		return 0
	}
	return b[0]
}

// Text reads a string, which may end with a zero.
func Text(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}

// Addr reads an address of 4 or 16 bytes; else the zero Addr.
func Addr(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}

// AppendUint32 appends a number in the machine's byte order.
func AppendUint32(b []byte, v uint32) []byte { return binary.NativeEndian.AppendUint32(b, v) }
