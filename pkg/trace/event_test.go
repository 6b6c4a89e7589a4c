package trace

import (
	"testing"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/berth-cni/berth/pkg/internal/nftnl"
	"golang.org/x/sys/unix"
)

// No message, however broken, is more than one that is not understood.
func FuzzEvents(f *testing.F) {
	ip := append([]byte{0x45, 0, 0, 40, 0, 0, 0, 0, 64, unix.IPPROTO_TCP, 0, 0}, 10, 0, 0, 1, 10, 0, 0, 2)
	tcp := []byte{0x80, 0, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x02}
	f.Add(nftnl.Request(unix.NFNL_SUBSYS_NFTABLES<<8|messageTrace, 0, unix.NFPROTO_INET).
		Text(attrTable, tablePrefix+"7").Text(attrChain, "prerouting").Bytes(attrID, nftnl.Number(7)).Bytes(attrKind, nftnl.Number(kindRule)).
		Bytes(attrRule, make([]byte, 8)).Bytes(attrNetwork, ip).Bytes(attrTransport, tcp).Append(nil, 1, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		var all []event
		for m := range netlink.Messages(data) {
			if e, ok := parseEvent(m); ok {
				e.ours = true
				all = append(all, e)
			}
		}
		passageOf(all, func(tuple) bool { return true })
	})
}
