package firewall

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/nstest"
	"golang.org/x/sys/unix"
)

// TestVTEPs: packets of a network are taken from its peers only, and those of
// others on the same port from everybody.
func TestVTEPs(t *testing.T) {
	for _, six := range []bool{false, true} {
		t.Run(fmt.Sprintf("IPv6=%v", six), func(t *testing.T) {
			s := newSpan(t, NFTables, six, "b", "c")
			r, foreign := s.overlay(41), s.overlay(99)
			foreign.Backend = NFTables
			s.member("a41", 0, r)
			s.member("b41", 1, r)
			s.member("c41", 2, r)
			s.member("b99", 1, foreign)
			s.member("c99", 2, foreign)
			s.both("before the agent knows", "c41", "41", 1, "b41 saw 10.41.2.2", "b41 saw fd00:41:0:2::2")
			s.answers()
			s.sync(1, r)
			s.both("a peer", "a41", "41", 1, "b41 saw 10.41.0.2", "b41 saw fd00:41::2")
			s.both("not a peer", "c41", "41", 1, noAnswer, noAnswer)
			s.both("another VNI", "c99", "99", 1, "b99 saw 10.99.2.2", "b99 saw fd00:99:0:2::2")
			s.answers()
			change := func(fn func(port, vni int, peer VTEP) error) {
				t.Helper()
				s.at("b", func() {
					for range 2 {
						if err := fn(4789, 41, s.vtep(2, 41)); err != nil {
							t.Fatal(err)
						}
					}
				})
			}
			change(AddPeer)
			s.both("a peer now", "c41", "41", 1, "b41 saw 10.41.2.2", "b41 saw fd00:41:0:2::2")
			s.answers()
			change(func(port, vni int, peer VTEP) error { return RemovePeer(port, vni, peer, nil) })
			s.both("a peer no more", "c41", "41", 1, noAnswer, noAnswer)
			s.answers()
		})
	}
}

// TestPublishedTunnel has a container publish the port of VXLAN: the packets stay the
// overlay's.
func TestPublishedTunnel(t *testing.T) {
	s := newSpan(t, NFTables, false, "b")
	r := s.overlay(41)
	s.member("a41", 0, r)
	s.member("b41", 1, r, attach.Port{HostPort: 4789, ContainerPort: 80, Protocol: "udp"})
	s.sync(1, r)
	s.both("beside a published port", "a41", "41", 1, "b41 saw 10.41.0.2", "b41 saw fd00:41::2")
	s.answers()
}

// TestReserved: no bit of the VXLAN header leads past the filter.
func TestReserved(t *testing.T) {
	s := newSpan(t, NFTables, false, "b", "c")
	r := s.overlay(41)
	s.member("b41", 1, r)
	s.sync(1, r)
	var at net.PacketConn
	nstest.In(t, s.ns["b41"], func() {
		var err error
		if at, err = net.ListenPacket("udp4", ":7000"); err != nil {
			t.Fatal(err)
		}
	})
	defer at.Close()
	arrives := func(header uint64) bool {
		packet := binary.BigEndian.AppendUint64(nil, header)
		packet = append(packet, 2, 0, 0, 0, 41, 1, 2, 0, 0, 0, 41, 2, 8, 0) // Ethernet
		packet = append(packet, udpPacket("10.41.2.2", "10.41.1.2", 7000)...)
		nstest.In(t, s.ns["c"], func() {
			c, err := net.Dial("udp", "198.18.2.2:4789")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, _ = c.Write(packet)
		})
		_ = at.SetReadDeadline(time.Now().Add(150 * time.Millisecond))
		_, _, err := at.ReadFrom(make([]byte, 10))
		return err == nil
	}
	const valid, vni = 1 << 59, 41 << 8
	headers := []uint64{valid | vni, valid | vni | 1, valid | vni | 0x80, vni, valid | vni | 1<<32, valid | vni | 1<<63}
	for _, h := range headers {
		if arrives(h) {
			t.Errorf("header %016x of no peer passed", h)
		}
	}
	s.at("b", func() {
		if err := AddPeer(4789, 41, s.vtep(2, 41)); err != nil {
			t.Fatal(err)
		}
	})
	if !arrives(headers[0]) {
		t.Error("nothing passes: the test shows nothing")
	}
}

// TestTransit has a host send to another one what belongs to a third.
func TestTransit(t *testing.T) {
	s := newSpan(t, NFTables, false, "b", "c")
	r := s.overlay(41)
	s.member("a41", 0, r)
	s.member("b41", 1, r)
	s.member("c41", 2, r)
	s.at("b", func() { s.ip("route replace 10.41.2.0/24 via 10.41.0.0 dev vxlan41 onlink") })
	s.expectSoon("transit", "b41", "tcp", "10.41.2.2:80", noAnswer)
	s.answers()
	run(t, "nft flush set inet berth overlay")
	run(t, "nft flush set inet berth same")
	s.expectSoon("unprotected", "b41", "tcp", "10.41.2.2:80", "c41 saw 10.41.1.2")
	s.answers()
}

