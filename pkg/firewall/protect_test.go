package firewall

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/nstest"
	"golang.org/x/sys/unix"
)

// TestLoopbackProtected has a container send to 127.0.0.1 over the bridge, on
// which the kernel accepts it for the sake of published ports (CVE-2020-8558).
func TestLoopbackProtected(t *testing.T) {
	for _, backend := range []string{NFTables, IPTables} {
		t.Run(backend, func(t *testing.T) {
			l := newLab(t, backend, false)
			r := l.network(1)
			serve(t, "host", "127.0.0.1:7000")
			l.node("x", "10.1.0.9/24", "fd00:1::9/64", "10.1.0.1", "fd00:1::1")
			l.ip("link set v-x master br1")
			id := l.ns["x"][strings.LastIndex(l.ns["x"], "/")+1:]
			l.ip("-n " + id + " addr del 127.0.0.1/8 dev lo")
			nstest.In(t, l.ns["x"], func() { l.sysctl("ipv4/conf/all/route_localnet", "1") })
			l.ip("-n " + id + " route add 127.0.0.0/8 via 10.1.0.1 src 10.1.0.9")
			if got := l.ask("x", "tcp", "127.0.0.1:7000", time.Second); got != "host saw 10.1.0.9" {
				t.Fatalf("unprotected: %q: the test shows nothing", got)
			}
			l.container("a", r, 2)
			l.expect("protected", "x", "tcp", "127.0.0.1:7000", noAnswer)
			l.expect("protected", "x", "udp", "127.0.0.1:7000", noAnswer)
		})
	}
}

// TestLoopbackFromOutside has a neighbour of the host send to 127.0.0.1, where the host's
// interfaces take it (route_localnet, as kube-proxy sets it): a port that is published on
// 127.0.0.1 is not reached, also where an earlier version's jump was there.
func TestLoopbackFromOutside(t *testing.T) {
	for _, backend := range []string{NFTables, IPTables} {
		t.Run(backend, func(t *testing.T) {
			l := newLab(t, backend, false)
			r := l.network(1)
			serve(t, "host", "127.0.0.1:7000")
			l.sysctl("ipv4/conf/all/route_localnet", "1")
			l.ip("-n " + l.id("out") + " addr del 127.0.0.1/8 dev lo")
			nstest.In(t, l.ns["out"], func() { l.sysctl("ipv4/conf/all/route_localnet", "1") })
			l.ip("-n " + l.id("out") + " route add 127.0.0.0/8 via 192.0.2.1 src 192.0.2.2")
			if backend == IPTables {
				l.iptables("-t nat -N " + chainPublish)
				for _, j := range formerJumps(false) {
					l.iptables("-t nat -A PREROUTING " + strings.Join(j.Spec, " "))
				}
			}
			l.container("a", r, 2, attach.Port{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 8080, ContainerPort: 80, Protocol: "tcp"},
				attach.Port{HostPort: 8081, ContainerPort: 80, Protocol: "tcp"})
			if got := l.ask("out", "tcp", "127.0.0.1:7000", time.Second); got != "host saw 192.0.2.2" {
				t.Fatalf("what is not ours: %q: the test shows nothing", got)
			}
			l.expect("published on 127.0.0.1", "out", "tcp", "127.0.0.1:8080", noAnswer)
			l.expect("published", "out", "tcp", "127.0.0.1:8081", noAnswer)
			l.expect("published", "out", "tcp", "192.0.2.1:8081", "a saw 192.0.2.2")
			l.expect("published on 127.0.0.1", "host", "tcp", "127.0.0.1:8080", "a saw 10.1.0.1")
		})
	}
}

// TestLoopbackSource has a container send in the name of 127.0.0.2: an address
// that no interface has, and that the kernel therefore does not take for its own.
func TestLoopbackSource(t *testing.T) {
	for _, backend := range []string{NFTables, IPTables} {
		t.Run(backend, func(t *testing.T) {
			l := newLab(t, backend, false)
			r := l.network(1)
			l.node("x", "10.1.0.9/24", "fd00:1::9/64", "10.1.0.1", "fd00:1::1")
			l.ip("link set v-x master br1")
			at, err := net.ListenPacket("udp4", "10.1.0.1:7000")
			if err != nil {
				t.Fatal(err)
			}
			defer at.Close()
			var fd int
			nstest.In(t, l.ns["x"], func() {
				if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW); err != nil {
					t.Fatal(err)
				}
			})
			defer unix.Close(fd)
			comes := func(source string, wait time.Duration) bool {
				t.Helper()
				to := netip.MustParseAddr("10.1.0.1").As4()
				if err := unix.Sendto(fd, udp4(netip.MustParseAddr(source).As4(), to, 7000), 0, &unix.SockaddrInet4{Addr: to}); err != nil {
					t.Fatal(err)
				}
				_ = at.SetReadDeadline(time.Now().Add(wait))
				_, from, err := at.ReadFrom(make([]byte, 10))
				return err == nil && strings.HasPrefix(from.String(), source)
			}
			if !comes("10.1.0.9", time.Second) || !comes("127.0.0.2", time.Second) {
				t.Fatal("unprotected, nothing came: the test shows nothing")
			}
			l.container("a", r, 2)
			if !comes("10.1.0.9", time.Second) || comes("127.0.0.2", 150*time.Millisecond) {
				t.Error("a packet from 127.0.0.2 came, or none")
			}
		})
	}
}

