package server

import "encoding/binary"

// Numbers of DNS: RFC 1035 (4.1.1, 3.2.2), RFC 6891.
const (
	headerLen  = 12
	maxName    = 255 // bytes, with the lengths of the labels and the root's zero
	maxLabel   = 63
	maxPayload = 1232 // of a UDP answer: a packet that no network has to cut up (DNS flag day 2020)
	minPayload = 512  // of one to a client without EDNS
	optLen     = 11   // of an OPT record without options

	flagQR     = 1 << 15
	flagAA     = 1 << 10
	flagTC     = 1 << 9
	flagRD     = 1 << 8
	flagRA     = 1 << 7
	flagAD     = 1 << 5
	flagCD     = 1 << 4
	maskOpcode = 0xf << 11
	maskRcode  = 0xf

	typeA, typeNS, typeSOA, typePTR, typeHINFO, typeAAAA = 1, 2, 6, 12, 13, 28
	typeOPT, typeDS, typeDNSKEY, typeANY                 = 41, 43, 48, 255
	typeIXFR, typeMAILA                                  = 251, 254 // the first and last of those that are questions only, beside ANY

	classIN, classANY = 1, 255

	rcodeFormErr, rcodeServFail, rcodeNXDomain, rcodeNotImp, rcodeRefused = 1, 2, 3, 4, 5
	rcodeBadVers                                                          = 16
)

// query is what the server reads of a message: the question and EDNS.
type query struct {
	nameBuf [maxName]byte // wire form, in lower case
	nameLen int
	labels  int // without the root
	qtype   uint16
	qclass  uint16
	flags   uint16
	end     int // of the question, in the message; 0 when it could not be read

	edns, do bool
	payload  int // bytes of a UDP answer that the client takes
}

// name is the question's name in wire form and lower case.
func (q *query) name() []byte { return q.nameBuf[:q.nameLen] }

// drop is parse's word for a message that gets no answer: one without a header, or
// an answer (RFC 5452, and two servers would talk for ever).
const drop = -1

// parse reads a message: a query with one question, and at most an EDNS record that
// matters. It returns 0, [drop], or the response code for what is wrong. Each byte is
// looked at once, and no pointer is followed.
func (q *query) parse(msg []byte) int {
	q.end, q.edns, q.do, q.payload = 0, false, false, minPayload
	if len(msg) < headerLen {
		return drop
	}
	q.flags = binary.BigEndian.Uint16(msg[2:])
	if q.flags&flagQR != 0 {
		return drop
	}
	if q.flags&maskOpcode != 0 {
		return rcodeNotImp
	}
	count := func(i int) int { return int(binary.BigEndian.Uint16(msg[i:])) }
	if count(4) != 1 || count(6) != 0 || count(8) != 0 {
		return rcodeFormErr
	}
	if !q.question(msg) {
		return rcodeFormErr
	}
	rcode, at := 0, q.end
	for range count(10) {
		rr, ok := readRecord(msg, at)
		if !ok {
			return rcodeFormErr
		}
		if rr.rtype == typeOPT {
			if q.edns || rr.data-at != 1+10 { // RFC 6891, 6.1.1: one, of the root
				return rcodeFormErr
			}
			q.edns, q.do = true, rr.ttl&(1<<15) != 0
			q.payload = min(max(int(rr.class), minPayload), maxPayload)
			if rr.ttl>>16&0xff != 0 {
				rcode = rcodeBadVers
			}
		}
		at = rr.end
	}
	return rcode
}

// question reads the question, whose name cannot be compressed: there is nothing
// before it to point at.
func (q *query) question(msg []byte) bool {
	at := headerLen
	q.nameLen, q.labels = 0, 0
	for {
		if at >= len(msg) {
			return false
		}
		n := int(msg[at])
		if n > maxLabel || at+1+n > len(msg) || q.nameLen+1+n > maxName {
			return false
		}
		q.nameBuf[q.nameLen] = byte(n)
		q.nameLen++
		at++
		if n == 0 {
			break
		}
		for _, c := range msg[at : at+n] {
			q.nameBuf[q.nameLen] = lower(c)
			q.nameLen++
		}
		at += n
		q.labels++
	}
	if at+4 > len(msg) {
		return false
	}
	q.qtype, q.qclass = binary.BigEndian.Uint16(msg[at:]), binary.BigEndian.Uint16(msg[at+2:])
	q.end = at + 4
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// record is where a resource record is in a message.
type record struct {
	rtype, class uint16
	ttl          uint32
	data, end    int // of the record's data
}

func readRecord(msg []byte, at int) (record, bool) {
	at, ok := skipName(msg, at)
	if !ok || at+10 > len(msg) {
		return record{}, false
	}
	r := record{
		rtype: binary.BigEndian.Uint16(msg[at:]), class: binary.BigEndian.Uint16(msg[at+2:]),
		ttl: binary.BigEndian.Uint32(msg[at+4:]), data: at + 10,
	}
	r.end = r.data + int(binary.BigEndian.Uint16(msg[at+8:]))
	return r, r.end <= len(msg)
}

// skipName returns where a name ends. A pointer ends it; where it points to is not
// looked at.
func skipName(msg []byte, at int) (int, bool) {
	for start := at; at < len(msg) && at-start < maxName; {
		n := int(msg[at])
		switch {
		case n == 0:
			return at + 1, true
		case n >= 0xc0:
			return at + 2, at+2 <= len(msg)
		case n > maxLabel:
			return 0, false
		}
		at += 1 + n
	}
	return 0, false
}
