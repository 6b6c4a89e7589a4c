package nftnl

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/sys/unix"
)

// Kinds of nftables messages.
const (
	NewElement = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWSETELEM
	DelElement = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_DELSETELEM
	GetElement = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETSETELEM
	GetChain   = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETCHAIN
	GetRule    = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE
	GetTable   = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETTABLE
	NewTable   = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWTABLE
	NewChain   = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWCHAIN
	NewRule    = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWRULE
	NewSet     = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWSET
	DelTable   = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_DELTABLE
	DelChain   = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_DELCHAIN
	DelRule    = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_DELRULE
	DelSet     = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_DELSET
	GetGen     = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN
)

// HeaderLen is the length of struct nfgenmsg (linux/netfilter/nfnetlink.h), which every
// message of netfilter begins with.
const HeaderLen = 4

// Header is that header: resource is the subsystem of a transaction's beginning and end.
func Header(family, version uint8, resource uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{family, version}, resource)
}

// Request starts one to change something. kind is the subsystem in the high byte
// and the command in the low one.
func Request(kind, flags uint16, family uint8) *netlink.Request {
	return netlink.NewRequest(kind, flags, Header(family, 0, 0))
}

// Question starts a request that asks for one thing, or for a list.
func Question(kind uint16, family uint8) *netlink.Request {
	return netlink.NewQuestion(kind, Header(family, 0, 0))
}

// transaction is these requests between a beginning and an end, all or nothing.
func transaction(changes []*netlink.Request) []*netlink.Request {
	edge := Header(0, 0, unix.NFNL_SUBSYS_NFTABLES)
	return slices.Concat(
		[]*netlink.Request{netlink.NewRequest(unix.NFNL_MSG_BATCH_BEGIN, 0, edge)}, changes,
		[]*netlink.Request{netlink.NewRequest(unix.NFNL_MSG_BATCH_END, 0, edge)})
}

// Absent tells of an error whether there is no such table, chain or set, or no nftables in
// the kernel, or not this family of it.
func Absent(err error) bool {
	for _, e := range []unix.Errno{unix.ENOENT, unix.EINVAL, unix.EOPNOTSUPP, unix.EAFNOSUPPORT} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Number is a number as netfilter has it, in the network's byte order.
func Number(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// Host is one in the machine's.
func Host(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// Port is a port number in the network's byte order.
func Port(port uint16) []byte { return binary.BigEndian.AppendUint16(nil, port) }
