package netlink

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Request is a message to the kernel: its header (struct nlmsghdr), the protocol's own
// (struct ifinfomsg), and attributes, each padded to 4 bytes. Its methods append to it
// and return it. The sequence number is set when it goes out.
type Request struct {
	buf      []byte
	question bool
}

// NewRequest starts a request for a change (NLM_F_REQUEST is implied). header is the
// protocol's own.
func NewRequest(kind, flags uint16, header []byte) *Request {
	const usual = 128 // bytes of a request with its attributes
	r := &Request{buf: make([]byte, unix.NLMSG_HDRLEN, usual)}
	binary.NativeEndian.PutUint16(r.buf[4:], kind)
	binary.NativeEndian.PutUint16(r.buf[6:], flags|unix.NLM_F_REQUEST)
	r.buf = append(r.buf, header...)
	return r
}

// NewQuestion starts a request that changes nothing and is answered by one message, or
// for [List] by many.
func NewQuestion(kind uint16, header []byte) *Request {
	r := NewRequest(kind, 0, header)
	r.question = true
	return r
}

// Raw appends bytes: a protocol's header within an attribute.
func (r *Request) Raw(b []byte) *Request {
	r.buf = append(r.buf, b...)
	return r
}

// Bytes appends an attribute.
func (r *Request) Bytes(kind uint16, value []byte) *Request {
	r.start(kind, len(value))
	r.buf = append(r.buf, value...)
	return r.pad()
}

// Text appends a string that ends with a zero.
func (r *Request) Text(kind uint16, s string) *Request {
	r.start(kind, len(s)+1)
	r.buf = append(append(r.buf, s...), 0)
	return r.pad()
}

// Uint8 appends a number.
func (r *Request) Uint8(kind uint16, v uint8) *Request {
	r.start(kind, 1)
	r.buf = append(r.buf, v)
	return r.pad()
}

// Uint16 appends a number in the machine's byte order.
func (r *Request) Uint16(kind, v uint16) *Request {
	r.start(kind, 2)
	r.buf = binary.NativeEndian.AppendUint16(r.buf, v)
	return r.pad()
}

// Uint32 appends a number in the machine's byte order.
func (r *Request) Uint32(kind uint16, v uint32) *Request {
	r.start(kind, 4)
	r.buf = binary.NativeEndian.AppendUint32(r.buf, v)
	return r
}

// Addr appends an address: 4 bytes or 16.
func (r *Request) Addr(kind uint16, a netip.Addr) *Request {
	if a.Is4() {
		v := a.As4()
		return r.Bytes(kind, v[:])
	}
	v := a.As16()
	return r.Bytes(kind, v[:])
}

// Nest appends an attribute (NLA_F_NESTED) whose content fill appends.
func (r *Request) Nest(kind uint16, fill func()) *Request {
	at := len(r.buf)
	r.start(kind|unix.NLA_F_NESTED, 0)
	fill()
	binary.NativeEndian.PutUint16(r.buf[at:], uint16(len(r.buf)-at))
	return r
}

// start appends the header of an attribute (struct nlattr) with so many bytes.
func (r *Request) start(kind uint16, size int) {
	r.buf = binary.NativeEndian.AppendUint16(r.buf, uint16(unix.SizeofNlAttr+size))
	r.buf = binary.NativeEndian.AppendUint16(r.buf, kind)
}

func (r *Request) pad() *Request {
	for len(r.buf)%unix.NLMSG_ALIGNTO != 0 {
		r.buf = append(r.buf, 0)
	}
	return r
}

// Append appends the request as it goes out, as the one of a sequence number and with
// more flags (NLM_F_ACK).
func (r *Request) Append(b []byte, seq uint32, flags uint16) []byte {
	at := len(b)
	b = append(b, r.buf...)
	h := b[at:]
	binary.NativeEndian.PutUint32(h, uint32(len(r.buf)))
	binary.NativeEndian.PutUint16(h[6:], binary.NativeEndian.Uint16(h[6:])|flags)
	binary.NativeEndian.PutUint32(h[8:], seq)
	return b
}