// udp4 is an IP packet with an empty datagram (RFC 791, 768); the kernel fills in
// length and checksum of the former, and 0 stands for none in the latter.
func udp4(from, to [4]byte, port uint16) []byte {
	b := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}
	b = append(append(b, from[:]...), to[:]...)
	b = binary.BigEndian.AppendUint16(append(b, 0x10, 0), port)
	return append(b, 0, 8, 0, 0)
}

// TestLoopback6: a port on [::1] is reached by a client of another address, and by none of
// ::1, as the kernel drops the answers. It is refused at once, so that clients try
// 127.0.0.1 next.
func TestLoopback6(t *testing.T) {
	for _, backend := range []string{NFTables, IPTables} {
		t.Run(backend, func(t *testing.T) {
			l := newLab(t, backend, false)
			l.container("a", l.network(1), 2, attach.Port{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"},
				attach.Port{HostIP: netip.IPv6Loopback(), HostPort: 8081, ContainerPort: 80, Protocol: "tcp"})
			for _, port := range []string{"8080", "8081"} {
				d := net.Dialer{Timeout: time.Second}
				if _, err := d.Dial("tcp", "[::1]:"+port); !errors.Is(err, unix.ECONNREFUSED) {
					t.Errorf("port %s: error %v, want %v", port, err, unix.ECONNREFUSED)
				}
				d.LocalAddr = &net.TCPAddr{IP: net.ParseIP("2001:db8:a::1")}
				c, err := d.Dial("tcp", "[::1]:"+port)
				if err != nil {
					t.Errorf("port %s from another address: %v", port, err)
					continue
				}
				if got := talk(c, time.Second); got != "a saw 2001:db8:a::1" {
					t.Errorf("port %s from another address: %q", port, got)
				}
				c.Close()
			}
			l.expect("an address alone", "host", "tcp", "[2001:db8:a::1]:8081", noAnswer)
			l.expect("then", "host", "tcp", "localhost:8080", "a saw 10.1.0.1")
		})
	}
}

// TestSCTP sends the first packet of an SCTP association by hand, as kernels
// without SCTP sockets track and translate it all the same.
func TestSCTP(t *testing.T) {
	for _, backend := range []string{NFTables, IPTables} {
		t.Run(backend, func(t *testing.T) {
			l := newLab(t, backend, false)
			r := l.network(1)
			a := l.container("a", r, 2, attach.Port{HostPort: 3868, ContainerPort: 99, Protocol: "sctp"})
			raw := func(node string) (fd int) {
				nstest.In(t, l.ns[node], func() {
					var err error
					if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP); err != nil {
						t.Fatal(err)
					}
				})
				t.Cleanup(func() { unix.Close(fd) })
				return fd
			}
			from, to := raw("out"), raw("a")
			_ = unix.SetsockoptTimeval(to, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2})
			sa := &unix.SockaddrInet4{Addr: netip.MustParseAddr("192.0.2.1").As4()}
			if err := unix.Sendto(from, sctpInit(4000, 3868), 0, sa); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 200)
			n, _, err := unix.Recvfrom(to, buf, 0)
			if err != nil {
				t.Fatalf("nothing came: %v", err)
			}
			const ipHeader = 20
			if port := binary.BigEndian.Uint16(buf[ipHeader+2 : n]); port != 99 {
				t.Errorf("came to port %d, want 99", port)
			}
			if err := r.Del(context.Background(), a); err != nil {
				t.Fatal(err)
			}
			if left := run(t, "conntrack -L -p sctp"); strings.Contains(left, "dport=3868") {
				t.Errorf("left after Del: %s", left)
			}
		})
	}
}

// sctpInit is a packet with an INIT chunk (RFC 9260, sections 3.1 and 3.3.2).
func sctpInit(from, to uint16) []byte {
	b := binary.BigEndian.AppendUint16(nil, from)
	b = binary.BigEndian.AppendUint16(b, to)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0) // verification tag, checksum
	b = append(b, 1, 0, 0, 20)            // INIT, flags, length
	b = append(b, 0, 0, 0, 7)             // initiate tag
	b = append(b, 0, 1, 0, 0)             // receiver window
	b = append(b, 0, 1, 0, 1)             // streams out, in
	b = append(b, 0, 0, 0, 9)             // initial TSN
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}
