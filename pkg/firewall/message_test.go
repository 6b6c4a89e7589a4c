package firewall

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"testing"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/sys/unix"
)

// TestElementMessage is the message that nft too would send for
//
//	nft add element inet berth ports4 { tcp . 8080 comment "x" : 10.1.0.2 . 80 }
func TestElementMessage(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("written for a little-endian host")
	}
	r := putElements(request(newElement, unix.NLM_F_CREATE, inetTable), ports4, []element{{
		key: join([]byte{6}, port16(8080)), value: join([]byte{10, 1, 0, 2}, port16(80)), comment: "x"}})
	want := "" +
		"5c000000" + "0c0a" + "0104" + "01000000" + "00000000" + // length, kind, flags, sequence, port
		"01000000" + // nfgenmsg
		"0a000100" + "6265727468000000" + // table berth
		"0b000200" + "706f727473340000" + // set ports4
		"30000380" + "2c000180" + // list, element
		"10000180" + "0c000100" + "06000000" + "1f900000" + // key: tcp, 8080
		"10000280" + "0c000100" + "0a010002" + "00500000" + // value
		"08000600" + "00027800" // comment
	if got := hex.EncodeToString(r.Append(nil, 1, 0)); got != want {
		t.Errorf("message\n%s\nwant\n%s", got, want)
	}
}

// No answer, however broken, is more than one that is not understood.
func FuzzAnswers(f *testing.F) {
	r := putElements(request(getElement, 0, inetTable), ports4, []element{{key: join([]byte{6}, port16(8080)), comment: "x"}})
	f.Add(r.Append(nil, 1, 0))
	f.Add(ourTable(request(delTable, 0, inetTable)).Append(nil, 1, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		damage(netlink.Messages(data))
		for m := range netlink.Messages(data) {
			elementValue(m)
			chainUsers(m)
			drops(m)
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
