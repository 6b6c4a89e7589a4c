// Package nftnl speaks of nftables with the kernel (nfnetlink, linux/netfilter/nf_tables.h):
// tables whose chains and rules never change, and whose sets and maps do. google/nftables,
// whose types it uses, lists whole sets where one element is asked for, and does not say
// which message of a transaction was refused.
package nftnl

import (
	"errors"
	"runtime"

	"github.com/berth-cni/berth/pkg/internal/netlink"
	"golang.org/x/sys/unix"
)

// Socket is a socket of netfilter's netlink in the network namespace of the thread that
// opened it.
//
// It is not closed by hand. Closing one while deleted elements await their RCU
// grace period blocks for 8 to 27 ms, holding the lock of all nftables
// transactions of the namespace (nft_rcv_nl_event in net/netfilter/nf_tables_api.c,
// since 5.3). Left open, the wait runs beside the removal of the interface, and
// is over when the process ends; in a long-lived process the garbage collector
// closes it.
type Socket struct{ conn *netlink.Conn }

// Dial opens one.
func Dial() (*Socket, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	s := &Socket{c}
	runtime.AddCleanup(s, func(c *netlink.Conn) { _ = c.Close() }, c)
	return s, nil
}

// transact makes all changes or none. The refusals' indexes are those of the changes;
// -1 is the transaction's own.
func (s *Socket) transact(changes []*netlink.Request) (refused []*netlink.Error, err error) {
	defer runtime.KeepAlive(s)
	err = s.conn.Transact(transaction(changes))
	refused = netlink.Refusals(err)
	for _, e := range refused {
		e.Index--
	}
	if refused != nil {
		err = nil
	}
	return refused, err
}

// Transact makes all changes or none; the error is the first refusal.
func (s *Socket) Transact(changes ...*netlink.Request) error {
	if len(changes) == 0 {
		return nil
	}
	refused, err := s.transact(changes)
	if len(refused) > 0 {
		err = refused[0]
	}
	return err
}

// Do sends requests that do not depend on each other.
func (s *Socket) Do(reqs ...*netlink.Request) error {
	defer runtime.KeepAlive(s)
	return s.conn.Do(reqs, nil)
}

// Ask sends questions after one thing each. there is called for those that are answered
// with the thing, and not with an error.
func (s *Socket) Ask(questions []*netlink.Request, there func(i int, m netlink.Message)) error {
	defer runtime.KeepAlive(s)
	err := s.conn.Do(questions, there)
	if netlink.Refusals(err) != nil {
		return nil
	}
	return err
}

// List returns what parse makes of the messages of a list. Where others never leave the
// list alone, it is what was read last.
func List[T any](s *Socket, question *netlink.Request, parse func(netlink.Message) (T, bool)) ([]T, error) {
	defer runtime.KeepAlive(s)
	all, err := netlink.List(s.conn, question, nil, parse)
	if errors.Is(err, netlink.ErrInterrupted) {
		err = nil
	}
	return all, err
}
