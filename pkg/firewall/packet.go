package firewall

import (
	"encoding/binary"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// packet is a row of netfilter netlink messages in one buffer, as one send
// carries them. The n-th message has the sequence number n, so that a reply
// names what it answers.
//
// A message is a nlmsghdr (16 bytes, host byte order), a nfgenmsg (4 bytes) and
// attributes padded to 4 bytes (linux/netlink.h, linux/netfilter/nfnetlink.h).
type packet struct {
	buf   []byte
	start int // of the last message
	last  uint32
	acked bool // the last message asks for an acknowledgement
}

const (
	headerLen = unix.SizeofNlMsghdr + 4
	attrLen   = unix.SizeofNlAttr
	inetTable = unix.NFPROTO_INET // the family of our table
)

// begin starts a message. kind is the subsystem in the high byte and the
// command in the low one.
func (p *packet) begin(kind, flags uint16, family, version uint8, resource uint16) {
	p.start = len(p.buf)
	p.last++
	p.buf = binary.NativeEndian.AppendUint32(p.buf, headerLen)
	p.buf = binary.NativeEndian.AppendUint16(p.buf, kind)
	p.buf = binary.NativeEndian.AppendUint16(p.buf, flags|unix.NLM_F_REQUEST)
	p.buf = binary.NativeEndian.AppendUint32(p.buf, p.last)
	p.buf = append(p.buf, 0, 0, 0, 0, family, version)
	p.buf = binary.BigEndian.AppendUint16(p.buf, resource)
}

// attr adds an attribute to the last message.
func (p *packet) attr(kind uint16, data []byte) {
	p.nest(kind, func() { p.buf = append(p.buf, data...) })
}

// text adds an attribute with a string that ends with a zero.
func (p *packet) text(kind uint16, s string) {
	p.nest(kind, func() { p.buf = append(append(p.buf, s...), 0) })
}

// nest adds an attribute whose content fill appends.
func (p *packet) nest(kind uint16, fill func()) {
	at := len(p.buf)
	p.buf = append(p.buf, 0, 0, 0, 0)
	fill()
	binary.NativeEndian.PutUint16(p.buf[at:], uint16(len(p.buf)-at))
	binary.NativeEndian.PutUint16(p.buf[at+2:], kind)
	for len(p.buf)%4 != 0 {
		p.buf = append(p.buf, 0)
	}
	binary.NativeEndian.PutUint32(p.buf[p.start:], uint32(len(p.buf)-p.start))
}

// ack asks the kernel to answer the last message also when it went well.
func (p *packet) ack() {
	p.buf[p.start+6] |= unix.NLM_F_ACK
	p.acked = true
}

// attrs calls each for every attribute in data. The flag bits of the kind
// (nested, byte order) are cleared.
func attrs(data []byte, each func(kind uint16, value []byte)) error {
	for len(data) >= attrLen {
		n := int(binary.NativeEndian.Uint16(data))
		if n < attrLen || n > len(data) {
			return fmt.Errorf("netlink attribute of %d bytes in %d", n, len(data))
		}
		each(binary.NativeEndian.Uint16(data[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), data[attrLen:n])
		data = data[min((n+3)&^3, len(data)):]
	}
	return nil
}

// reply is one message of an answer.
type reply struct {
	seq   uint32        // of the message it answers
	errno syscall.Errno // of an error, an acknowledgement or the end of a list
	kind  uint16        // NLMSG_ERROR for these
	attrs []byte        // of any other message, after its nfgenmsg

	interrupted bool // of a list that changed while it was written
}

// replies splits what the kernel sent.
func replies(data []byte) ([]reply, error) {
	var all []reply
	for len(data) >= unix.SizeofNlMsghdr {
		n := int(binary.NativeEndian.Uint32(data))
		if n < headerLen || n > len(data) {
			return nil, fmt.Errorf("netlink message of %d bytes in %d", n, len(data))
		}
		r := reply{
			kind: binary.NativeEndian.Uint16(data[4:]),
			seq:  binary.NativeEndian.Uint32(data[8:]),

			interrupted: binary.NativeEndian.Uint16(data[6:])&unix.NLM_F_DUMP_INTR != 0,
		}
		if r.kind == unix.NLMSG_ERROR || r.kind == unix.NLMSG_DONE {
			r.errno = syscall.Errno(-int32(binary.NativeEndian.Uint32(data[unix.SizeofNlMsghdr:])))
		} else {
			r.attrs = data[headerLen:n]
		}
		all = append(all, r)
		data = data[min((n+3)&^3, len(data)):]
	}
	return all, nil
}
