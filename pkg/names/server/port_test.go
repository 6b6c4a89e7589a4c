package server

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/berth-cni/berth/pkg/names"
	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// TestPortTaken: where somebody has the port, another one is taken, on all bridges, and the
// redirection is told; where nobody can lead questions there, that is an error.
func TestPortTaken(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			br1, br2 := bridge(t, "10.31.0.1/24"), bridge(t, "10.32.0.1/24")
			c := container(t, br2, "10.32.0.2/24")
			var mu sync.Mutex
			var ports []uint16
			s := start(t, Config{Redirect: func(port uint16) error {
				mu.Lock()
				defer mu.Unlock()
				ports = append(ports, port)
				return nil
			}})
			last := func() uint16 {
				mu.Lock()
				defer mu.Unlock()
				return ports[len(ports)-1]
			}
			put(t, s, entry("one", "a", "eth0", br1, "a", "10.31.0.2/24"))
			if got := s.Status().Port; got != names.Port || last() != names.Port {
				t.Fatalf("it listens on %d, the redirection leads to %d", got, last())
			}
			take(t, network, br2)
			put(t, s, entry("two", "b", "eth0", br2, "b", "10.32.0.2/24"))
			st := s.Status()
			if st.Port == names.Port || int(last()) != st.Port || len(st.Bridges) != 2 || len(st.Deaf) != 0 {
				t.Fatalf("%+v, the redirection leads to %d", st, last())
			}
			at := netip.AddrPortFrom(netip.MustParseAddr("10.32.0.1"), uint16(st.Port)).String()
			for _, by := range []string{"udp", "tcp"} {
				if got := text(c.exchange(t, by, at, question("b", dns.TypeA))); got != "NOERROR 10.32.0.2" {
					t.Errorf("by %s: got %q", by, got)
				}
			}
		})
	}
	br := bridge(t, "10.33.0.1/24")
	s := start(t, Config{})
	take(t, "udp", br)
	if err := s.add(entry("net", "a", "eth0", br, "a", "10.33.0.2/24")); err == nil || !strings.Contains(err.Error(), "10053") {
		t.Errorf("without a redirection: %v", err)
	}
}

// TestPortNotRedirected: where the redirection fails, nobody listens at the other port in vain,
// and the next one has that port.
func TestPortNotRedirected(t *testing.T) {
	br := bridge(t, "10.34.0.1/24")
	c := container(t, br, "10.34.0.2/24")
	var mu sync.Mutex
	var ports []uint16
	s := start(t, Config{Redirect: func(port uint16) error {
		mu.Lock()
		defer mu.Unlock()
		if ports = append(ports, port); len(ports) == 2 { // the first one is as it starts
			return errors.New("no redirection")
		}
		return nil
	}})
	take(t, "udp", br)
	e := entry("net", "a", "eth0", br, "a", "10.34.0.2/24")
	if err := s.add(e); err == nil || !strings.Contains(err.Error(), "no redirection") {
		t.Errorf("got %v", err)
	}
	mu.Lock()
	port := ports[1]
	mu.Unlock()
	at := netip.AddrPortFrom(netip.MustParseAddr("10.34.0.1"), port).String()
	if l, err := net.Listen("tcp4", at); err != nil {
		t.Errorf("a listener is left: %v", err)
	} else {
		l.Close()
	}
	put(t, s, e)
	if got := s.Status().Port; got != int(port) {
		t.Errorf("it listens on %d, and could on %d", got, port)
	}
	if got := text(c.exchange(t, "udp", at, question("a", dns.TypeA))); got != "NOERROR 10.34.0.2" {
		t.Errorf("got %q", got)
	}
}

// TestPortShared: networks with and without a bridge are on one port, in any order, and each
// question goes to the listener that it came in by. Another program that shares the port is not
// mixed with them.
func TestPortShared(t *testing.T) {
	br1, br2 := bridge(t, "10.34.0.1/24"), bridge(t, "10.35.0.1/24")
	c := container(t, br1, "10.34.0.2/24")
	addresses := map[string]string{br1: "10.34.0.2/24", br2: "10.35.0.2/24", names.AnyInterface: "10.36.0.2/24"}
	for _, order := range [][]string{{br1, br2, names.AnyInterface}, {names.AnyInterface, br1, br2}, {br1, names.AnyInterface, br2}} {
		t.Run(strings.Join(order, " "), func(t *testing.T) {
			s := start(t, Config{Redirect: func(uint16) error { return nil }})
			for i, on := range order {
				put(t, s, entry("net"+strconv.Itoa(i), on, "eth0", on, "a", addresses[on]))
			}
			if st := s.Status(); st.Port != names.Port || len(st.Bridges) != 3 || len(st.Deaf) != 0 {
				t.Errorf("%+v", st)
			}
			for range 8 { // by several source ports
				for _, by := range []string{"udp", "tcp"} {
					if got := text(c.exchange(t, by, "10.34.0.1:10053", question("a", dns.TypeA))); got != "NOERROR 10.34.0.2" {
						t.Errorf("by %s: got %q", by, got)
					}
				}
			}
		})
	}
	shared := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }), err)
	}}
	other, err := shared.ListenPacket(t.Context(), "udp4", ":"+strconv.Itoa(names.Port))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	s := start(t, Config{Redirect: func(uint16) error { return nil }})
	put(t, s, entry("net", "a", "eth0", br1, "a", "10.34.0.2/24"))
	put(t, s, entry("routed", "b", "eth0", names.AnyInterface, "b", "10.36.0.2/24"))
	if st := s.Status(); st.Port == names.Port || len(st.Bridges) != 2 {
		t.Errorf("beside another program: %+v", st)
	}
}

// take has somebody else listen on the port for names, on one bridge.
func take(t *testing.T, network, br string) {
	t.Helper()
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), br) }), err)
	}}
	at := ":" + strconv.Itoa(names.Port)
	var c io.Closer
	var err error
	if network == "udp" {
		c, err = config.ListenPacket(t.Context(), "udp4", at)
	} else {
		c, err = config.Listen(t.Context(), "tcp4", at)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
}
