package probe

import (
	"bytes"
	"testing"
)

func TestMessage(t *testing.T) {
	for _, m := range []message{
		{question, messageSize, 1, 2},
		{question, 1422, 1<<24 - 1, 1<<64 - 1},
		{question, 0xffff - 28, 42, 7},
		{answer, 1422, 42, 7},
	} {
		b := m.encode()
		if got, ok := decode(b); !ok || got != m {
			t.Errorf("decode(%+v.encode()) = %+v, %t", m, got, ok)
		}
		if m.kind == answer && len(b) != messageSize {
			t.Errorf("answer of %d bytes", len(b))
		}
		for _, bad := range [][]byte{nil, b[:len(b)-1], append(bytes.Clone(b), 0)} {
			if got, ok := decode(bad); ok {
				t.Errorf("decode took %d bytes of a message of %d: %+v", len(bad), len(b), got)
			}
		}
		for i := range 6 { // magic, version, kind
			bad := bytes.Clone(b)
			bad[i] ^= 0x80
			if _, ok := decode(bad); ok {
				t.Errorf("decode took byte %d as %#x", i, bad[i])
			}
		}
	}
	if _, ok := decode((message{kind: answer, size: messageSize - 1}).encode()); ok {
		t.Error("decode took the answer to a question that is too short to be one")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add((message{question, 30, 42, 7}).encode())
	f.Add((message{answer, 30, 42, 7}).encode())
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok := decode(b)
		if !ok {
			return
		}
		// What it takes means one thing only, and an answer to it is not longer.
		if again := m.encode(); !bytes.Equal(again[:messageSize], b[:messageSize]) || len(again) != len(b) {
			t.Errorf("%x is %+v, which is %x", b, m, again)
		}
		m.kind = answer
		if n := len(m.encode()); n > len(b) {
			t.Errorf("answer of %d bytes to %d", n, len(b))
		}
	})
}
