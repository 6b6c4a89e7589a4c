package nftnl

import (
	"encoding/binary"
	"encoding/hex"
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
	table := &Table{Family: unix.NFPROTO_INET, Name: "berth"}
	r := table.put(table.request(NewElement, unix.NLM_F_CREATE), "ports4", []Element{{
		Key: Join([]byte{6}, Port(8080)), Value: Join([]byte{10, 1, 0, 2}, Port(80)), Comment: "x"}})
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
	table := &Table{Family: unix.NFPROTO_INET, Name: "berth"}
	r := table.put(table.request(GetElement, 0), "ports4", []Element{{Key: Join([]byte{6}, Port(8080)), Comment: "x"}})
	f.Add(r.Append(nil, 1, 0))
	f.Add(table.own(table.request(DelTable, 0)).Append(nil, 1, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		for m := range netlink.Messages(data) {
			elementValue(m)
			chainUsers(m)
		}
	})
}
