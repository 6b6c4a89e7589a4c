package server

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/miekg/dns"
)

// web is a query for it with a header that ask changes.
func web(change func(msg []byte) []byte) []byte {
	raw, err := question("web", dns.TypeA).Pack()
	if err != nil {
		panic(err)
	}
	return change(raw)
}

// broken are messages that are no good queries, with the code that answers each; -1 for
// none.
func broken() map[string]struct {
	msg  []byte
	want int
} {
	type c = struct {
		msg  []byte
		want int
	}
	name := func(name string) []byte {
		return web(func(m []byte) []byte {
			return append(append(m[:headerLen:headerLen], name...), 0, typeA, 0, classIN)
		})
	}
	set := func(at int, value uint16) []byte {
		return web(func(m []byte) []byte { binary.BigEndian.PutUint16(m[at:], value); return m })
	}
	additional := func(rr string, count uint16) []byte {
		return web(func(m []byte) []byte { binary.BigEndian.PutUint16(m[10:], count); return append(m, rr...) })
	}
	opt := "\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"
	return map[string]c{
		"nothing":                      {[]byte{}, drop},
		"half a header":                {set(2, flagRD)[:headerLen-1], drop},
		"only a header":                {set(2, flagRD)[:headerLen], rcodeFormErr},
		"an answer":                    {set(2, flagQR|flagRD), drop}, // two servers would talk for ever
		"NOTIFY":                       {set(2, 4<<11), rcodeNotImp},
		"UPDATE":                       {set(2, 5<<11), rcodeNotImp},
		"no question":                  {set(4, 0), rcodeFormErr},
		"65535 questions":              {set(4, 0xffff), rcodeFormErr},
		"answers in a query":           {set(6, 1), rcodeFormErr},
		"authority in a query":         {set(8, 1), rcodeFormErr},
		"65535 additional":             {set(10, 0xffff), rcodeFormErr},
		"a name without end":           {name("\x03web"), rcodeFormErr},
		"a label beyond the message":   {name("\x3fweb\x00")[:20], rcodeFormErr},
		"a label of 64 bytes":          {name("\x40" + strings.Repeat("x", 64) + "\x00"), rcodeFormErr},
		"a name of 256 bytes":          {name(strings.Repeat("\x3f"+strings.Repeat("x", 63), 3) + "\x3e" + strings.Repeat("x", 62) + "\x00"), rcodeFormErr},
		"a name that is a pointer":     {name("\xc0\x0c"), rcodeFormErr},
		"a name that points at itself": {name("\x03web\xc0\x0c"), rcodeFormErr},
		"reserved label types":         {name("\x80\x00"), rcodeFormErr},
		"a question cut off":           {web(func(m []byte) []byte { return m[:len(m)-1] }), rcodeFormErr},
		"a pointer loop behind":        {additional("\xc0\x15\x00\x10\x00\x01\x00\x00\x00\x00\x00\x02\xc0\x15", 1), 0}, // not followed
		"a record cut off":             {additional("\x00\x00\x10\x00\x01\x00\x00\x00\x00\xff\xff", 1), rcodeFormErr},
		"two EDNS records":             {additional(opt+opt, 2), rcodeFormErr},
		"EDNS of a name":               {additional("\x03web"+opt, 1), rcodeFormErr},
		"EDNS of version 1":            {additional("\x00\x00\x29\x04\xd0\x00\x01\x00\x00\x00\x00", 1), rcodeBadVers & maskRcode},
		"CHAOS":                        {name("\x07version\x04bind\x00\x00\x10\x00\x03")[:headerLen+18], rcodeRefused},
		"type 0":                       {name("\x03web\x00\x00\x00\x00\x01")[:headerLen+9], rcodeFormErr},
		"EDNS as a question":           {name("\x03web\x00\x00\x29\x00\x01")[:headerLen+9], rcodeFormErr},
		"a transfer":                   {name("\x03web\x00\x00\xfc\x00\x01")[:headerLen+9], rcodeNotImp},
		"rubbish":                      {[]byte(strings.Repeat("\xff", 600)), drop},
		"more rubbish":                 {[]byte(strings.Repeat("\x00", 600)), rcodeFormErr},
		"a packet of 2000 bytes":       {web(func(m []byte) []byte { return append(m, make([]byte, 2000)...) }), drop},
	}
}

