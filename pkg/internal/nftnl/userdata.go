package nftnl

import "golang.org/x/sys/unix"

// UserData is what nft keeps with a set to show its keys as they were written:
// attributes of one byte of kind, one of length, and content, numbers in host byte
// order (libnftnl's udata.h, nftables' src/mnl.c). Without it nft would list
// rules that it does not read again, and with them the host's whole ruleset.
type UserData []byte

func number(kind byte, v uint32) UserData { return nested(kind, Host(v)) }

func nested(kind byte, parts ...[]byte) UserData {
	u := UserData{kind, 0}
	for _, p := range parts {
		u = append(u, p...)
	}
	u[1] = byte(len(u) - 2)
	return u
}

// HostOrder is for interface names, which nft prints backwards otherwise.
func HostOrder() UserData {
	const keyByteOrder, host = 0, 1
	return number(keyByteOrder, host)
}

// HostOrderMap is [HostOrder] for a map whose values are numbers in host byte order.
func HostOrderMap() UserData {
	const dataByteOrder, host = 1, 1
	return append(HostOrder(), number(dataByteOrder, host)...)
}

// TypeOf is `typeof A . B`.
func TypeOf(fields ...UserData) UserData {
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

func expression(kind uint32, parts ...[]byte) UserData {
	return append(number(0, kind), nested(1, parts...)...)
}

// Of nftables' enum expr_types (include/expression.h).
const (
	seenPayload = 7
	seenMeta    = 9
	seenFib     = 26
)

// Field is a field of a protocol's header (enum proto_desc_id in
// include/proto.h, and the field's place in src/proto.c).
func Field(protocol, field uint32) UserData {
	return expression(seenPayload, number(0, protocol), number(1, field))
}

// IifName is meta iifname.
func IifName() UserData { return expression(seenMeta, number(0, unix.NFT_META_IIFNAME)) }

// Raw is @th,OFFSET,LENGTH, in bits.
func Raw(offset, length uint32) UserData {
	const transport = 3
	return expression(seenPayload, number(0, 0), number(1, 0), number(2, transport), number(3, offset), number(4, length))
}

// WayBack is fib saddr oifname.
func WayBack() UserData {
	return expression(seenFib, number(0, unix.NFT_FIB_RESULT_OIFNAME), number(1, unix.NFTA_FIB_F_SADDR))
}
