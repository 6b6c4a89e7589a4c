package server

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	cacheMessages = 10_000
	cacheLargest  = 4 << 10 // bytes of a message that is kept: 40 MB in all at worst

	longestTTL  = time.Hour
	longestLack = 5 * time.Minute // RFC 2308, 5, allows hours
	failureTime = time.Second     // RFC 9520, 3.2: failures are remembered, too
)

// response is what an upstream answered, without EDNS, ready to be sent to anybody
// who asks the same.
type response struct {
	msg     []byte
	rcode   int  // with the upper bits that EDNS carries
	cut     bool // it is not all that there is
	records []place
	got     time.Time
	expires time.Time // zero: not to be kept
}

// place is where a record's TTL is in a message, and where the record ends.
type place struct{ ttl, end int }

var (
	errOtherQuestion = errors.New("an answer to another question")
	errMangled       = errors.New("an answer with EDNS where records are")
)

// newResponse checks an upstream's answer to a query, and makes it a response. The
// message is written anew: nothing of a broken one goes on to a client.
func newResponse(q *dns.Msg, raw []byte, now time.Time) (*response, *dns.Msg, error) {
	m := &dns.Msg{}
	if err := m.Unpack(raw); err != nil {
		return nil, nil, fmt.Errorf("decode: %w", err)
	}
	if !m.Response || m.Id != q.Id || m.Opcode != dns.OpcodeQuery {
		return nil, nil, errOtherQuestion
	}
	// RFC 5452, 9.1. A server that does not understand the query may leave out the
	// question.
	bare := len(m.Question) == 0 && (m.Rcode == dns.RcodeFormatError || m.Rcode == dns.RcodeNotImplemented || m.Rcode == dns.RcodeServerFailure || m.Rcode == dns.RcodeRefused)
	if !bare && (len(m.Question) != 1 || !sameQuestion(m.Question[0], q.Question[0])) {
		return nil, nil, errOtherQuestion
	}
	isEDNS := func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeOPT }
	if slices.ContainsFunc(m.Answer, isEDNS) || slices.ContainsFunc(m.Ns, isEDNS) {
		return nil, nil, errMangled
	}
	r := &response{rcode: m.Rcode, cut: m.Truncated, got: now}
	if life := lifetime(m); life > 0 && !m.Truncated {
		r.expires = now.Add(life)
	}
	var err error
	if r.msg, err = stored(m, q.Question); err != nil {
		return nil, nil, err
	}
	if len(r.msg) > cacheLargest {
		r.expires = time.Time{}
	}
	r.records, err = findRecords(r.msg)
	return r, m, err
}

// stored is the message without EDNS, which is between two hops only.
func stored(m *dns.Msg, question []dns.Question) ([]byte, error) {
	c := *m
	c.Question, c.Compress, c.Extra, c.Rcode = question, true, nil, m.Rcode&maskRcode
	for _, rr := range m.Extra {
		switch rr.Header().Rrtype {
		case dns.TypeOPT, dns.TypeTSIG, dns.TypeSIG:
		default:
			c.Extra = append(c.Extra, rr)
		}
	}
	return c.Pack()
}

func sameQuestion(a, b dns.Question) bool {
	return a.Qtype == b.Qtype && a.Qclass == b.Qclass && dns.CanonicalName(a.Name) == dns.CanonicalName(b.Name)
}

// lifetime is how long an answer may be kept: the least TTL of its records, or what
// the SOA says of a name or type that is not there (RFC 2308, 5); 0 for not at all.
func lifetime(m *dns.Msg) time.Duration {
	if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return 0
	}
	if m.Rcode == dns.RcodeSuccess && len(m.Answer) > 0 {
		least := longestTTL
		for _, rr := range m.Answer {
			least = min(least, time.Duration(rr.Header().Ttl)*time.Second)
		}
		return least
	}
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return min(longestLack, time.Duration(min(soa.Hdr.Ttl, soa.Minttl))*time.Second)
		}
	}
	return 0
}

// findRecords returns where a message's records are.
func findRecords(msg []byte) ([]place, error) {
	var all []place
	at, ok := skipName(msg, headerLen)
	at += 4
	for range count(msg, inAnswer) + count(msg, inAuthority) + count(msg, inAdditional) {
		var rr record
		if !ok {
			break
		}
		if rr, ok = readRecord(msg, at); ok {
			all = append(all, place{rr.data - 6, rr.end})
			at = rr.end
		}
	}
	if !ok {
		return nil, errors.New("a message that was written here cannot be read")
	}
	return all, nil
}

// Where a header counts records.
const inAnswer, inAuthority, inAdditional = 6, 8, 10

func count(msg []byte, section int) int { return int(binary.BigEndian.Uint16(msg[section:])) }

// write writes the response over the query that it answers. Of one that is longer than
// limit as many records as fit are written, with the bit that has the client come by TCP
// if it can; what is only additional may be left out without (RFC 2181, 9).
func (r *response) write(q *query, msg []byte, limit int, now time.Time) []byte {
	id, question := binary.BigEndian.Uint16(msg), q.end
	if q.edns {
		limit -= optLen
	}
	end, fit := question, 0
	for fit < len(r.records) && r.records[fit].end <= limit {
		end = r.records[fit].end
		fit++
	}
	var asked [maxName + 4]byte
	letters := asked[:copy(asked[:], msg[headerLen:question])]
	flags := binary.BigEndian.Uint16(msg[2:])
	out := append(msg[:0], r.msg[:end]...)
	copy(out[headerLen:], letters)
	binary.BigEndian.PutUint16(out, id)
	own := binary.BigEndian.Uint16(out[2:]) &^ (flagAA | flagRD | flagCD | flagTC)
	if r.cut || fit < count(out, inAnswer)+count(out, inAuthority) {
		own |= flagTC
	}
	binary.BigEndian.PutUint16(out[2:], own|flagQR|flagRA|flags&(flagRD|flagCD))
	if fit < len(r.records) {
		for left, section := fit, inAnswer; section <= inAdditional; section += 2 {
			n := min(left, count(out, section))
			binary.BigEndian.PutUint16(out[section:], uint16(n))
			left -= n
		}
	}
	age := uint32(max(now.Sub(r.got), 0) / time.Second)
	for _, rr := range r.records[:fit] {
		ttl := binary.BigEndian.Uint32(out[rr.ttl:])
		binary.BigEndian.PutUint32(out[rr.ttl:], ttl-min(ttl, age))
	}
	if q.edns {
		out = appendOPT(out, r.rcode>>4, q.do)
		binary.BigEndian.PutUint16(out[inAdditional:], uint16(count(out, inAdditional)+1))
	}
	return out
}

// cache keeps responses by who was asked and what.
type cache struct {
	mu    sync.Mutex
	byKey map[string]*response
}

func (c *cache) get(key []byte, now time.Time) *response {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.byKey[string(key)]
	if r != nil && !now.Before(r.expires) {
		delete(c.byKey, string(key))
		return nil
	}
	return r
}

// put keeps a response. When there is no room, of a few the one goes that would not
// have lived long.
func (c *cache) put(key string, r *response) {
	if r.expires.IsZero() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.byKey) >= cacheMessages {
		const few = 8
		victim, n := "", 0
		for k, old := range c.byKey { // in no order
			if victim == "" || old.expires.Before(c.byKey[victim].expires) {
				victim = k
			}
			if n++; n == few {
				break
			}
		}
		delete(c.byKey, victim)
	}
	if c.byKey == nil {
		c.byKey = map[string]*response{}
	}
	c.byKey[key] = r
}

func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byKey = nil
}
