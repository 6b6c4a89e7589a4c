package overlay

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/berth-cni/berth/integration/cluster"
	model "github.com/berth-cni/berth/pkg/overlay"
	"golang.org/x/sys/unix"
)

// frame is a VXLAN packet's payload: an inner datagram to a container of a host, which
// says that it comes from an address.
func (x *injection) frame(h *cluster.Host, peer string, source, target netip.Addr, text string) []byte {
	n := x.definition(h, "blue")
	b := binary.BigEndian.AppendUint64(nil, 1<<59|uint64(n.VNI)<<8)
	b = append(b, model.MAC(n.Name, h.Name)...)
	b = append(b, model.MAC(n.Name, peer)...)
	protocol := uint16(unix.ETH_P_IP)
	if source.Is6() {
		protocol = unix.ETH_P_IPV6
	}
	return append(binary.BigEndian.AppendUint16(b, protocol), datagram(source, netip.AddrPortFrom(target, victimPort), []byte(text))...)
}

// datagram is an IP packet of UDP.
func datagram(from netip.Addr, at netip.AddrPort, data []byte) []byte {
	to := at.Addr()
	udp := binary.BigEndian.AppendUint16(nil, 40000)
	udp = binary.BigEndian.AppendUint16(udp, at.Port())
	udp = binary.BigEndian.AppendUint16(udp, uint16(8+len(data)))
	udp = append(append(udp, 0, 0), data...)
	pseudo := append(append(from.AsSlice(), to.AsSlice()...), 0, unix.IPPROTO_UDP)
	pseudo = append(binary.BigEndian.AppendUint16(pseudo, uint16(len(udp))), udp...)
	binary.BigEndian.PutUint16(udp[6:], checksum(pseudo))
	if from.Is6() {
		b := append([]byte{0x60, 0, 0, 0}, byte(len(udp)>>8), byte(len(udp)), unix.IPPROTO_UDP, 64)
		return append(append(append(b, from.AsSlice()...), to.AsSlice()...), udp...)
	}
	b := []byte{0x45, 0, 0, 0, 0, 1, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(udp)))
	b = append(append(b, from.AsSlice()...), to.AsSlice()...)
	binary.BigEndian.PutUint16(b[10:], checksum(b))
	return append(b, udp...)
}

// checksum is the internet checksum (RFC 1071).
func checksum(b []byte) uint16 {
	sum := uint32(0)
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// say sends a UDP datagram from a container in its own name.
func say(from cluster.Place, to netip.AddrPort, data []byte) error {
	return from.Do(func() error {
		c, err := net.Dial("udp", to.String())
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write(data)
		return err
	})
}

// pose sends an IP packet with any source by a packet socket (packet(7)), which writes
// the Ethernet header with the interface's own MAC.
func pose(from cluster.Place, to net.HardwareAddr, packet []byte) error {
	protocol := uint16(unix.ETH_P_IP)
	if packet[0]>>4 == 6 {
		protocol = unix.ETH_P_IPV6
	}
	return from.Do(func() error {
		i, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		at := &unix.SockaddrLinklayer{Protocol: protocol<<8 | protocol>>8, Ifindex: i.Index, Halen: 6}
		copy(at.Addr[:], to)
		return unix.Sendto(fd, packet, 0, at)
	})
}
