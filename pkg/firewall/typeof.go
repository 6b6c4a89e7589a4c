package firewall

import "golang.org/x/sys/unix"

// userData is what nft keeps with a set to show its keys as they were written:
// attributes of one byte of kind, one of length, and content, numbers in host byte
// order (libnftnl's udata.h, nftables' src/mnl.c). Without it nft would list
// rules that it does not read again, and with them the host's whole ruleset.
type userData []byte

func number(kind byte, v uint32) userData { return nested(kind, host32(v)) }

func nested(kind byte, parts ...[]byte) userData {
	u := userData{kind, 0}
	for _, p := range parts {
		u = append(u, p...)
	}
	u[1] = byte(len(u) - 2)
	return u
}

// hostOrder is for interface names, which nft prints backwards otherwise.
func hostOrder() userData {
	const keyByteOrder, host = 0, 1
	return number(keyByteOrder, host)
}

// typeOf is `typeof A . B`.
func typeOf(fields ...userData) userData {
	const keyTypeof, concat = 3, 13
	if len(fields) == 1 {
		return nested(keyTypeof, fields[0])
	}
	var parts [][]byte
	for i, f := range fields {
		parts = append(parts, nested(byte(i), f))
	}
	return nested(keyTypeof, expression(concat, parts...))
}

func expression(kind uint32, parts ...[]byte) userData {
	return append(number(0, kind), nested(1, parts...)...)
}

// Of nftables' enum expr_types (include/expression.h).
const (
	seenPayload = 7
	seenFib     = 26
)

// header is a field of a protocol's header (enum proto_desc_id in
// include/proto.h, and the field's place in src/proto.c).
func header(protocol, field uint32) userData {
	return expression(seenPayload, number(0, protocol), number(1, field))
}

func seenPort() userData    { return header(6, 2) }   // udp dport
func seenSource4() userData { return header(12, 11) } // ip saddr
func seenSource6() userData { return header(13, 8) }  // ip6 saddr

// seenVNI is @th,96,32.
func seenVNI() userData {
	const transport = 3
	return expression(seenPayload, number(0, 0), number(1, 0), number(2, transport), number(3, 96), number(4, 32))
}

// seenWayBack is fib saddr oifname.
func seenWayBack() userData {
	return expression(seenFib, number(0, unix.NFT_FIB_RESULT_OIFNAME), number(1, unix.NFTA_FIB_F_SADDR))
}
