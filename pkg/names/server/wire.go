package server

import (
	"net/netip"
	"strings"
)

// wireKey is the wire form of a dotted name in lower case, without the root's zero: by
// it names are found. Empty when DNS cannot carry it.
func wireKey(dotted string) string {
	var b strings.Builder
	for label := range strings.SplitSeq(dotted, ".") {
		if label == "" || len(label) > maxLabel {
			return ""
		}
		b.WriteByte(byte(len(label)))
		b.WriteString(strings.ToLower(label))
	}
	if b.Len()+1 > maxName {
		return ""
	}
	return b.String()
}

// wireName is the whole wire form; empty when DNS cannot carry it.
func wireName(dotted string) string {
	key := wireKey(dotted)
	if key == "" {
		return ""
	}
	return key + "\x00"
}

const (
	arpa  = "\x04arpa\x00"
	arpa4 = "\x07in-addr\x04arpa\x00"
	arpa6 = "\x03ip6\x04arpa\x00"
)

// reverse is the address that a name in wire form asks for (RFC 1035, 3.5; RFC 3596,
// 2.5); false when it is not a whole one.
func reverse(name []byte) (netip.Addr, bool) {
	if rest, ok := cutSuffix(name, arpa4); ok {
		return reverse4(rest)
	}
	if rest, ok := cutSuffix(name, arpa6); ok {
		return reverse6(rest)
	}
	return netip.Addr{}, false
}

func cutSuffix(name []byte, suffix string) ([]byte, bool) {
	n := len(name) - len(suffix)
	if n < 0 || string(name[n:]) != suffix {
		return nil, false
	}
	return name[:n], true
}

// reverse4 reads four labels of decimal digits, the last byte first.
func reverse4(labels []byte) (netip.Addr, bool) {
	var b [4]byte
	for i := 3; i >= 0; i-- {
		if len(labels) == 0 || labels[0] == 0 || labels[0] > 3 || len(labels) < 1+int(labels[0]) {
			return netip.Addr{}, false
		}
		n := 0
		digits := labels[1 : 1+labels[0]]
		for _, c := range digits {
			if c < '0' || c > '9' {
				return netip.Addr{}, false
			}
			n = n*10 + int(c-'0')
		}
		if n > 255 || len(digits) > 1 && digits[0] == '0' {
			return netip.Addr{}, false
		}
		b[i], labels = byte(n), labels[1+len(digits):]
	}
	return netip.AddrFrom4(b), len(labels) == 0
}

// reverse6 reads 32 labels of one hexadecimal digit, the last one first.
func reverse6(labels []byte) (netip.Addr, bool) {
	var b [16]byte
	if len(labels) != 64 {
		return netip.Addr{}, false
	}
	for i := range 32 {
		v := strings.IndexByte("0123456789abcdef", labels[2*i+1])
		if labels[2*i] != 1 || v < 0 {
			return netip.Addr{}, false
		}
		b[15-i/2] |= byte(v) << (4 * (i % 2))
	}
	return netip.AddrFrom16(b), true
}
