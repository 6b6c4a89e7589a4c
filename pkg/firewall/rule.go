package firewall

import (
	"net/netip"
	"slices"

	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The pieces that the table's rules are written with: each is a run of nftables
// expressions that ends the rule when it does not match.

var (
	loopback4, loopback6 = netip.MustParseAddr("127.0.0.0"), netip.IPv6Loopback()
	multicast6           = netip.MustParseAddr("ff00::")
)

// field is something of a packet that can be loaded into registers. size is in
// bytes; keys that are made of several fields pad each to 4.
type field struct {
	load func(register uint32) expr.Any
	size int
}

var (
	iif      = meta(expr.MetaKeyIIFNAME, unix.IFNAMSIZ)
	oif      = meta(expr.MetaKeyOIFNAME, unix.IFNAMSIZ)
	iifGroup = meta(expr.MetaKeyIIFGROUP, 4)
	oifGroup = meta(expr.MetaKeyOIFGROUP, 4)
	l4proto  = meta(expr.MetaKeyL4PROTO, 1)
	saddr4   = payload(expr.PayloadBaseNetworkHeader, 12, 4)
	daddr4   = payload(expr.PayloadBaseNetworkHeader, 16, 4)
	saddr6   = payload(expr.PayloadBaseNetworkHeader, 8, 16)
	daddr6   = payload(expr.PayloadBaseNetworkHeader, 24, 16)
	dport    = payload(expr.PayloadBaseTransportHeader, 2, 2)
	wayBack  = field{func(r uint32) expr.Any { return &expr.Fib{Register: r, FlagSADDR: true, ResultOIFNAME: true} }, unix.IFNAMSIZ}
)

func meta(key expr.MetaKey, size int) field {
	return field{func(r uint32) expr.Any { return &expr.Meta{Key: key, Register: r} }, size}
}

func payload(base expr.PayloadBase, offset uint32, size int) field {
	return field{func(r uint32) expr.Any {
		return &expr.Payload{Base: base, Offset: offset, Len: uint32(size), DestRegister: r}
	}, size}
}

func rule(parts ...[]expr.Any) []expr.Any { return slices.Concat(parts...) }

// register32 is the first of the 4-byte registers; register 1 is its 16-byte name.
const register32 = unix.NFT_REG32_00

// lookup matches when the set has the fields as its key. A map's value goes to
// the first registers.
func lookup(set string, isMap bool, fields ...field) []expr.Any {
	var exprs []expr.Any
	at := uint32(register32)
	for _, f := range fields {
		exprs = append(exprs, f.load(at))
		at += uint32(f.size+3) / 4
	}
	l := &expr.Lookup{SourceRegister: register32, SetName: set}
	if isMap {
		l.IsDestRegSet, l.DestRegister = true, register32
	}
	return append(exprs, l)
}

func in(set string, fields ...field) []expr.Any { return lookup(set, false, fields...) }

func notIn(set string, fields ...field) []expr.Any {
	exprs := in(set, fields...)
	exprs[len(fields)].(*expr.Lookup).Invert = true
	return exprs
}

func compare(load expr.Any, op expr.CmpOp, value []byte) []expr.Any {
	return []expr.Any{load, &expr.Cmp{Op: op, Register: register32, Data: value}}
}

// prefix matches the first bytes of an address.
func (f field) prefix(addr netip.Addr, bytes int) []expr.Any {
	return f.comparePrefix(expr.CmpOpEq, addr, bytes)
}

func (f field) notPrefix(addr netip.Addr, bytes int) []expr.Any {
	return f.comparePrefix(expr.CmpOpNeq, addr, bytes)
}

func (f field) comparePrefix(op expr.CmpOp, addr netip.Addr, bytes int) []expr.Any {
	load := *f.load(register32).(*expr.Payload)
	load.Len = uint32(bytes)
	return compare(&load, op, addr.AsSlice()[:bytes])
}

// notMulticast4 matches all but 224.0.0.0/4.
func (f field) notMulticast4() []expr.Any {
	return masked(f.load(register32), []byte{0xf0, 0, 0, 0}, expr.CmpOpNeq, []byte{224, 0, 0, 0})
}

func masked(load expr.Any, mask []byte, op expr.CmpOp, value []byte) []expr.Any {
	return []expr.Any{
		load,
		&expr.Bitwise{SourceRegister: register32, DestRegister: register32, Len: uint32(len(mask)), Mask: mask, Xor: make([]byte, len(mask))},
		&expr.Cmp{Op: op, Register: register32, Data: value},
	}
}

func is4() []expr.Any { return family(unix.NFPROTO_IPV4) }
func is6() []expr.Any { return family(unix.NFPROTO_IPV6) }

func transport(protocol byte) []expr.Any {
	return compare(l4proto.load(register32), expr.CmpOpEq, []byte{protocol})
}

func udp() []expr.Any { return transport(unix.IPPROTO_UDP) }

// dns matches the port that names are asked for at (RFC 1035, section 4.2).
func dns() []expr.Any { return compare(dport.load(register32), expr.CmpOpEq, nftnl.Port(53)) }

func family(f byte) []expr.Any {
	return compare(&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register32}, expr.CmpOpEq, []byte{f})
}

