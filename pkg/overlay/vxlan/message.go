package vxlan

import (
	"encoding/binary"
	"fmt"
	"iter"
	"net/netip"

	"golang.org/x/sys/unix"
)

// batch is requests that go out together. They are built in one buffer: five
// thousand peers are twenty thousand requests.
type batch struct {
	buf  []byte
	reqs []request
}

// request is what one request of a batch is for, and where it ends.
type request struct {
	verb  string // "add route"
	thing any    // what to
	peer  string // whose; empty for the device's own
	gone  bool   // it deletes: what is not there counts as deleted
	end   int
}

func (r request) String() string {
	s := r.verb
	if r.thing != nil {
		s = fmt.Sprintf("%s %v", s, r.thing)
	}
	if r.peer != "" {
		s += " of " + r.peer
	}
	return s
}

// begin returns where a request starts.
func (b *batch) begin(i int) int {
	if i == 0 {
		return 0
	}
	return b.reqs[i-1].end
}

// add starts a request with its header; attributes follow, then finish.
func (b *batch) add(r request, kind, flags uint16, header ...byte) {
	b.buf = append(b.buf, 0, 0, 0, 0)
	b.buf = binary.NativeEndian.AppendUint16(b.buf, kind)
	b.buf = binary.NativeEndian.AppendUint16(b.buf, flags|unix.NLM_F_REQUEST)
	b.buf = append(b.buf, 0, 0, 0, 0, 0, 0, 0, 0) // sequence, port
	b.buf = append(b.buf, header...)
	b.reqs = append(b.reqs, r)
}

// finish ends the request that was added last.
func (b *batch) finish() {
	last := len(b.reqs) - 1
	b.reqs[last].end = len(b.buf)
	start := b.begin(last)
	binary.NativeEndian.PutUint32(b.buf[start:], uint32(len(b.buf)-start))
}

func (b *batch) attr(kind uint16, value []byte) {
	b.buf = binary.NativeEndian.AppendUint16(b.buf, uint16(unix.SizeofRtAttr+len(value)))
	b.buf = binary.NativeEndian.AppendUint16(b.buf, kind)
	b.buf = append(b.buf, value...)
	for len(b.buf)%unix.NLMSG_ALIGNTO != 0 {
		b.buf = append(b.buf, 0)
	}
}

func (b *batch) uint32(kind uint16, v uint32) {
	var value [4]byte
	b.attr(kind, appendUint32(value[:0], v))
}

func (b *batch) text(kind uint16, s string) { b.attr(kind, append([]byte(s), 0)) }

func (b *batch) addr(kind uint16, a netip.Addr) {
	if a.Is4() {
		v := a.As4()
		b.attr(kind, v[:])
		return
	}
	v := a.As16()
	b.attr(kind, v[:])
}

// nest puts the attributes that fill makes into one.
func (b *batch) nest(kind uint16, fill func()) {
	start := len(b.buf)
	b.attr(kind, nil)
	fill()
	binary.NativeEndian.PutUint16(b.buf[start:], uint16(len(b.buf)-start))
}

// message is one of the kernel's, without its header.
type message struct {
	kind, flags uint16
	seq         uint32
	body        []byte
}

// messages walks what one receive returned. It ends at what is cut off.
func messages(b []byte) iter.Seq[message] {
	return func(yield func(message) bool) {
		for len(b) >= unix.NLMSG_HDRLEN {
			n := int(binary.NativeEndian.Uint32(b))
			if n < unix.NLMSG_HDRLEN || n > len(b) {
				return
			}
			m := message{binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:]),
				binary.NativeEndian.Uint32(b[8:]), b[unix.NLMSG_HDRLEN:n]}
			if !yield(m) {
				return
			}
			b = b[min(len(b), align(n)):]
		}
	}
}

// attributes walks the attributes of a message. It ends at what is cut off.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofRtAttr {
			n := int(binary.NativeEndian.Uint16(b))
			if n < unix.SizeofRtAttr || n > len(b) {
				return
			}
			const flags = 0xc000 // NLA_F_NESTED, NLA_F_NET_BYTEORDER
			if !yield(binary.NativeEndian.Uint16(b[2:])&^flags, b[unix.SizeofRtAttr:n]) {
				return
			}
			b = b[min(len(b), align(n)):]
		}
	}
}

func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// uint32Of reads a number in the machine's byte order; 0 if it is cut off.
func uint32Of(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(b)
}

func appendUint32(b []byte, v uint32) []byte { return binary.NativeEndian.AppendUint32(b, v) }

func text(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// addrOf reads an address; the zero Addr if it is of neither family.
func addrOf(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}

// families are those of what is inside the tunnel.
var families = []uint8{unix.AF_INET, unix.AF_INET6}

func family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
