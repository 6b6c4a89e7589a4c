package firewall

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// TestElementMessage is the message that nft too would send for
//
//	nft add element inet berth ports4 { tcp . 8080 comment "x" : 10.1.0.2 . 80 }
func TestElementMessage(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("written for a little-endian host")
	}
	var p packet
	p.begin(newElement, unix.NLM_F_CREATE, inetTable, 0, 0)
	p.element(element{set: ports4, key: join([]byte{6}, port16(8080)), value: join([]byte{10, 1, 0, 2}, port16(80)), comment: "x"})
	want := "" +
		"5c000000" + "0c0a" + "0104" + "01000000" + "00000000" + // length, kind, flags, sequence, port
		"01000000" + // nfgenmsg
		"0a000100" + "6265727468000000" + // table berth
		"0b000200" + "706f727473340000" + // set ports4
		"30000380" + "2c000180" + // list, element
		"10000180" + "0c000100" + "06000000" + "1f900000" + // key: tcp, 8080
		"10000280" + "0c000100" + "0a010002" + "00500000" + // value
		"08000600" + "00027800" // comment
	if got := hex.EncodeToString(p.buf); got != want {
		t.Errorf("message\n%s\nwant\n%s", got, want)
	}
}

func TestReplies(t *testing.T) {
	var p packet
	p.begin(7<<8, 0, 2, 0, 0)
	p.text(1, "name")
	p.attr(2|unix.NLA_F_NESTED, []byte{1, 2, 3, 4, 5})
	got, err := replies(p.buf)
	if err != nil || len(got) != 1 {
		t.Fatalf("%v, %v", got, err)
	}
	if r := got[0]; r.seq != 1 || r.kind != 7<<8 || !bytes.Equal(attrOf(r.attrs, 2), []byte{1, 2, 3, 4, 5}) {
		t.Errorf("%+v", r)
	}
}

func FuzzReplies(f *testing.F) {
	var p packet
	p.begin(getElement, 0, inetTable, 0, 0)
	p.element(element{set: ports4, key: join([]byte{6}, port16(8080)), comment: "x"})
	f.Add(p.buf)
	f.Add([]byte{36, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 254, 255, 255, 255, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := replies(data)
		if err != nil {
			return
		}
		for _, r := range all {
			r.elementValue()
			r.chainUsers()
			r.drops()
			damage(data)
		}
	})
}

func FuzzReceives(f *testing.F) {
	msg := make([]byte, diagLen+8)
	msg[0] = unix.AF_INET6
	copy(msg[diagLen:], []byte{5, 0, diagV6Only, 0, 1})
	f.Add(msg)
	f.Fuzz(func(t *testing.T, msg []byte) {
		receives(msg, netip.MustParseAddrPort("192.0.2.1:0"))
	})
}
