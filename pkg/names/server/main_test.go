package server

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/names"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/miekg/dns"
)

// TestMain has the tests run in a sandbox, whose namespace is the host's. The server is
// in it; clients are in namespaces of their own.
func TestMain(m *testing.M) {
	if what, server, ok := strings.Cut(os.Getenv(childEnv), " "); ok {
		if err := child(what, server); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	runtime.GOMAXPROCS(Processors())
	nstest.Main(m)
}

// run runs a program, which must succeed.
func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if err := nstest.Run(name, args...); err != nil {
		t.Fatal(err)
	}
}

var serial atomic.Int64

// bridge makes a bridge with gateways, until the test ends.
func bridge(t testing.TB, gateways ...string) string {
	t.Helper()
	name := fmt.Sprintf("br%d", serial.Add(1))
	makeBridge(t, name, gateways...)
	t.Cleanup(func() { _ = nstest.Run("ip", "link", "del", name) })
	return name
}

func makeBridge(t testing.TB, name string, gateways ...string) {
	t.Helper()
	run(t, "ip", "link", "add", name, "type", "bridge")
	for _, g := range gateways {
		run(t, "ip", "addr", "add", g, "dev", name, "nodad")
	}
	run(t, "ip", "link", "set", name, "up")
}

// box is a container that asks.
type box struct {
	path string // of its namespace
	host string // its interface on the host
}

// container makes a namespace with an interface on a bridge and addresses.
func container(t testing.TB, br string, addrs ...string) box {
	t.Helper()
	b := box{path: nstest.Namespace(t)}
	b.host = b.plug(t, br, "eth0", addrs...)
	return b
}

// plug gives the container another interface.
func (b box) plug(t testing.TB, br, ifName string, addrs ...string) string {
	t.Helper()
	ns, host := filepath.Base(b.path), fmt.Sprintf("v%d", serial.Add(1))
	run(t, "ip", "link", "add", host, "type", "veth", "peer", "name", ifName, "netns", ns)
	run(t, "ip", "link", "set", host, "master", br, "up")
	run(t, "ip", "-n", ns, "link", "set", "lo", "up")
	run(t, "ip", "-n", ns, "link", "set", ifName, "up")
	for _, a := range addrs {
		run(t, "ip", "-n", ns, "addr", "add", a, "dev", ifName, "nodad")
	}
	return host
}

// dial opens a socket of the container's to a server's address and port.
func (b box) dial(t testing.TB, network, server string) net.Conn {
	t.Helper()
	var conn net.Conn
	var err error
	nstest.In(t, b.path, func() {
		if network == "udp" {
			conn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(server)))
		} else {
			conn, err = net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(server)))
		}
	})
	if err != nil {
		t.Fatalf("dial %s %s: %v", network, server, err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// exchange sends a message and returns the answer.
func (b box) exchange(t testing.TB, network, server string, q *dns.Msg) *dns.Msg {
	t.Helper()
	r, err := exchange(b.dial(t, network, server), q)
	if err != nil {
		t.Fatalf("ask %s by %s for %v: %v", server, network, q.Question, err)
	}
	return r
}

func exchange(conn net.Conn, q *dns.Msg) (*dns.Msg, error) {
	conn.SetDeadline(time.Now().Add(6 * time.Second))
	c := &dns.Conn{Conn: conn, UDPSize: 4096}
	if err := c.WriteMsg(q); err != nil {
		return nil, err
	}
	for {
		r, err := c.ReadMsg()
		if err != nil || r.Id == q.Id {
			return r, err
		}
	}
}

// gateway is an address with the port of the names.
func gateway(addr string) string {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), names.Port).String()
}

// ask asks for a name and returns "RCODE data data...", the flags of the answer before
// it when they are not those of one of ours.
func (b box) ask(t testing.TB, server, name string, qtype uint16) string {
	t.Helper()
	return text(b.exchange(t, "udp", gateway(server), question(name, qtype)))
}

func question(name string, qtype uint16) *dns.Msg {
	return new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
}

func text(r *dns.Msg) string {
	words := []string{dns.RcodeToString[r.Rcode]}
	if !r.Authoritative {
		words[0] = "forwarded " + words[0]
	}
	if r.Truncated {
		words = append(words, "TC")
	}
	for _, rr := range r.Answer {
		words = append(words, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return strings.Join(words, " ")
}

// start runs a server until the test ends.
func start(t testing.TB, c Config, before ...func(*Server)) *Server {
	t.Helper()
	if c.StateDir == "" {
		c.StateDir = t.TempDir()
	}
	if c.ResolvConf == "" {
		c.ResolvConf = resolvConfWith(t)
	}
	s := New(c)
	for _, fn := range before {
		fn(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the server ended: %v", err)
		}
	})
	select {
	case <-s.Ready():
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
	return s
}

// resolvConfWith writes a resolv.conf.
func resolvConfWith(t testing.TB, servers ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	writeResolvers(t, path, servers...)
	return path
}

func writeResolvers(t testing.TB, path string, servers ...string) {
	t.Helper()
	text := "# for a test\nsearch example.org\n"
	for _, s := range servers {
		text += "nameserver " + s + "\n"
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// entry makes an entry: its names, then its addresses with the lengths of their
// subnets.
func entry(network, id, ifName, br, called string, addrs ...string) names.Entry {
	e := names.Entry{Key: attach.Key{Network: network, Container: id, IfName: ifName}, Bridge: br, Names: strings.Fields(called)}
	for _, a := range addrs {
		p := netip.MustParsePrefix(a)
		e.Addresses = append(e.Addresses, p.Addr())
		e.Subnets = append(e.Subnets, p.Masked())
	}
	return e
}

// put adds entries to a server, which listens for them.
func put(t testing.TB, s *Server, all ...names.Entry) {
	t.Helper()
	for _, e := range all {
		if err := s.add(e); err != nil {
			t.Fatal(err)
		}
	}
}

func mustPrefix(addr netip.Addr, subnet netip.Prefix) netip.Prefix {
	return netip.PrefixFrom(addr, subnet.Bits())
}
