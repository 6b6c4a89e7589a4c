package wireguard

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"
)

// checksummed is a device whose UDP datagrams over IPv6 never have a checksum of zero.
//
// The kernel leaves checksums to the device, and tun computes them, but does not send a
// sum of zero as all ones (RFC 768). Over IPv6 zero means that there is no checksum, and
// the receiver drops the datagram (RFC 8200, section 8.1): one of 65,536. Over IPv4 it is
// taken unchecked, and WireGuard has authenticated it.
type checksummed struct{ tun.Device }

func (d checksummed) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	n, err := d.Device.Read(bufs, sizes, offset)
	for i := range n {
		nonzero(bufs[i][offset : offset+sizes[i]])
	}
	return n, err
}

// nonzero writes a checksum of zero that was computed as all ones. One that the sender has
// left out on purpose (RFC 6936) stays: the sum is another one then.
func nonzero(packet []byte) {
	const length, next, addresses, header = 4, 6, 8, 40
	if len(packet) < header || packet[0]>>4 != 6 {
		return
	}
	protocol, at := packet[next], header
	for protocol == unix.IPPROTO_HOPOPTS || protocol == unix.IPPROTO_DSTOPTS {
		if len(packet) < at+8 {
			return
		}
		protocol, at = packet[at], at+8*(1+int(packet[at+1]))
	}
	if protocol != unix.IPPROTO_UDP || len(packet) < at+8 {
		return
	}
	datagram := packet[at:min(len(packet), header+int(binary.BigEndian.Uint16(packet[length:])))]
	if len(datagram) < 8 || datagram[6] != 0 || datagram[7] != 0 {
		return
	}
	sum := uint64(unix.IPPROTO_UDP) + uint64(len(datagram))
	for _, part := range [][]byte{packet[addresses:header], datagram} {
		for ; len(part) > 1; part = part[2:] {
			sum += uint64(binary.BigEndian.Uint16(part))
		}
		if len(part) == 1 {
			sum += uint64(part[0]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	if sum == 0xffff {
		datagram[6], datagram[7] = 0xff, 0xff
	}
}
