package server

import (
	"encoding/binary"
	"net/netip"

	"github.com/berth-cni/berth/pkg/names"
)

// answer is a response that is written over its query: header and question stay where
// they are, with the question's letters as they came (draft-vixie-dnsext-dns0x20),
// and records follow.
type answer struct {
	msg   []byte // what is written so far
	limit int    // bytes of the whole
	count int    // of answer records
	flags uint16
	edns  bool
	do    bool
	rcode int
	zone  int // where the name of the zone begins in the question, for the SOA; 0: the root
}

// start begins the answer to a query in its own buffer, which has room for limit
// bytes.
func (q *query) start(msg []byte, limit int) answer {
	end := q.end
	if end == 0 {
		end = headerLen
	}
	return answer{msg: msg[:end], limit: limit, edns: q.edns, do: q.do, flags: flagAA}
}

// room tells whether n more bytes fit, and says truncated if not.
func (a *answer) room(n int) bool {
	need := len(a.msg) + n
	if a.edns {
		need += optLen
	}
	if need > a.limit {
		a.flags |= flagTC
		return false
	}
	return true
}

// record begins a record about the question's name, with size bytes of data to come.
func (a *answer) record(rtype uint16, size int) bool {
	if !a.room(12 + size) {
		return false
	}
	a.msg = append(a.msg, 0xc0, headerLen, byte(rtype>>8), byte(rtype), 0, classIN, 0, 0, 0, names.TTL, byte(size>>8), byte(size))
	a.count++
	return true
}

// address adds an A or AAAA record.
func (a *answer) address(addr netip.Addr) {
	if addr.Is4() {
		if b := addr.As4(); a.record(typeA, len(b)) {
			a.msg = append(a.msg, b[:]...)
		}
		return
	}
	if b := addr.As16(); a.record(typeAAAA, len(b)) {
		a.msg = append(a.msg, b[:]...)
	}
}

// pointer adds a PTR record; the name is in wire form.
func (a *answer) pointer(name string) {
	if a.record(typePTR, len(name)) {
		a.msg = append(a.msg, name...)
	}
}

// minimal answers ANY with a record that says why there is no more (RFC 8482, 4.2).
func (a *answer) minimal() {
	const data = "\x07RFC8482\x00"
	if a.record(typeHINFO, len(data)) {
		a.msg = append(a.msg, data...)
	}
}

// soa adds what says how long a name or type that is not there may be believed not to be
// (RFC 2308, 3). The names are RFC 6303's (3).
func (a *answer) soa() bool {
	const mail = "\x06nobody\x07invalid\x00"
	owner := []byte{0xc0, byte(a.zone)}
	if a.zone == 0 {
		owner = owner[1:] // the root
	} else if a.zone > 0xff {
		owner[0] |= byte(a.zone >> 8)
	}
	size := len(owner) + len(mail) + 5*4
	if !a.room(len(owner) + 10 + size) {
		a.flags &^= flagTC // it can be left out
		return false
	}
	a.msg = append(append(a.msg, owner...), 0, typeSOA, 0, classIN, 0, 0, 0, names.TTL, 0, byte(size))
	a.msg = append(append(a.msg, owner...), mail...)
	for _, n := range [...]uint32{1, 3600, 1200, 604800, names.TTL} { // serial, refresh, retry, expire, minimum
		a.msg = binary.BigEndian.AppendUint32(a.msg, n)
	}
	return true
}

// finish writes the header and EDNS, and returns the message.
func (a *answer) finish() []byte {
	flags := binary.BigEndian.Uint16(a.msg[2:])
	flags = flagQR | flags&(maskOpcode|flagRD|flagCD) | a.flags | flagRA | uint16(a.rcode&maskRcode)
	questions := uint16(0)
	if len(a.msg) > headerLen {
		questions = 1
	}
	authority, additional := uint16(0), uint16(0)
	lacks := a.rcode == rcodeNXDomain || a.rcode == 0 && a.count == 0 && a.flags&(flagAA|flagTC) == flagAA
	if lacks && questions == 1 && a.soa() {
		authority = 1
	}
	if a.edns {
		a.msg = appendOPT(a.msg, a.rcode>>4, a.do)
		additional = 1
	}
	binary.BigEndian.PutUint16(a.msg[2:], flags)
	binary.BigEndian.PutUint16(a.msg[4:], questions)
	binary.BigEndian.PutUint16(a.msg[6:], uint16(a.count))
	binary.BigEndian.PutUint16(a.msg[8:], authority)
	binary.BigEndian.PutUint16(a.msg[10:], additional)
	return a.msg
}

// appendOPT adds the server's EDNS record (RFC 6891). The DO bit comes back as it
// came (RFC 3225, 3).
func appendOPT(msg []byte, rcodeHigh int, do bool) []byte {
	var z byte
	if do {
		z = 1 << 7
	}
	return append(msg, 0, 0, typeOPT, maxPayload>>8, maxPayload&0xff, byte(rcodeHigh), 0, z, 0, 0, 0)
}

// fail is the whole answer with a response code and nothing else, from this server
// and not from who owns the name.
func (q *query) fail(msg []byte, limit, rcode int) []byte {
	a := q.start(msg, limit)
	a.flags, a.rcode = 0, rcode
	return a.finish()
}
