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
)

func newResolver(t testing.TB, how manner) *resolver {
	t.Helper()
	n := serial.Add(1)
	r := &resolver{addr: fmt.Sprintf("127.1.%d.%d", n/250, 1+n%250), ttl: 300, how: how}
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
	how := r.how
	if udp {
		r.asked = append(r.asked, q.Question[0].Name)
	} else {
		r.asked = append(r.asked, "tcp:"+q.Question[0].Name)
	}
	r.mu.Unlock()
	m := r.reply(q)
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
	case bare:
		m = new(dns.Msg).SetRcode(q, dns.RcodeNameError)
	}
	_ = w.WriteMsg(m)
}

func (r *resolver) reply(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	if o := q.IsEdns0(); o != nil {
		m.SetEdns0(4096, o.Do())
	}
	name := q.Question[0].Name
	soa := &dns.SOA{Hdr: dns.RR_Header{Name: "test.", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: r.ttl}, Ns: "ns.test.", Mbox: "mail.test.", Minttl: 60}
	header := dns.RR_Header{Name: name, Rrtype: q.Question[0].Qtype, Class: dns.ClassINET, Ttl: r.ttl}
	switch {
	case strings.HasSuffix(name, "lack.test."):
		m.Rcode, m.Ns = dns.RcodeNameError, []dns.RR{soa}
	case q.Question[0].Qtype == dns.TypeA:
		m.Answer = []dns.RR{&dns.A{Hdr: header, A: net.IPv4(192, 0, 2, 7)}}
	case q.Question[0].Qtype == dns.TypeTXT:
		for i := range 10 {
			m.Answer = append(m.Answer, &dns.TXT{Hdr: header, Txt: []string{fmt.Sprint(i) + strings.Repeat("x", 200)}})
		}
	default:
		m.Ns = []dns.RR{soa}
	}
	return m
}