// state compares a connection's state: not equal to none of established and
// related, or equal.
func state(op expr.CmpOp) []expr.Any {
	return masked(&expr.Ct{Key: expr.CtKeySTATE, Register: register32},
		nftnl.Host(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), op, nftnl.Host(0))
}

// statusDNAT is IPS_DST_NAT (linux/netfilter/nf_conntrack_common.h): the
// connection's destination was translated.
const statusDNAT = 1 << 5

// translated matches what somebody sent to another destination, Berth or not.
func translated() []expr.Any {
	return masked(&expr.Ct{Key: expr.CtKeySTATUS, Register: register32}, nftnl.Host(statusDNAT), expr.CmpOpNeq, nftnl.Host(0))
}

// label is bit 127 of a connection's label, with which our translations are told from
// those of others: the last of 16 bytes as the kernel keeps them (iptables-extensions(8),
// connlabel; CONFIG_NF_CONNTRACK_LABELS, kernel 3.9). Marks, which others copy and route by, are left to these.
var label = append(make([]byte, 15), 0x80)

// ours matches the connections that published ports were translated for.
func ours() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeyLABELS, Register: register32},
		&expr.Bitwise{SourceRegister: register32, DestRegister: register32, Len: uint32(len(label)), Mask: label, Xor: make([]byte, len(label))},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register32, Data: make([]byte, len(label))},
	}
}

// setLabel does so in registers that the value of a map does not reach.
func setLabel() []expr.Any {
	const free = register32 + 8
	return []expr.Any{&expr.Immediate{Register: free, Data: label}, &expr.Ct{Key: expr.CtKeyLABELS, Register: free, SourceRegister: true}}
}

func toHost() []expr.Any {
	return compare(&expr.Fib{Register: register32, FlagDADDR: true, ResultADDRTYPE: true},
		expr.CmpOpEq, nftnl.Host(unix.RTN_LOCAL))
}

// toOtherInterface matches what is sent to an address that the interface it came
// in by does not have.
func toOtherInterface() []expr.Any {
	return compare(&expr.Fib{Register: register32, FlagDADDR: true, FlagIIF: true, ResultADDRTYPE: true},
		expr.CmpOpEq, nftnl.Host(unix.RTN_UNICAST))
}

// dnat labels the connection and sends it to the address and port that lookup left in the
// registers.
func dnat(family uint32) []expr.Any {
	port := uint32(register32 + 1)
	if family == unix.NFPROTO_IPV6 {
		port = register32 + 4
	}
	return append(setLabel(), &expr.NAT{Type: expr.NATTypeDestNAT, Family: family, RegAddrMin: register32, RegProtoMin: port})
}

// redirect sends the packet to a port of this host, at the first address of the
// interface that it came in by.
func redirect(port uint16) []expr.Any {
	return []expr.Any{&expr.Immediate{Register: register32, Data: nftnl.Port(port)}, &expr.Redir{RegisterProtoMin: register32}}
}

// redirectBy does so with the port that lookup left in the registers.
func redirectBy() []expr.Any { return []expr.Any{&expr.Redir{RegisterProtoMin: register32}} }

func masquerade() []expr.Any { return []expr.Any{&expr.Masq{}} }

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }
func accept() []expr.Any                       { return verdict(expr.VerdictAccept) }
func drop() []expr.Any                         { return verdict(expr.VerdictDrop) }
func jump(chain string) []expr.Any             { return verdictTo(expr.VerdictJump, chain) }
func verdictTo(kind expr.VerdictKind, chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}
}
