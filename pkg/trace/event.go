package trace

import (
	"encoding/binary"
	"net/netip"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"golang.org/x/sys/unix"
)

// Of linux/netfilter/nf_tables.h and nfnetlink.h, which unix does not have.
const (
	groupTrace   = 9  // NFNLGRP_NFTRACE
	messageTrace = 17 // NFT_MSG_TRACE

	attrTable, attrChain, attrRule, attrKind, attrVerdict, attrID     = 1, 2, 3, 4, 5, 6
	attrNetwork, attrTransport, attrIIF, attrOIF, attrProto, attrDone = 8, 9, 10, 12, 15, 16

	kindPolicy, kindRule = 1, 3 // NFT_TRACETYPE_POLICY, ...

	verdictCode = 1 // NFTA_VERDICT_CODE
	verdictDrop = 0 // NF_DROP of linux/netfilter.h
)

// event is what nftables tells of a packet at one rule, or at the end of a chain.
type event struct {
	family       uint8
	table, chain string
	ours         bool   // of the tables of this trace
	rule         uint64 // its handle; 0 at the end of a chain
	packet       uint32 // the same for all events of a packet in a namespace
	drops        bool
	policy       bool
	in, out      int // indexes of links
	flow         tuple
}

// tuple is what a packet's headers say; ports 0 where they are not told.
type tuple struct {
	src, dst netip.AddrPort
	ack      bool // of TCP
}

func (t tuple) known() bool { return t.src.IsValid() }

func parseEvent(m netlink.Message) (e event, ok bool) {
	if m.Kind != unix.NFNL_SUBSYS_NFTABLES<<8|messageTrace || len(m.Body) < nftnl.HeaderLen {
		return e, false
	}
	find := func(kinds ...uint16) []byte { return m.Find(nftnl.HeaderLen, kinds...) }
	number := func(b []byte) uint32 {
		if len(b) < 4 {
			return 0
		}
		return binary.BigEndian.Uint32(b)
	}
	e = event{family: m.Body[0], table: netlink.Text(find(attrTable)), chain: netlink.Text(find(attrChain)),
		packet: number(find(attrID)), in: int(number(find(attrIIF))), out: int(number(find(attrOIF)))}
	if b := find(attrRule); len(b) == 8 {
		e.rule = binary.BigEndian.Uint64(b)
	}
	switch number(find(attrKind)) {
	case kindPolicy:
		e.policy = true
		b := find(attrDone)
		e.drops = len(b) == 4 && number(b) == verdictDrop
	case kindRule:
		b := find(attrVerdict, verdictCode)
		e.drops = len(b) == 4 && number(b) == verdictDrop
	}
	e.flow = parseTuple(find(attrNetwork), find(attrTransport))
	return e, true
}

// parseTuple reads the headers of a packet (RFC 791, RFC 8200, RFC 9293, RFC 768).
func parseTuple(network, transport []byte) (t tuple) {
	var src, dst netip.Addr
	var protocol byte
	switch {
	case len(network) >= 20 && network[0]>>4 == 4:
		src, dst, protocol = netlink.Addr(network[12:16]), netlink.Addr(network[16:20]), network[9]
	case len(network) >= 40 && network[0]>>4 == 6:
		src, dst, protocol = netlink.Addr(network[8:24]), netlink.Addr(network[24:40]), network[6]
	default:
		return t
	}
	var from, to uint16
	if len(transport) >= 4 {
		from, to = binary.BigEndian.Uint16(transport), binary.BigEndian.Uint16(transport[2:])
	}
	if protocol == unix.IPPROTO_TCP && len(transport) >= 14 {
		t.ack = transport[13]&0x10 != 0
	}
	t.src, t.dst = netip.AddrPortFrom(src, from), netip.AddrPortFrom(dst, to)
	return t
}
