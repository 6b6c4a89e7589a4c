package nftnl

import (
	"encoding/binary"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Kinds of messages of a table's named objects, and the type of those that count
// (linux/netfilter/nf_tables.h).
const (
	newObject  = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWOBJ
	getObject  = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETOBJ
	objCounter = 1 // NFT_OBJECT_COUNTER
)

// Count has a rule count the packets that reach it, with a counter of the table's.
func Count(counter string) expr.Any { return &expr.Objref{Type: objCounter, Name: counter} }

// counter makes one.
func (t *Table) counter(name string) *netlink.Request {
	r := t.own(t.request(newObject, unix.NLM_F_CREATE))
	r.Text(unix.NFTA_OBJ_NAME, name).Bytes(unix.NFTA_OBJ_TYPE, Number(objCounter))
	return r.Nest(unix.NFTA_OBJ_DATA, func() {})
}

// Counted returns the packets that each counter has counted since the table was made.
// Where there is no such table, or one of a version without counters, there are none.
func (c *Conn) Counted() (map[string]uint64, error) {
	questions := make([]*netlink.Request, len(c.Table.Counters))
	for i, name := range c.Table.Counters {
		questions[i] = c.Table.own(c.Table.question(getObject)).Text(unix.NFTA_OBJ_NAME, name).Bytes(unix.NFTA_OBJ_TYPE, Number(objCounter))
	}
	counted := map[string]uint64{}
	return counted, c.Ask(questions, func(i int, m netlink.Message) {
		if v := m.Find(HeaderLen, unix.NFTA_OBJ_DATA, unix.NFTA_COUNTER_PACKETS); len(v) == 8 {
			counted[c.Table.Counters[i]] = binary.BigEndian.Uint64(v)
		}
	})
}
