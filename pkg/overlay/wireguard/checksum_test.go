package wireguard

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sum is the ones' complement sum (RFC 1071) of a datagram over IPv6 with its pseudo
// header, whose checksum is zero.
func sum(from, to netip.AddrPort, payload []byte) uint16 {
	a, b := from.Addr().As16(), to.Addr().As16()
	size := uint16(8 + len(payload))
	all := slices.Concat(a[:], b[:], payload)
	for _, n := range []uint16{size, unix.IPPROTO_UDP, from.Port(), to.Port(), size} {
		all = binary.BigEndian.AppendUint16(all, n)
	}
	s := uint32(0)
	for i := 0; i < len(all); i += 2 {
		s += uint32(binary.BigEndian.Uint16(all[i:]))
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// zeroed is a payload with that number in front, of a datagram whose checksum is zero as it
// is computed.
func zeroed(from, to netip.AddrPort, number byte) []byte {
	p := make([]byte, 64)
	p[1] = number
	binary.BigEndian.PutUint16(p[2:], ^sum(from, to, p))
	return p
}

// listen opens a socket, which is closed at the test's end, at the host's own address.
func (h *host) listen(family int) (c *net.UDPConn) {
	h.t.Helper()
	h.in(func() {
		var err error
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(h.block(family).Addr(), 0)))
		fatal(h.t, err)
	})
	h.t.Cleanup(func() { c.Close() })
	return c
}

// testChecksum sends datagrams whose checksum is zero as it is computed, one by one and
// many at once (UDP_SEGMENT), through a tunnel that is there. All arrive over both families.
func testChecksum(t *testing.T, one, two *host) {
	for _, family := range []int{4, 6} {
		from, to := one.listen(family), two.listen(family)
		source, target := from.LocalAddr().(*net.UDPAddr).AddrPort(), to.LocalAddr().(*net.UDPAddr).AddrPort()
		var many []byte
		for i := range byte(8) {
			p := zeroed(source, target, i)
			if family == 6 && sum(source, target, p) != 0xffff {
				t.Fatalf("checksum of datagram %d is not zero", i)
			}
			_, err := from.WriteToUDPAddrPort(p, target)
			fatal(t, err)
			many = append(many, zeroed(source, target, 8+i)...)
		}
		control := make([]byte, unix.CmsgSpace(2))
		h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
		h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
		h.SetLen(unix.CmsgLen(2))
		binary.NativeEndian.PutUint16(control[unix.CmsgLen(0):], 64)
		_, _, err := from.WriteMsgUDPAddrPort(many, control, target)
		fatal(t, err)
		var missing []int
		for i := range 16 {
			missing = append(missing, i)
		}
		_ = to.SetReadDeadline(time.Now().Add(2 * time.Second))
		for b := make([]byte, 64); len(missing) > 0; {
			if _, err := to.Read(b); err != nil {
				t.Errorf("IPv%d: datagrams %v did not arrive: %v", family, missing, err)
				break
			}
			missing = slices.DeleteFunc(missing, func(i int) bool { return i == int(b[1]) })
		}
	}
}

// TestNonzero has checksums be zero that were computed, that were left out, and in packets
// that are none.
func TestNonzero(t *testing.T) {
	from, to := netip.MustParseAddrPort("[fd00::1]:4242"), netip.MustParseAddrPort("[fd00::2]:53")
	packet := func(options int, payload []byte) []byte {
		a, b := from.Addr().As16(), to.Addr().As16()
		p := []byte{0x60, 0, 0, 0, 0, byte(8*options + 8 + len(payload)), unix.IPPROTO_UDP, 64}
		p = slices.Concat(p, a[:], b[:])
		for i := range options {
			p[6] = unix.IPPROTO_HOPOPTS
			next := byte(unix.IPPROTO_UDP)
			if i+1 < options {
				next = unix.IPPROTO_DSTOPTS
			}
			p = append(p, next, 0, 1, 4, 0, 0, 0, 0)
		}
		for _, n := range []uint16{from.Port(), to.Port(), uint16(8 + len(payload)), 0} {
			p = binary.BigEndian.AppendUint16(p, n)
		}
		return append(p, payload...)
	}
	for options := range 3 {
		at := 40 + 8*options + 6
		p := packet(options, zeroed(from, to, 1))
		nonzero(p)
		if got := binary.BigEndian.Uint16(p[at:]); got != 0xffff {
			t.Errorf("%d headers of options: checksum %#04x, want 0xffff", options, got)
		}
		other := packet(options, []byte("of another sum."))
		for _, whole := range [][]byte{other, packet(options, zeroed(from, to, 1))[:at+2]} {
			for n := range len(whole) + 1 {
				p := slices.Clone(whole[:n])
				if nonzero(p); !slices.Equal(p, whole[:n]) {
					t.Errorf("%d headers of options, %d of %d bytes: changed", options, n, len(whole))
				}
			}
		}
	}
}