// TestSpoofed sends through the tunnel in the name of others.
func TestSpoofed(t *testing.T) {
	s := newSpan(t, NFTables, false, "b")
	r := s.overlay(41)
	s.member("a41", 0, r)
	s.member("b41", 1, r)
	s.at("b", func() { s.network(9) })
	var at net.PacketConn
	nstest.In(t, s.ns["b41"], func() {
		var err error
		if at, err = net.ListenPacket("udp4", ":7000"); err != nil {
			t.Fatal(err)
		}
	})
	defer at.Close()
	arrives := func(source string) bool {
		nstest.In(t, s.ns["a41"], func() { sendUDP(t, source, "10.41.1.2", 7000) })
		_ = at.SetReadDeadline(time.Now().Add(150 * time.Millisecond))
		_, _, err := at.ReadFrom(make([]byte, 10))
		return err == nil
	}
	// A local network, the same host's containers, what is behind the underlay;
	// then what the kernel refuses by itself: the host's own, nobody's, loopback.
	others := []string{"10.9.0.2", "10.41.1.3", "192.0.2.2"}
	for _, source := range append(others, "198.18.2.2", "10.41.1.0", "10.41.77.2", "127.0.0.2") {
		if arrives(source) {
			t.Errorf("a packet in the name of %s passed", source)
		}
	}
	if !arrives("10.41.0.7") {
		t.Error("nothing passes")
	}
	s.at("b", func() {
		run(t, "nft flush set inet berth overlay")
		run(t, "nft flush set inet berth inside")
	})
	run(t, "nft flush set inet berth inside") // the sender's host holds it as well
	for _, source := range others {
		if !arrives(source) {
			t.Errorf("in the name of %s, unprotected: the test shows nothing", source)
		}
	}
}

// TestInjectedVLAN: a container behind a VLAN of a bridge, whose gateway is on an interface
// of a kind that underlays have, too, speaks as a peer to its host.
func TestInjectedVLAN(t *testing.T) {
	s := newSpan(t, NFTables, false, "b")
	r := s.overlay(41)
	s.sync(1, r)
	vlan := &Rules{Backend: NFTables, Bridge: "br9.7", Masquerade: true}
	s.at("b", func() {
		s.ip("link add br9 up type bridge")
		if out, err := exec.Command("ip", "link", "add", "link", "br9", "name", "br9.7", "up", "type", "vlan", "id", "7").CombinedOutput(); err != nil {
			t.Skipf("the kernel has no VLANs (VLAN_8021Q): %s", out)
		}
		s.ip("addr add 10.9.0.1/24 dev br9.7")
		s.node("v", "10.9.1.2/24", "fd00:9::2/64", "10.9.1.1", "fd00:9::1")
		s.ip("link set v-v master br9")
		a := attachment("v", []string{"10.9.0.2/24"})
		a.Network, a.Steps = "br9", []attach.Step{vlan}
		if err := vlan.Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
			t.Fatal(err)
		}
		for _, dev := range []string{"all", "default", "br9.7"} {
			s.sysctl("ipv4/conf/"+dev+"/rp_filter", "0")
		}
	})
	nstest.In(t, s.ns["v"], func() {
		s.ip("link add link eth0 name eth0.7 up type vlan id 7")
		s.ip("addr add 10.9.0.2/24 dev eth0.7")
		s.ip("route replace 198.18.2.2 via 10.9.0.1")
	})
	send := func(from string) string {
		nstest.In(t, s.ns["v"], func() { sendUDP(t, from, "198.18.2.2", 4789) })
		time.Sleep(100 * time.Millisecond)
		var out string
		s.at("b", func() { out = run(t, "nft list counter inet berth injected") })
		return out
	}
	if out := send("10.9.0.2"); !strings.Contains(out, "packets 0 ") {
		t.Errorf("in its own name: %s", out)
	}
	if out := send("198.18.2.1"); !strings.Contains(out, "packets 1 ") {
		t.Errorf("in the name of a peer: %s", out)
	}
}

// sendUDP sends a datagram with any source.
func sendUDP(t *testing.T, from, to string, port uint16) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	dst := netip.MustParseAddr(to).As4()
	if err := unix.Sendto(fd, udpPacket(from, to, port), 0, &unix.SockaddrInet4{Addr: dst}); err != nil {
		t.Fatal(err)
	}
}

// udpPacket is an IPv4 packet of one byte of data; UDP does without a checksum.
func udpPacket(from, to string, port uint16) []byte {
	src, dst := netip.MustParseAddr(from), netip.MustParseAddr(to)
	b := []byte{0x45, 0, 0, 29, 0, 1, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}
	b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum+sum>>16))
	for _, v := range []uint16{port, port, 9, 0} {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return append(b, '?')
}
