package firewall

import (
	"encoding/binary"
	"slices"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/sys/unix"
)

// headerLen is the length of struct nfgenmsg (linux/netfilter/nfnetlink.h), which every
// message of netfilter begins with.
const headerLen = 4

// inetTable is the family of our table.
const inetTable = unix.NFPROTO_INET

// nfgenmsg is that header: resource is the subsystem of a transaction's beginning and end.
func nfgenmsg(family, version uint8, resource uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{family, version}, resource)
}

// request starts one to change something. kind is the subsystem in the high byte
// and the command in the low one.
func request(kind, flags uint16, family uint8) *netlink.Request {
	return netlink.NewRequest(kind, flags, nfgenmsg(family, 0, 0))
}

// question starts a request that asks for one thing, or for a list.
func question(kind uint16, family uint8) *netlink.Request {
	return netlink.NewQuestion(kind, nfgenmsg(family, 0, 0))
}

// transaction is these requests between a beginning and an end, all or nothing.
func transaction(changes []*netlink.Request) []*netlink.Request {
	edge := nfgenmsg(0, 0, unix.NFNL_SUBSYS_NFTABLES)
	return slices.Concat(
		[]*netlink.Request{netlink.NewRequest(unix.NFNL_MSG_BATCH_BEGIN, 0, edge)}, changes,
		[]*netlink.Request{netlink.NewRequest(unix.NFNL_MSG_BATCH_END, 0, edge)})
}

// number32 is a number as netfilter has it, in the network's byte order.
func number32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// host32 is one in the machine's.
func host32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
