package attach

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Port is a published port: what arrives at HostPort of one of the host's
// addresses goes to ContainerPort of the container.
type Port struct {
	// HostIP is the host's address. 0.0.0.0 and :: stand for all addresses of
	// their family; the zero Addr for all of both.
	HostIP        netip.Addr `json:"hostIP,omitzero"`
	HostPort      uint16     `json:"hostPort"`
	ContainerPort uint16     `json:"containerPort"`
	Protocol      string     `json:"protocol"` // tcp, udp or sctp
}

func (p Port) String() string {
	if !p.HostIP.IsValid() {
		return fmt.Sprintf("port %d/%s", p.HostPort, p.Protocol)
	}
	return fmt.Sprintf("port %s/%s", netip.AddrPortFrom(p.HostIP, p.HostPort), p.Protocol)
}

// protocols are those that ports can be published of, by their number in the IP header.
var protocols = []struct {
	name   string
	number uint8
}{{"tcp", unix.IPPROTO_TCP}, {"udp", unix.IPPROTO_UDP}, {"sctp", unix.IPPROTO_SCTP}}

// ProtocolNumber is that of the protocol in the IP header; ok is false for one that is
// none of tcp, udp, sctp.
func (p Port) ProtocolNumber() (number uint8, ok bool) {
	for _, x := range protocols {
		if x.name == p.Protocol {
			return x.number, true
		}
	}
	return 0, false
}

// ProtocolName is that of a number in the IP header; empty when no port of the protocol
// can be published.
func ProtocolName(number uint8) string {
	for _, x := range protocols {
		if x.number == number {
			return x.name
		}
	}
	return ""
}

// HostIPs returns the addresses the port is published on, one for each family:
// HostIP itself, or both unspecified addresses when it is zero.
func (p Port) HostIPs() []netip.Addr {
	if p.HostIP.IsValid() {
		return []netip.Addr{p.HostIP}
	}
	return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
}

// Overlaps reports whether the two would receive the same packet.
func (p Port) Overlaps(q Port) bool {
	if p.Protocol != q.Protocol || p.HostPort != q.HostPort {
		return false
	}
	for _, a := range p.HostIPs() {
		for _, b := range q.HostIPs() {
			if overlap(a, b) {
				return true
			}
		}
	}
	return false
}

// portKey sorts all holders of one protocol and port number together.
func portKey(protocol string, port uint16, ip netip.Addr) []byte {
	key := append([]byte(protocol), 0)
	key = binary.BigEndian.AppendUint16(key, port)
	if ip.IsValid() {
		key = append(key, ip.AsSlice()...) // 4 or 16 bytes: the family
	}
	return key
}

// ClaimPort gives a port of the host to an attachment. A [*HeldError] when it,
// or the same port on an address that covers it, is taken.
func (t *Tx) ClaimPort(p Port, k Key) error {
	b := t.bucket(portBucket)
	prefix := portKey(p.Protocol, p.HostPort, netip.Addr{})
	for _, ip := range p.HostIPs() {
		c := b.Cursor()
		for key, holder := c.Seek(prefix); bytes.HasPrefix(key, prefix); key, holder = c.Next() {
			held, ok := netip.AddrFromSlice(key[len(prefix):])
			if ok && overlap(ip, held) && !bytes.Equal(holder, k.bytes()) {
				return &HeldError{p.String(), parseKey(holder)}
			}
		}
	}
	for _, ip := range p.HostIPs() { // all of them or none
		if err := b.Put(portKey(p.Protocol, p.HostPort, ip), k.bytes()); err != nil {
			return err
		}
	}
	return nil
}

// overlap tells whether two host addresses can receive the same packet.
func overlap(a, b netip.Addr) bool {
	return a.Is4() == b.Is4() && (a == b || a.IsUnspecified() || b.IsUnspecified())
}

func (t *Tx) releasePort(p Port, k Key) error {
	b := t.bucket(portBucket)
	for _, ip := range p.HostIPs() {
		key := portKey(p.Protocol, p.HostPort, ip)
		if !bytes.Equal(b.Get(key), k.bytes()) {
			continue
		}
		if err := b.Delete(key); err != nil {
			return err
		}
	}
	return nil
}