// TestBroken: messages that are no queries are answered as the RFCs say, and the next
// good one is answered all the same.
func TestBroken(t *testing.T) {
	l := newLab(t, Config{})
	for what, c := range broken() {
		t.Run(what, func(t *testing.T) {
			conn := l.db.dial(t, "udp", gateway("10.1.0.1"))
			if _, err := conn.Write(c.msg); err != nil {
				t.Fatal(err)
			}
			good := question("web", dns.TypeA)
			good.Id = 0x4242
			raw, _ := good.Pack()
			if _, err := conn.Write(raw); err != nil {
				t.Fatal(err)
			}
			conn.SetDeadline(time.Now().Add(time.Second))
			got := drop
			for buf := make([]byte, 2048); ; {
				n, err := conn.Read(buf)
				if err != nil {
					t.Fatalf("the good query is not answered: %v", err)
				}
				if binary.BigEndian.Uint16(buf) == good.Id {
					break
				}
				var m dns.Msg
				if err := m.Unpack(buf[:n]); err != nil || !m.Response {
					t.Fatalf("the answer is no message: %x, %v", buf[:n], err)
				}
				got = int(buf[3] & maskRcode)
			}
			if got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

// TestSlowTCP: a TCP client that sends nothing, or a byte now and then, keeps nobody
// else waiting, and one can have only so many connections (CVE-2024-8418 of
// aardvark-dns: one client stopped the server).
func TestSlowTCP(t *testing.T) {
	l := newLab(t, Config{})
	for i := range 3 * tcpPerClient {
		var conn net.Conn
		var err error
		nstest.In(t, l.db.path, func() { conn, err = net.Dial("tcp", gateway("10.1.0.1")) })
		if err != nil && i >= tcpPerClient {
			continue // it has enough
		}
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if i%2 == 0 {
			_, _ = conn.Write([]byte{0, 33, 1}) // of a message that never comes
		}
	}
	for range tcpPerClient / 2 {
		if got := text(l.web.exchange(t, "tcp", gateway("10.1.0.1"), question("db", dns.TypeA))); got != "NOERROR 10.1.0.12" {
			t.Errorf("another one by TCP: %q", got)
		}
	}
	if got := l.db.ask(t, "10.1.0.1", "web", dns.TypeA); got != "NOERROR 10.1.0.11" {
		t.Errorf("the same one by UDP: %q", got)
	}
	for _, ln := range l.listeners {
		ln.mu.Lock()
		if n := len(ln.conns); n > tcpPerClient+tcpPerClient/2 {
			t.Errorf("%d connections of one client", n)
		}
		ln.mu.Unlock()
	}
}

// TestBrokenTCP: a stream that is no DNS is hung up on, and costs nothing more
// (CVE-2026-35406 of aardvark-dns: it read a closed stream for ever).
func TestBrokenTCP(t *testing.T) {
	l := newLab(t, Config{})
	before := runtime.NumGoroutine()
	for _, s := range []string{"", "\x00", "\x00\x00", "\x00\x05rubbi", "\xff\xff" + strings.Repeat("x", 5000), "\x00\x0c" + strings.Repeat("\x00", 12),
		"GET / HTTP/1.1\r\n\r\n", "\x00\x40half of what it says"} {
		conn := l.db.dial(t, "tcp", gateway("10.1.0.1")).(*net.TCPConn)
		_, _ = conn.Write([]byte(s))
		_ = conn.CloseWrite()
		conn.SetDeadline(time.Now().Add(2 * time.Second))
		if _, err := io.Copy(io.Discard, conn); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("%q is not hung up on", s)
		}
	}
	used := cpuTime(t, os.Getpid())
	time.Sleep(300 * time.Millisecond)
	if used = cpuTime(t, os.Getpid()) - used; used > 0.1 {
		t.Errorf("the server is busy with nothing: %.2f s", used)
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines more", n-before)
	}
}

// TestPipelined: many queries on one connection are answered in their order.
func TestPipelined(t *testing.T) {
	a := newAsking(t, newResolver(t, honest))
	conn := &dns.Conn{Conn: a.dial(t, "tcp", gateway("10.6.0.1"))}
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	const n = 50
	for i := range n {
		q := question("me", dns.TypeA)
		if i%2 == 0 {
			q = question(fmt.Sprintf("n%d.test", i), dns.TypeA)
		}
		q.Id = uint16(i)
		if err := conn.WriteMsg(q); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		r, err := conn.ReadMsg()
		if err != nil || int(r.Id) != i || len(r.Answer) != 1 {
			t.Fatalf("%d: %v, %v", i, r, err)
		}
	}
}

// TestBug: a panic while a query is answered costs that answer.
func TestBug(t *testing.T) {
	l := newLab(t, Config{})
	d := l.directory
	d.mu.Lock()
	d.networks["simon_network"].names[wireKey("bug")] = []*member{nil}
	d.mu.Unlock()
	conn := l.db.dial(t, "udp", gateway("10.1.0.1"))
	conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
	raw, _ := question("bug", dns.TypeA).Pack()
	_, _ = conn.Write(raw)
	if n, err := conn.Read(make([]byte, 512)); err == nil {
		t.Errorf("%d bytes came", n)
	}
	for _, network := range []string{"udp", "tcp"} {
		if got := text(l.db.exchange(t, network, gateway("10.1.0.1"), question("web", dns.TypeA))); got != "NOERROR 10.1.0.11" {
			t.Errorf("afterwards: %q", got)
		}
	}
}

// FuzzQuery: whatever comes, the answer is a message that miekg/dns can read, with the
// query's ID and question; and a query that it can read is one here.
func FuzzQuery(f *testing.F) {
	for _, c := range broken() {
		f.Add(c.msg)
	}
	for _, name := range []string{"web", "me.net", "nobody", "example.com", "1.0.0.10.in-addr.arpa", "localhost", "alias", `a\.b\000.net`, "."} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypePTR, dns.TypeANY} {
			q := question(name, qtype)
			q.SetEdns0(1400, true)
			raw, err := q.Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(raw)
		}
	}
	d := NewDirectory()
	e := entry("net", "c", "eth0", "br0", "me web", "10.0.0.1/24", "fd00::1/64")
	e.Links = map[string]string{"alias": "web"}
	d.Put(e)
	from := client{"br0", e.Addresses[0]}
	f.Fuzz(func(t *testing.T, data []byte) {
		var q query
		rcode := q.parse(data)
		var oracle dns.Msg
		err := oracle.Unpack(data)
		if rcode == 0 && err == nil {
			compare(t, &q, &oracle)
		}
		plain := err == nil && !oracle.Response && oracle.Opcode == 0 && len(oracle.Question) == 1 && len(data) == oracle.Len() &&
			len(oracle.Answer)+len(oracle.Ns)+len(oracle.Extra) == 0
		if plain && rcode != 0 && data[7] == 0 && data[9] == 0 && data[11] == 0 && data[6] == 0 && data[8] == 0 && data[10] == 0 {
			t.Errorf("%v is refused with %d", &oracle, rcode)
		}
		if rcode == drop {
			return
		}
		msg := make([]byte, len(data), max(len(data), maxPayload))
		copy(msg, data)
		out := fuzzAnswer(d, from, &q, rcode, msg)
		var r dns.Msg
		if err := r.Unpack(out); err != nil {
			t.Fatalf("the answer %x cannot be read: %v", out, err)
		}
		if !r.Response || r.Id != binary.BigEndian.Uint16(data) || len(out) > max(maxPayload, len(data)) {
			t.Errorf("answer %v", &r)
		}
		if q.end > 0 && string(out[headerLen:q.end]) != string(data[headerLen:q.end]) {
			t.Errorf("another question in %v", &r)
		}
	})
}

// fuzzAnswer does what a server's handle does, without upstreams.
func fuzzAnswer(d *Directory, from client, q *query, rcode int, msg []byte) []byte {
	limit := min(q.payload, cap(msg))
	if rcode == 0 {
		rcode = q.unsupported()
	}
	if rcode != 0 {
		return q.fail(msg, limit, rcode)
	}
	a := q.start(msg, limit)
	if what, _ := d.resolve(from, q, &a); what == answered {
		return a.finish()
	}
	r := &response{msg: append([]byte(nil), msg[:q.end]...)}
	binary.BigEndian.PutUint16(r.msg[10:], 0)
	return r.write(q, msg, limit, time.Now())
}

// compare tells whether a query is what the oracle has read.
func compare(t *testing.T, q *query, oracle *dns.Msg) {
	name, _, err := dns.UnpackDomainName(q.name(), 0)
	if err != nil {
		t.Fatalf("name %x: %v", q.name(), err)
	}
	asked := oracle.Question[0]
	if dns.CanonicalName(asked.Name) != name || asked.Qtype != q.qtype || asked.Qclass != q.qclass || dns.CountLabel(name) != q.labels {
		t.Errorf("read %s %d %d, want %v", name, q.qtype, q.qclass, asked)
	}
	if o := oracle.IsEdns0(); (o != nil) != q.edns || o != nil && o.Do() != q.do {
		t.Errorf("EDNS %v, want %v", q.edns, o)
	}
	m, err := q.upstream()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := m.Pack()
	if err != nil || string(raw[headerLen:headerLen+q.nameLen]) != string(q.name()) {
		t.Errorf("sent on as %x, want %x: %v", raw, q.name(), err)
	}
}

// FuzzResponse: whatever an upstream answers, what a client gets can be read, and is
// about its question.
func FuzzResponse(f *testing.F) {
	ask := question("x.test", dns.TypeA)
	ask.Id = 7
	u := &resolver{ttl: 60}
	for _, name := range []string{"x.test.", "x.lack.test."} {
		q := ask.Copy()
		q.Question[0].Name = name
		raw, err := u.reply(q).Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, _, err := newResponse(ask, data, time.Unix(1000, 0))
		if err != nil {
			return
		}
		msg, err := question("X.tesT", dns.TypeA).Pack()
		if err != nil {
			t.Fatal(err)
		}
		id := binary.BigEndian.Uint16(msg)
		var q query
		if q.parse(msg) != 0 {
			t.Fatal("no query")
		}
		for _, limit := range []int{512, 1 << 16} {
			var m dns.Msg
			out := r.write(&q, append([]byte(nil), msg...), limit, time.Unix(1001, 0))
			if err := m.Unpack(out); err != nil || m.Id != id || m.Question[0].Name != "X.tesT." || len(out) > limit {
				t.Fatalf("%d bytes, %v, %v", len(out), &m, err)
			}
		}
	})
}
