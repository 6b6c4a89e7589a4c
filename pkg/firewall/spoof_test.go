package firewall

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-cni/berth/pkg/attach"
	"github.com/berth-cni/berth/pkg/nstest"
	"github.com/berth-cni/berth/pkg/steptest"
	"golang.org/x/sys/unix"
)

// spoofLab has two containers on a bridge. The host's ends have the names that the step
// knows them by.
type spoofLab struct {
	*lab
	a, b *attach.Attachment
	macB net.HardwareAddr
}

func newSpoofLab(t testing.TB, check bool) *spoofLab {
	l := &spoofLab{lab: newLab(t, NFTables, false)}
	r := l.network(1)
	l.a, l.b = l.container("a", r, 2), l.container("b", r, 3)
	for name, a := range map[string]*attach.Attachment{"a": l.a, "b": l.b} {
		mac := net.HardwareAddr{2, 0x42, 0, 0, 0, byte(name[0])}
		a.MAC = mac.String()
		l.ip("-n " + l.id(name) + " link set eth0 down")
		l.ip("-n " + l.id(name) + " link set eth0 address " + a.MAC)
		l.ip("-n " + l.id(name) + " link set eth0 up")
		l.ip("-n " + l.id(name) + " route replace default via 10.1.0.1")
		l.ip("-n " + l.id(name) + " -6 addr add " + a.Addresses[1].Prefix.String() + " dev eth0 nodad")
		l.ip("link set v-" + name + " down")
		l.ip("link set v-" + name + " name " + a.HostIfName())
		l.ip("link set " + a.HostIfName() + " up")
		l.macB = mac
		if !check {
			continue
		}
		s := &Spoof{}
		a.Steps = append(a.Steps, s)
		if err := s.Add(t.Context(), &attach.Adding{Attachment: a}); err != nil {
			t.Fatal(err)
		}
		if err := s.Check(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// frame is one that container a sends.
type frame struct {
	what   string
	ether  string // source MAC; empty: its own
	proto  uint16
	body   []byte
	passes bool // also when it is held to its addresses
}

const ownMAC, otherMAC = "02:42:00:00:00:61", "02:42:00:00:00:62"

func mustMAC(s string) net.HardwareAddr {
	mac, err := net.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return mac
}

func ipv4(src, dst string, sport, dport uint16) []byte {
	b := make([]byte, 28)
	b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(b[2:], 28)
	copy(b[12:], netip.MustParseAddr(src).AsSlice())
	copy(b[16:], netip.MustParseAddr(dst).AsSlice())
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum>>16+sum&0xffff))
	binary.BigEndian.PutUint16(b[20:], sport)
	binary.BigEndian.PutUint16(b[22:], dport)
	binary.BigEndian.PutUint16(b[24:], 8)
	return b
}

func ipv6(src, dst string, next byte, payload ...byte) []byte {
	b := make([]byte, 40, 40+len(payload))
	b[0], b[6], b[7] = 0x60, next, 255
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	copy(b[8:], netip.MustParseAddr(src).AsSlice())
	copy(b[24:], netip.MustParseAddr(dst).AsSlice())
	return append(b, payload...)
}

func icmp6(kind byte, target string) []byte {
	b := make([]byte, 8, 24)
	b[0] = kind
	if target != "" {
		b = append(b, netip.MustParseAddr(target).AsSlice()...)
	}
	return b
}

func arp(op uint16, mac, src, dst string) []byte {
	b := []byte{0, 1, 8, 0, 6, 4, byte(op >> 8), byte(op)}
	b = append(append(b, mustMAC(mac)...), netip.MustParseAddr(src).AsSlice()...)
	return append(append(b, make([]byte, 6)...), netip.MustParseAddr(dst).AsSlice()...)
}

// extended puts a hop-by-hop header in front of an ICMPv6 message.
func extended(message []byte) []byte {
	return append([]byte{unix.IPPROTO_ICMPV6, 0, 1, 4, 0, 0, 0, 0}, message...)
}

func spoofFrames() []frame {
	const ll, all = "fe80::42:ff:fe00:61", "ff02::1"
	udp := func(src string) []byte { return ipv6(src, "fd00:1::3", unix.IPPROTO_UDP, 0, 9, 0, 9, 0, 8, 0, 0) }
	nd := func(src string, message []byte) []byte { return ipv6(src, all, unix.IPPROTO_ICMPV6, message...) }
	return []frame{
		{"IPv4 of its own", "", unix.ETH_P_IP, ipv4("10.1.0.2", "10.1.0.3", 9, 9), true},
		{"IPv4 of a neighbour", "", unix.ETH_P_IP, ipv4("10.1.0.3", "10.1.0.3", 9, 9), false},
		{"IPv4 of the gateway", "", unix.ETH_P_IP, ipv4("10.1.0.1", "10.1.0.3", 9, 9), false},
		{"IPv4 of the outside", "", unix.ETH_P_IP, ipv4("192.0.2.2", "10.1.0.3", 9, 9), false},
		{"IPv4 of its own with another MAC", otherMAC, unix.ETH_P_IP, ipv4("10.1.0.2", "10.1.0.3", 9, 9), false},
		{"DHCP without an address", "", unix.ETH_P_IP, ipv4("0.0.0.0", "255.255.255.255", 68, 67), true},
		{"another packet without an address", "", unix.ETH_P_IP, ipv4("0.0.0.0", "10.1.0.3", 9, 9), false},
		{"IPv6 of its own", "", unix.ETH_P_IPV6, udp("fd00:1::2"), true},
		{"IPv6 of its own link", "", unix.ETH_P_IPV6, udp(ll), true},
		{"IPv6 of a neighbour", "", unix.ETH_P_IPV6, udp("fd00:1::3"), false},
		{"IPv6 of another link-local address", "", unix.ETH_P_IPV6, udp("fe80::1"), false},
		{"IPv6 of its own with another MAC", otherMAC, unix.ETH_P_IPV6, udp("fd00:1::2"), false},
		{"echo of its own", "", unix.ETH_P_IPV6, nd("fd00:1::2", icmp6(128, "")), true},
		{"echo of a neighbour", "", unix.ETH_P_IPV6, nd("fd00:1::3", icmp6(128, "")), false},
		{"a solicitation of its own", "", unix.ETH_P_IPV6, nd("fd00:1::2", icmp6(neighborSolicitation, "fd00:1::3")), true},
		{"a probe for its own", "", unix.ETH_P_IPV6, nd("::", icmp6(neighborSolicitation, "fd00:1::2")), true},
		{"a probe for a neighbour's", "", unix.ETH_P_IPV6, nd("::", icmp6(neighborSolicitation, "fd00:1::3")), false},
		{"an advertisement of its own", "", unix.ETH_P_IPV6, nd("fd00:1::2", icmp6(neighborAdvert, "fd00:1::2")), true},
		{"an advertisement of a neighbour's", "", unix.ETH_P_IPV6, nd("fd00:1::2", icmp6(neighborAdvert, "fd00:1::3")), false},
		{"an advertisement of a neighbour's behind a header", "", unix.ETH_P_IPV6, ipv6(ll, all, 0, extended(icmp6(neighborAdvert, "fd00:1::3"))...), false},
		{"a router advertisement", "", unix.ETH_P_IPV6, nd(ll, icmp6(routerAdvertisement, "")), false},
		{"a router advertisement behind a header", "", unix.ETH_P_IPV6, ipv6(ll, all, 0, extended(icmp6(routerAdvertisement, ""))...), false},
		{"a redirect", "", unix.ETH_P_IPV6, nd(ll, icmp6(redirectMessage, "fd00:1::9")), false},
		{"a router solicitation", "", unix.ETH_P_IPV6, nd("::", icmp6(routerSolicitation, "")), true},
		{"a multicast report", "", unix.ETH_P_IPV6, nd("::", icmp6(mld2Report, "")), true},
		{"ARP of its own", "", unix.ETH_P_ARP, arp(1, ownMAC, "10.1.0.2", "10.1.0.3"), true},
		{"an ARP answer of its own", "", unix.ETH_P_ARP, arp(2, ownMAC, "10.1.0.2", "10.1.0.3"), true},
		{"an ARP claim of a neighbour's", "", unix.ETH_P_ARP, arp(2, ownMAC, "10.1.0.3", "10.1.0.1"), false},
		{"an ARP claim of the gateway's", "", unix.ETH_P_ARP, arp(1, ownMAC, "10.1.0.1", "10.1.0.3"), false},
		{"an ARP claim with another MAC", "", unix.ETH_P_ARP, arp(2, otherMAC, "10.1.0.2", "10.1.0.3"), false},
		{"an ARP probe for its own", "", unix.ETH_P_ARP, arp(1, ownMAC, "0.0.0.0", "10.1.0.2"), true},
		{"an ARP probe for a neighbour's", "", unix.ETH_P_ARP, arp(1, ownMAC, "0.0.0.0", "10.1.0.3"), false},
		{"another protocol", "", 0x88b5, []byte("local experimental"), true},
		{"another protocol with another MAC", otherMAC, 0x88b5, []byte("local experimental"), false},
		{"IPv4 of a neighbour behind a priority tag", "", unix.ETH_P_8021Q, append([]byte{0, 0, 8, 0}, ipv4("10.1.0.3", "10.1.0.3", 9, 9)...), false},
		{"IPv4 of a neighbour behind two tags", "", unix.ETH_P_8021Q, append([]byte{0, 0, 0x81, 0, 0, 0, 8, 0}, ipv4("10.1.0.3", "10.1.0.3", 9, 9)...), false},
	}
}

// TestSpoof sends each frame from one container and looks for it in the other; without the
// step all of them arrive.
func TestSpoof(t *testing.T) {
	for _, checks := range []bool{false, true} {
		t.Run(fmt.Sprint(checks), func(t *testing.T) {
			l := newSpoofLab(t, checks)
			seen := l.capture("b")
			marker := func(text string) func() {
				raw := slices.Concat([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, []byte(mustMAC(ownMAC)), []byte{0x88, 0xb6}, []byte(text))
				return func() { nstest.In(t, l.ns["a"], func() { send(t, raw) }) }
			}
			seen("the beginning", marker("the beginning")) // a port that has just come up forwards nothing yet
			for i, f := range spoofFrames() {
				src := ownMAC
				if f.ether != "" {
					src = f.ether
				}
				to := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
				mark := []byte(fmt.Sprintf("frame %03d", i))
				raw := slices.Concat([]byte(to), []byte(mustMAC(src)), binary.BigEndian.AppendUint16(nil, f.proto), f.body, mark)
				nstest.In(t, l.ns["a"], func() { send(t, raw) })
			}
			got := seen("the end", marker("the end"))
			for i, f := range spoofFrames() {
				arrived := strings.Contains(got, fmt.Sprintf("frame %03d", i))
				if want := f.passes || !checks; arrived != want {
					t.Errorf("%s: arrived %v, want %v (%s)", f.what, arrived, want, hex.EncodeToString(f.body))
				}
			}
		})
	}
}

// TestSpoofTraffic: what containers do by themselves goes on.
func TestSpoofTraffic(t *testing.T) {
	l := newSpoofLab(t, true)
	for _, c := range []struct{ from, to, want string }{
		{"a", "10.1.0.3:80", "b saw 10.1.0.2"}, {"a", "[fd00:1::3]:80", "b saw fd00:1::2"},
		{"a", "192.0.2.2:80", "out saw 192.0.2.1"}, {"host", "10.1.0.2:80", "a saw 10.1.0.1"}, {"host", "[fd00:1::2]:80", "a saw fd00:1::1"},
	} {
		for _, network := range []string{"tcp", "udp"} {
			l.expect("held to its addresses", c.from, network, c.to, c.want)
		}
	}
	// Its own link-local address, by itself and with duplicate address detection.
	if out, err := nstest.Output("ip", "netns", "exec", l.id("a"), "ping", "-c1", "-W2", "fe80::42:ff:fe00:62%eth0"); err != nil {
		t.Errorf("ping a neighbour's link-local address: %v\n%s", err, out)
	}
	l.ip("-n " + l.id("a") + " addr add 10.1.0.77/24 dev eth0")
	l.ip("-n " + l.id("a") + " route replace 192.0.2.0/24 via 10.1.0.1 src 10.1.0.77")
	l.expect("as another address", "a", "tcp", "192.0.2.2:80", noAnswer)
	if got := run(t, "nft list table bridge berth"); strings.Count(got, "packets 0 ") == strings.Count(got, "packets ") {
		t.Errorf("no counter counted what was dropped:\n%s", got)
	}
}

// TestSpoofConform is the step's own life.
func TestSpoofConform(t *testing.T) {
	nstest.Host(t)
	a := sample("a")
	a.MAC = ownMAC
	s := &Spoof{}
	steptest.Conform(t, s, a, steptest.Harmless, func() string { return linesWith(t, a.HostIfName()) })
	a.Steps = []attach.Step{s}
	all := []*attach.Attachment{a}
	add := func() {
		t.Helper()
		if err := s.Add(t.Context(), &attach.Adding{Attachment: a, All: recordsOf(&all)}); err != nil {
			t.Fatal(err)
		}
	}
	add()
	listing := run(t, "nft list table bridge berth")
	file := t.TempDir() + "/table"
	if err := os.WriteFile(file, []byte(listing), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "nft flush ruleset")
	run(t, "nft -f "+file) // who keeps a listing must be able to load it
	if err := s.Check(t.Context(), a); err != nil {
		t.Errorf("loaded from its listing: %v", err)
	}
	for _, damage := range []string{"flush ruleset", "flush table bridge berth", "delete table bridge berth", "flush set bridge berth own4", "flush chain bridge berth " + checked} {
		add()
		if err := nstest.Run("nft", damage); err != nil {
			t.Fatal(err)
		}
		if s.Check(t.Context(), a) == nil {
			t.Errorf("%s: the check finds nothing", damage)
		}
		if err := Rebuild(t.Context(), recordsOf(&all)); err != nil {
			t.Fatal(err)
		}
		if err := s.Check(t.Context(), a); err != nil {
			t.Errorf("%s, and put back: %v", damage, err)
		}
	}
	held, err := ListHeld(t.Context())
	if err != nil || held[a.Hash()] == nil || !held[a.Hash()].Spoof {
		t.Errorf("held %v, %v", held[a.Hash()], err)
	}
	if err := Forget(t.Context(), a.Hash()); err != nil {
		t.Fatal(err)
	}
	if left := linesWith(t, a.Hash()); left != "" {
		t.Errorf("left by its hash:\n%s", left)
	}
	if checkedUsers != spoofChains()[1].Users() {
		t.Errorf("checkedUsers is %d, and the chain has %d", checkedUsers, spoofChains()[1].Users())
	}
	a.MAC = "no MAC"
	if err := s.Add(context.Background(), &attach.Adding{Attachment: a}); err == nil || !strings.Contains(err.Error(), `MAC "no MAC"`) {
		t.Errorf("error %v", err)
	}
}

// send sends a frame by eth0 of the thread's namespace.
func send(t testing.TB, frame []byte) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	eth0, err := net.InterfaceByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: eth0.Index}); err != nil {
		t.Fatal(err)
	}
}

// capture reads what arrives in a container, until a frame with the text does. Where
// nothing comes, send is called.
func (l *spoofLab) capture(name string) (until func(text string, send func()) string) {
	l.t.Helper()
	fd := -1
	nstest.In(l.t, l.ns[name], func() {
		var err error
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(binary.NativeEndian.Uint16([]byte{0, 3}))); err != nil {
			l.t.Fatal(err)
		}
	})
	l.t.Cleanup(func() { unix.Close(fd) })
	patience := unix.NsecToTimeval((50 * time.Millisecond).Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience); err != nil {
		l.t.Fatal(err)
	}
	return func(text string, send func()) string {
		var all strings.Builder
		buf := make([]byte, 2048)
		for quiet := 0; !strings.Contains(all.String(), text); {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			switch {
			case errors.Is(err, unix.EAGAIN) && quiet < 200:
				quiet++
				send()
			case errors.Is(err, unix.EINTR):
			case err != nil:
				l.t.Fatalf("wait for %q: %v", text, err)
			default:
				all.Write(buf[:n])
				all.WriteByte('\n')
			}
		}
		return all.String()
	}
}
