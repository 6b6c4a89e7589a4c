package probe

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestWhoSums sees on the VXLAN device which packets leave the checksum to it: the
// kernel marks them (TP_STATUS_CSUMNOTREADY, packet(7)).
func TestWhoSums(t *testing.T) {
	t.Parallel()
	a, b := pair(t, underlay{})
	// It does not have them fragmented.
	a.ip(t, `
		route replace 10.42.2.0/24 via 10.42.2.0 dev vxlan42 onlink mtu 1350
		route replace fd00:42:0:2::/64 via fd00:42:0:2:: dev vxlan42 onlink mtu 1350`)
	for _, f := range families {
		for _, size := range []int{messageSize, a.target(b, f.index).MTU - overhead(b.inner[f.index])} {
			for _, offload := range []bool{false, true} {
				for _, device := range []bool{true, false} {
					a.in(t, func() {
						setOffload(t, a, device)
						left, good := sniff(t, a, b.inner[f.index], a.inner[f.index], size, offload)
						if want := offload && device; left != want || good == want {
							t.Errorf("%s, %d bytes, offloaded %t, device offers %t: left to the device %t, want %t; checksum is right: %t",
								f.name, size, offload, device, left, want, good)
						}
					})
				}
			}
		}
	}
}

// sniff sends a question and returns how it looked on the device.
func sniff(t *testing.T, a *host, peer, local netip.Addr, size int, offload bool) (left, good bool) {
	t.Helper()
	fd := tap(t, "vxlan42")
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1); err != nil {
		t.Fatal(err)
	}
	s, err := dial(t.Context(), local, netip.AddrPortFrom(peer, Port), "vxlan42")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	q := message{kind: question, size: uint16(size), vni: testVNI, nonce: 1}.encode()
	if offload {
		err = s.sendOffloaded(q)
	} else {
		err = s.sendPlain(q, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	buf, oob := make([]byte, 2000), make([]byte, 200)
	for {
		n, oobn, _, _, err := unix.Recvmsg(fd, buf, oob, 0)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasSuffix(buf[:n], q) {
			continue // an ICMP error of the peer's, say
		}
		if df := buf[14+6]&0x40 != 0; peer.Is4() && !df {
			t.Errorf("IPv4 packet of %d bytes may be fragmented", n-14)
		}
		messages, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil || len(messages) != 1 {
			t.Fatalf("%d control messages, %v", len(messages), err)
		}
		// struct tpacket_auxdata begins with the status.
		left = binary.NativeEndian.Uint32(messages[0].Data)&unix.TP_STATUS_CSUMNOTREADY != 0
		udp := buf[n-len(q)-8 : n]
		sum := uint64(unix.IPPROTO_UDP) + uint64(len(udp)) // the pseudo header's (RFC 768, RFC 8200 8.1)
		for _, part := range [][]byte{local.AsSlice(), peer.AsSlice(), udp, make([]byte, len(udp)%2)} {
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
		return left, sum == 0xffff
	}
}

// TestBrokenChecksum: the probe blames the offload, and its remedy lets TCP pass.
func TestBrokenChecksum(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		six     bool
		options string
	}{
		// Without an outer checksum, as RFC 7348 section 5 has it.
		{"IPv4 underlay", false, "noudpcsum"},
		{"IPv6 underlay", true, "udp6zerocsumtx udp6zerocsumrx"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a, b := pair(t, underlay{six: test.six, options: test.options, cable: broken})
			a.listen(t)
			b.listen(t)
			mtu := a.target(b, 0).MTU
			for _, f := range families {
				expect(t, a, a.target(b, f.index), BadChecksum, mtu)
			}
			// The responder's device is as bad as it was.
			setOffload(t, a, false)
			for _, f := range families {
				expect(t, a, a.target(b, f.index), OK, mtu)
				expect(t, b, b.target(a, f.index), BadChecksum, mtu)
				if err := transfer(t, a, b, f.index); err == nil {
					t.Errorf("%s: TCP passes before the remedy", f.name)
				}
			}
			setOffload(t, b, false)
			for _, f := range families {
				expect(t, b, b.target(a, f.index), OK, mtu)
				if err := transfer(t, a, b, f.index); err != nil {
					t.Errorf("%s: TCP after the remedy: %v", f.name, err)
				}
			}
		})
	}
}

// TestBrokenOuterChecksum: with an outer checksum, which the kernel adds unless it is
// told not to, that of plain packets is left to the underlay's device: nothing
// passes, and the remedy is none.
func TestBrokenOuterChecksum(t *testing.T) {
	t.Parallel()
	for _, six := range []bool{false, true} {
		a, b := pair(t, underlay{six: six, cable: broken})
		b.listen(t)
		setOffload(t, a, false)
		setOffload(t, b, false)
		expect(t, a, a.target(b, 0), NoAnswer, 0)
	}
}

func setOffload(t *testing.T, h *host, on bool) {
	t.Helper()
	h.run(t, "ethtool", "-K", "vxlan42", "tx", map[bool]string{true: "on", false: "off"}[on])
}

// transfer sends a megabyte from a to b and back over TCP.
func transfer(t *testing.T, a, b *host, family int) error {
	t.Helper()
	var l net.Listener
	b.in(t, func() {
		var err error
		if l, err = net.Listen("tcp", netip.AddrPortFrom(b.inner[family], 8080).String()); err != nil {
			t.Fatal(err)
		}
	})
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			defer c.Close()
			_, _ = io.Copy(c, c)
		}
	}()
	deadline := time.Now().Add(5 * time.Second)
	var c net.Conn
	var err error
	a.in(t, func() { c, err = net.DialTimeout("tcp", l.Addr().String(), 500*time.Millisecond) })
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(deadline)
	data, got := make([]byte, 1<<20), make([]byte, 1<<20)
	rand.Read(data)
	go c.Write(data)
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !bytes.Equal(data, got) {
		return errors.New("data was changed on the way")
	}
	return nil
}
