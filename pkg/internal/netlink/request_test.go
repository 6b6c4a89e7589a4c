package netlink

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// What is built is what linux/netlink.h lays out.
func TestRequest(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("written for a little-endian host")
	}
	r := NewRequest(0x0102, unix.NLM_F_EXCL, []byte{0xaa, 0xbb, 0xcc, 0xdd})
	r.Bytes(1, []byte{1, 2, 3, 4, 5}).Text(2, "ab").Uint8(3, 4).Uint16(5, 6).Uint32(7, 8)
	r.Addr(9, netip.MustParseAddr("192.0.2.1"))
	r.Nest(10, func() { r.Raw([]byte{1, 1, 1, 1}).Nest(11, func() { r.Uint8(12, 1) }) })
	want := "5c000000" + "0201" + "0502" + "07000000" + "00000000" + "aabbccdd" +
		"09000100" + "0102030405000000" + "07000200" + "61620000" + "05000300" + "04000000" +
		"06000500" + "06000000" + "08000700" + "08000000" + "08000900" + "c0000201" +
		"14000a80" + "01010101" + "0c000b80" + "05000c00" + "01000000"
	if got := hex.EncodeToString(r.Append(nil, 7, unix.NLM_F_ACK)); got != want {
		t.Errorf("request\n%s\nwant\n%s", got, want)
	}
}

func TestWalk(t *testing.T) {
	r := NewRequest(0x0102, 0, []byte{0xaa, 0xbb, 0xcc, 0xdd})
	r.Bytes(1, []byte{1, 2, 3, 4, 5}).Nest(2, func() { r.Uint32(3, 7).Text(4, "ab") })
	n := uint32(0)
	for m := range Messages(append(r.Append(r.Append(nil, 1, 4), 2, 4), 1, 2, 3)) { // and what is cut off
		n++
		if m.Kind != 0x0102 || m.Flags != 5 || m.Seq != n || !bytes.HasPrefix(m.Body, []byte{0xaa, 0xbb, 0xcc, 0xdd}) {
			t.Errorf("message %+v", m)
		}
		var kinds []uint16
		for kind := range m.Attrs(4) {
			kinds = append(kinds, kind)
		}
		body := m.Body[4:]
		if m.Find(4, 2, 3) == nil || m.Find(99, 2) != nil {
			t.Errorf("attributes of the message %v", m)
		}
		if len(kinds) != 2 || Uint32(Find(body, 2, 3)) != 7 || Text(Find(body, 2, 4)) != "ab" || Find(body, 2, 9, 1) != nil {
			t.Errorf("attributes of %v", body)
		}
		if !bytes.Equal(Find(body, 1), []byte{1, 2, 3, 4, 5}) {
			t.Errorf("attribute %v", Find(body, 1))
		}
	}
	if n != 2 {
		t.Errorf("%d messages, want 2", n)
	}
}

// No datagram, however broken, is more than one that is not understood.
func FuzzDecode(f *testing.F) {
	r := NewRequest(unix.NLMSG_ERROR, 0, nil).Raw([]byte{0xfe, 0xff, 0xff, 0xff}).Raw(make([]byte, unix.NLMSG_HDRLEN)).Text(errorText, "no")
	f.Add(r.Append(nil, 1, capped|ackTLVs))
	f.Add([]byte{20, 0, 0, 0, 3, 0, 16, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		size := 0
		for m := range Messages(data) {
			size += unix.NLMSG_HDRLEN + len(m.Body)
			for _, value := range m.Attrs(4) {
				for range Attrs(value) {
				}
				_, _, _ = Text(value), Uint32(value), Addr(value)
			}
			m.Attrs(1 << 20)
			if e := parseError(m); e != nil && e.Errno == 0 {
				t.Errorf("a refusal without a number: %v", e)
			}
			_ = endOfList(m, false)
		}
		if size > len(data) {
			t.Errorf("messages of %d bytes in %d", size, len(data))
		}
	})
}
