package server

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// resolver is an upstream of the tests, on port 53 of an address of this host's lo. It
// answers A with 192.0.2.7 and TXT with many bytes; of names in "lack" there are none.
type resolver struct {
	addr string
	ttl  uint32
	late time.Duration // what each answer by UDP takes

	mu    sync.Mutex
	asked []string
	how   manner
}

// manner is how a resolver behaves.
type manner string

const (
	honest    manner = ""
	dead      manner = "dead"      // never answers
	slow      manner = "slow"      // answers after a second
	lying     manner = "lying"     // answers with another ID, to another question, with rubbish
	cutting   manner = "cutting"   // has one come by TCP
	cut       manner = "cut"       // and then says nothing
	old       manner = "old"       // does not know EDNS
	unwilling manner = "unwilling" // refuses
	bare      manner = "bare"      // says that there is nothing, not for how long
	lacking   manner = "lacking"   // says that no name is there
	big       manner = "big"       // has 60 addresses for a name, by UDP what fits

	// What becomes of EDNS at some.
	dropped  manner = "dropped"  // no answer
	notimp   manner = "notimp"   // an error, each another one
	servfail manner = "servfail" //
	refuse   manner = "refuse"   //
	mangled  manner = "mangled"  // EDNS among the answers, the address behind (c-ares #968)
	garbled  manner = "garbled"  // an answer that cannot be read
	noOPT    manner = "noopt"    // an answer without EDNS
	letters  manner = "letters"  // the question in other letters
)

func newResolver(t testing.TB, how manner) *resolver {
	t.Helper()
	n := serial.Add(1)
	return newResolverAt(t, fmt.Sprintf("127.1.%d.%d", n/250, 1+n%250), how)
}

func newResolverAt(t testing.TB, addr string, how manner) *resolver {
	t.Helper()
	r := &resolver{addr: addr, ttl: 300, how: how}
	udp, err := net.ListenPacket("udp", r.addr+":53")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", r.addr+":53")
	if err != nil {
		t.Fatal(err)
	}
	mux := dns.HandlerFunc(r.answer)
	for _, s := range []*dns.Server{{PacketConn: udp, Handler: mux}, {Listener: tcp, Handler: mux}} {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = s.ActivateAndServe()
		}()
		t.Cleanup(func() {
			udp.Close()
			tcp.Close()
			<-ended
		})
	}
	return r
}

func (r *resolver) be(how manner) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.how = how
}

// takes has each answer by UDP take a while.
func (r *resolver) takes(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.late = d
}

// heard returns what was asked since the last time.
func (r *resolver) heard() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := strings.Join(r.asked, " ")
	r.asked = nil
	return s
}

func (r *resolver) answer(w dns.ResponseWriter, q *dns.Msg) {
	_, udp := w.RemoteAddr().(*net.UDPAddr)
	r.mu.Lock()
	how, late, asked := r.how, r.late, q.Question[0].Name
	if q.IsEdns0() != nil {
		asked = "edns:" + asked
	}
	if !udp {
		asked, late = "tcp:"+asked, 0
	}
	r.asked = append(r.asked, asked)
	r.mu.Unlock()
	time.Sleep(late)
	m := r.reply(q)
	if q.IsEdns0() != nil && r.spoil(w, how, q, m) {
		return
	}
	switch how {
	case dead:
		return
	case slow:
		time.Sleep(time.Second)
	case lying:
		other := m.Copy()
		other.Id++
		_ = w.WriteMsg(other)
		other = m.Copy()
		other.Question[0].Name = "other.test."
		_ = w.WriteMsg(other)
		_, _ = w.Write([]byte("\x00\x01rubbish, and not a message at all\xc0\x0c\xff\xff"))
		return
	case cut, cutting:
		if udp {
			m.Answer, m.Truncated = nil, true
		} else if how == cut {
			w.Close()
			return
		}
	case old:
		if q.IsEdns0() != nil {
			m = new(dns.Msg).SetRcodeFormatError(q)
		}
	case unwilling:
		m = new(dns.Msg).SetRcode(q, dns.RcodeRefused)
	case letters:
		m.Question[0].Name = strings.ToLower(m.Question[0].Name)
	case lacking:
		m = new(dns.Msg).SetRcode(q, dns.RcodeNameError)
		m.Ns = []dns.RR{soa(300)}
	case big:
		m.Answer = nil
		for i := range 60 {
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(192, 0, 2, byte(i))})
		}
		m.Compress = true
		if udp {
			m.Truncate(512)
		}
	case bare:
		m = new(dns.Msg).SetRcode(q, dns.RcodeNameError)
	}
	_ = w.WriteMsg(m)
}

// spoil answers a query with EDNS as those do that have none, if it does.
func (r *resolver) spoil(w dns.ResponseWriter, how manner, q, m *dns.Msg) bool {
	rcode := map[manner]int{notimp: dns.RcodeNotImplemented, servfail: dns.RcodeServerFailure, refuse: dns.RcodeRefused}[how]
	switch {
	case how == dropped:
	case rcode != 0:
		_ = w.WriteMsg(new(dns.Msg).SetRcode(q, rcode))
	case how == mangled && len(m.Answer) > 0:
		m.Answer, m.Extra = m.Extra, m.Answer
		_ = w.WriteMsg(m)
	case how == garbled:
		raw, _ := m.Pack()
		_, _ = w.Write(raw[:len(raw)-5])
	case how == noOPT:
		m.Extra = nil
		_ = w.WriteMsg(m)
	default:
		return false
	}
	return true
}

func soa(ttl uint32) *dns.SOA {
	return &dns.SOA{Hdr: dns.RR_Header{Name: "test.", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl}, Ns: "ns.test.", Mbox: "mail.test.", Minttl: 60}
}

func (r *resolver) reply(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	if o := q.IsEdns0(); o != nil {
		m.SetEdns0(4096, o.Do())
	}
	name := q.Question[0].Name
	header := dns.RR_Header{Name: name, Rrtype: q.Question[0].Qtype, Class: dns.ClassINET, Ttl: r.ttl}
	switch {
	case strings.HasSuffix(name, "lack.test."):
		m.Rcode, m.Ns = dns.RcodeNameError, []dns.RR{soa(r.ttl)}
	case q.Question[0].Qtype == dns.TypeA:
		m.Answer = []dns.RR{&dns.A{Hdr: header, A: net.IPv4(192, 0, 2, 7)}}
	case q.Question[0].Qtype == dns.TypeTXT:
		for i := range 10 {
			m.Answer = append(m.Answer, &dns.TXT{Hdr: header, Txt: []string{fmt.Sprint(i) + strings.Repeat("x", 200)}})
		}
	default:
		m.Ns = []dns.RR{soa(r.ttl)}
	}
	return m
}
